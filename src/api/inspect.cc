#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/size.h"
#include "base/thread_pool.h"
#include "checkpoint/checkpoint.h"
#include "moegen/engine.h"
#include "spec/families.h"

namespace moegen {
namespace {

using nlohmann::ordered_json;

// What the bytes of a tensor are spent on, in a reader's words.
std::string kind_of(const TensorSpec& t) {
  switch (t.role) {
    case Role::embedding:
    case Role::positions:
      return "embedding";
    case Role::lm_head:
    case Role::lm_head_bias:
      return "lm_head";
    case Role::router:
    case Role::router_logit_bias:
    case Role::router_bias:
    case Role::expert_scales:
      return "router";
    case Role::gate:
    case Role::gate_up:
    case Role::gate_up_bias:
    case Role::gate_bias:
    case Role::down_bias:
    case Role::up:
    case Role::down:
      return t.expert >= 0 ? "experts" : "dense MLP";
    case Role::shared_gate:
    case Role::shared_up:
    case Role::shared_down:
    case Role::shared_router:
      return "shared experts";
    case Role::router_norm:
    case Role::attention_out_norm:
    case Role::expert_norm:
    case Role::expert_out_norm:
    case Role::shared_out_norm:
    case Role::mlp_out_norm:
    case Role::layer_scale:
    case Role::final_norm:
    case Role::final_norm_bias:
    case Role::attention_norm_bias:
    case Role::mlp_norm_bias:
    case Role::attention_norm:
    case Role::mlp_norm:
    case Role::q_norm:
    case Role::k_norm:
    case Role::q_a_norm:
    case Role::kv_a_norm:
    case Role::delta_norm:
      return "norms";
    default:
      return "attention";
  }
}

ordered_json shapes(const ModelSpec& s) {
  const LayerSpec& last = s.layers.back();
  const auto moe = std::count_if(s.layers.begin(), s.layers.end(), [](const LayerSpec& l) { return !l.mlp.dense(); });
  ordered_json out;
  out["layers"] = s.layers.size();
  out["moe_layers"] = moe;
  out["hidden"] = s.hidden;
  out["vocab"] = s.vocab;
  out["heads"] = last.attention.num_heads;
  out["kv_heads"] = last.attention.num_kv_heads;
  out["head_dim"] = last.attention.head_dim;
  int window = 0;
  int chunk = 0;
  int64_t bounded = 0;
  int64_t kv = 0;
  int64_t kv_kept = 0;
  for (const LayerSpec& layer : s.layers) {
    const AttentionSpec& a = layer.attention;
    window = std::max(window, a.window);
    chunk = std::max(chunk, a.chunk);
    bounded += a.window > 0 || a.chunk > 0 ? 1 : 0;
    kv += a.cached_width();
    kv_kept += a.window > 0 || a.chunk > 0 ? 0 : a.cached_width();
  }
  out["window"] = window;
  if (chunk > 0) out["chunk"] = chunk;
  if (bounded > 0) out["windowed_layers"] = bounded;
  out["experts"] = last.mlp.num_experts;
  out["experts_per_token"] = last.mlp.top_k;
  out["mlp_width"] = last.mlp.width;
  out["shared_width"] = last.mlp.shared_width;
  out["max_positions"] = s.max_positions;
  out["tied_embeddings"] = s.tied_embeddings;
  out["kv_values_per_token"] = kv;
  if (bounded > 0) out["kv_values_per_token_behind_windows"] = kv_kept;
  return out;
}

ordered_json collect(const std::filesystem::path& dir, const ModelSpec& spec, const Checkpoint& checkpoint, const Binding& binding) {
  std::map<std::string, std::pair<uint64_t, uint64_t>> kinds;  // bytes, parameters
  std::map<std::string, uint64_t> dtypes;
  uint64_t bytes = 0;
  for (size_t i = 0; i < binding.table.size(); ++i) {
    if (!binding.tensors[i]) continue;
    const TensorInfo* t = &*binding.tensors[i];
    auto& [kind_bytes, parameters] = kinds[kind_of(binding.table[i])];
    if (binding.table[i].part == Part::values) parameters += t->bytes * 8 / static_cast<uint64_t>(bits_of(t->dtype));
    for (const TensorInfo* part : {t, binding.scales[i]}) {
      if (part == nullptr) continue;
      kind_bytes += part->bytes;
      dtypes[std::string(name_of(part->dtype))] += part->bytes;
      bytes += part->bytes;
    }
  }
  ordered_json out;
  out["model"] = dir.string();
  out["family"] = spec.family;
  out["shape"] = shapes(spec);
  out["files"] = checkpoint.files().size();
  out["tensors"] = binding.table.size();
  out["bytes"] = bytes;
  for (const auto& [kind, sum] : kinds) out["kinds"][kind] = {{"bytes", sum.first}, {"parameters", sum.second}};
  out["dtypes"] = dtypes;
  out["skipped"] = ordered_json::array();
  for (const auto& [name, why] : binding.skipped) out["skipped"].push_back({{"name", name}, {"why", why}});
  out["missing"] = binding.missing;
  out["superfluous"] = binding.superfluous;
  out["misshapen"] = binding.misshapen;
  out["usable"] = binding.fits();
  return out;
}

std::string to_text(const ordered_json& j, const std::vector<SkippedKind>& skipped) {
  std::string out = fmt::format("{}\nfamily       {}\n", j["model"].get<std::string>(), j["family"].get<std::string>());
  for (const auto& [key, value] : j["shape"].items()) out += fmt::format("{:<20} {}\n", key, value.dump());
  out += fmt::format("{} tensors in {} files, {}\n", j["tensors"].get<size_t>(), j["files"].get<size_t>(), format_bytes(j["bytes"].get<uint64_t>()));
  for (const auto& [kind, sum] : j["kinds"].items()) {
    out += fmt::format("  {:<16} {:>12} {:>16} parameters\n", kind, format_bytes(sum["bytes"].get<uint64_t>()), sum["parameters"].get<uint64_t>());
  }
  for (const auto& [dtype, bytes] : j["dtypes"].items()) out += fmt::format("  {:<16} {:>12}\n", dtype, format_bytes(bytes.get<uint64_t>()));
  for (const SkippedKind& kind : skipped)
    out += fmt::format("skipped: {}{} ({})\n", kind.first, kind.count > 1 ? fmt::format(" and {} more", kind.count - 1) : "", kind.why);
  for (const char* what : {"missing", "superfluous", "misshapen"}) {
    for (const auto& line : j[what]) out += fmt::format("{}: {}\n", what, line.get<std::string>());
  }
  return out + (j["usable"].get<bool>() ? "usable: yes\n" : "usable: no\n");
}

ordered_json family_table() {
  ordered_json out = ordered_json::array();
  for (const Family& f : families()) {
    const std::string_view tested = original(f);
    out.push_back({{"family", f.model_type},
                   {"architecture", f.architecture},
                   {"formats", formats_of(f)},
                   {"tested_as", tested},
                   {"tested_formats", tested_formats_of(f)}});
  }
  return out;
}

// Columns as wide as what is in them.
std::string aligned(const std::vector<std::array<std::string, 4>>& rows) {
  std::array<size_t, 4> widths{};
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string out;
  for (const auto& row : rows) out += fmt::format("{:<{}}  {:<{}}  {:<{}}  {}\n", row[0], widths[0], row[1], widths[1], row[2], widths[2], row[3]);
  return out;
}

}  // namespace

std::string inspect_families(bool json) {
  const ordered_json table = family_table();
  if (json) return table.dump(2) + "\n";
  std::vector<std::array<std::string, 4>> rows{{"family", "architecture", "weights", "golden outputs"}};
  for (const ordered_json& f : table) {
    rows.push_back({f["family"], f["architecture"], f["formats"],
                    fmt::format("{}: {}", f["tested_as"].get<std::string>(), f["tested_formats"].get<std::string>())});
  }
  return aligned(rows) +
         "FP8: e4m3 with a scale for each 128 x 128, row or matrix. INT8, INT4: compressed-tensors, GPTQ; INT4 also AWQ. Golden outputs are those "
         "of\n"
         "transformers, in float32 and bfloat16 (tests/data/models); plain: of weights that are not quantised. What is not named beside a family is "
         "tested on "
         "others.\n";
}

std::string inspect(const std::filesystem::path& model, bool json) {
  const ModelSpec spec = load_spec(model);
  const Checkpoint checkpoint = Checkpoint::open(model);
  const Binding binding = bind(spec, checkpoint);
  if (ThreadPool pool(1); binding.fits()) check_orders(binding, checkpoint, pool);
  const ordered_json report = collect(model, spec, checkpoint, binding);
  return json ? report.dump(2) + "\n" : to_text(report, skipped_kinds(binding));
}

}  // namespace moegen
