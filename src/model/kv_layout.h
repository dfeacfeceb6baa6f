#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "base/checked.h"
#include "kernels/kv_page.h"
#include "spec/model_spec.h"

namespace moegen {

/// What a layer has in a page; linear attention nothing.
[[nodiscard]] inline size_t layer_page_bytes(const AttentionSpec& spec, DType kv_dtype) {
  if (spec.is_latent()) return latent_page_bytes(kv_dtype, spec.head_dim);
  return static_cast<size_t>(spec.num_kv_heads) * kv_head_bytes(kv_dtype, spec.head_dim);
}

/// Where K and V of a token lie. A page holds kPageTokens consecutive positions of one sequence, for all layers:
/// for each layer and KV head, of which latent attention has one, what kv_page.h says. Layers of linear attention keep floats of the sequence
/// instead: the last inputs of the convolution [taps, channels], that of position p in row p % taps, then the state.
struct KvLayout {
  DType dtype = DType::bf16;
  size_t page_bytes = 0;
  std::vector<size_t> layer_offset;   ///< of a layer within the page
  std::vector<size_t> head_bytes;     ///< of a layer: what one KV head has in a page
  int64_t state_floats = 0;           ///< of a sequence
  std::vector<int64_t> state_offset;  ///< of a layer within them

  KvLayout() = default;
  KvLayout(const ModelSpec& spec, DType kv_dtype) : dtype(kv_dtype) {
    for (const LayerSpec& layer : spec.layers) {
      layer_offset.push_back(page_bytes);
      const size_t bytes = layer_page_bytes(layer.attention, kv_dtype);
      head_bytes.push_back(bytes / static_cast<size_t>(std::max(1, layer.attention.num_kv_heads)));
      page_bytes += bytes;
      state_offset.push_back(state_floats);
      if (layer.attention.is_linear()) state_floats += round_up<int64_t>(layer.attention.delta.state_floats(), 16);
    }
  }

  [[nodiscard]] size_t state_bytes() const { return static_cast<size_t>(state_floats) * sizeof(float); }
  [[nodiscard]] size_t head_offset(size_t layer, int head) const { return layer_offset[layer] + static_cast<size_t>(head) * head_bytes[layer]; }
};

}  // namespace moegen
