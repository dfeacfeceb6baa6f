#include "model/kv_layout.h"

#include <map>

#include "model/delta_state.h"

namespace moegen {
namespace {

// Layers in pages of so many bytes: as many of a kind as fit, in their order, are a group.
struct Packing {
  std::vector<KvGroup> groups;
  std::vector<size_t> layer_group, layer_offset;
};

Packing pack(const ModelSpec& spec, DType kv_dtype, size_t page_bytes) {
  Packing out;
  std::vector<size_t> filled;  // of a group's page
  for (const LayerSpec& layer : spec.layers) {
    const size_t bytes = layer_page_bytes(layer.attention, kv_dtype);
    if (bytes == 0) {
      out.layer_group.push_back(0);
      out.layer_offset.push_back(0);
      continue;
    }
    const KvGroup kind{layer.attention.window, layer.attention.chunk};
    const auto last = std::find(out.groups.rbegin(), out.groups.rend(), kind);
    size_t g = static_cast<size_t>(out.groups.rend() - last);  // behind that
    if (g == 0 || filled[g - 1] + bytes > page_bytes) {
      out.groups.push_back(kind);
      filled.push_back(0);
      g = out.groups.size();
    }
    out.layer_group.push_back(g - 1);
    out.layer_offset.push_back(filled[g - 1]);
    filled[g - 1] += bytes;
  }
  if (out.groups.empty()) out.groups.emplace_back();
  return out;
}

// How much more than their bytes the layers take, of short sequences, and of those so long that only what no window bounds counts.
double padding(const ModelSpec& spec, DType kv_dtype, size_t page_bytes) {
  double bytes[2] = {0, 0};
  double taken[2] = {0, 0};
  for (const LayerSpec& layer : spec.layers) {
    const AttentionSpec& a = layer.attention;
    bytes[KvGroup{a.window, a.chunk}.bounded() ? 1 : 0] += static_cast<double>(layer_page_bytes(a, kv_dtype));
  }
  for (const KvGroup& g : pack(spec, kv_dtype, page_bytes).groups) taken[g.bounded() ? 1 : 0] += static_cast<double>(page_bytes);
  return (taken[0] + taken[1]) / (bytes[0] + bytes[1]) + (bytes[0] > 0 ? taken[0] / bytes[0] : 0);
}

// The largest pages, and so the fewest, of those with the least padding but for 2 %.
size_t choose_page_bytes(const ModelSpec& spec, DType kv_dtype) {
  constexpr double kLittle = 1.02;
  size_t least = 0;
  std::map<size_t, double> candidates;  // with their padding
  for (const bool bounded : {false, true}) {
    size_t sum = 0;
    for (const LayerSpec& layer : spec.layers) {
      const AttentionSpec& a = layer.attention;
      if (KvGroup{a.window, a.chunk}.bounded() != bounded) continue;
      const size_t bytes = layer_page_bytes(a, kv_dtype);
      least = std::max(least, bytes);
      sum += bytes;
      if (bytes > 0) candidates[sum] = 0;
    }
  }
  if (least == 0) return 64;  // a model that keeps nothing in pages
  candidates[least] = 0;
  candidates.erase(candidates.begin(), candidates.find(least));
  for (auto& [bytes, padded] : candidates) padded = padding(spec, kv_dtype, bytes);
  const auto best = std::min_element(candidates.begin(), candidates.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return std::find_if(candidates.rbegin(), candidates.rend(), [&](const auto& c) { return c.second <= best->second * kLittle; })->first;
}

}  // namespace

KvLayout::KvLayout(const ModelSpec& spec, DType kv_dtype) : dtype(kv_dtype), page_bytes(choose_page_bytes(spec, kv_dtype)) {
  Packing packing = pack(spec, kv_dtype, page_bytes);
  groups = std::move(packing.groups);
  layer_group = std::move(packing.layer_group);
  layer_offset = std::move(packing.layer_offset);
  for (const LayerSpec& layer : spec.layers) {
    const AttentionSpec& a = layer.attention;
    head_bytes.push_back(layer_page_bytes(a, kv_dtype) / static_cast<size_t>(std::max(1, a.num_kv_heads)));
    state_offset.push_back(state_floats);
    state_floats += DeltaState(a.delta).floats;
  }
}

}  // namespace moegen
