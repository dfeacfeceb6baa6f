#pragma once

#include <cstddef>
#include <vector>

#include "kernels/kv_page.h"
#include "spec/model_spec.h"

namespace moegen {

/// Where K and V of a token lie. A page holds kPageTokens consecutive positions of one sequence, for all layers:
/// for each layer and KV head its keys, then its values, as kv_page.h has them.
struct KvLayout {
  DType dtype = DType::bf16;
  size_t page_bytes = 0;
  std::vector<size_t> layer_offset;  ///< of a layer's keys within the page
  std::vector<size_t> head_bytes;    ///< of a layer: one head's keys (or values) of one page

  KvLayout() = default;
  KvLayout(const ModelSpec& spec, DType kv_dtype) : dtype(kv_dtype) {
    for (const LayerSpec& layer : spec.layers) {
      layer_offset.push_back(page_bytes);
      head_bytes.push_back(static_cast<size_t>(kPageTokens) * static_cast<size_t>(layer.attention.head_dim) * bytes_of(kv_dtype));
      page_bytes += 2 * head_bytes.back() * static_cast<size_t>(layer.attention.num_kv_heads);
    }
  }

  [[nodiscard]] size_t k_offset(size_t layer, int head) const { return layer_offset[layer] + 2 * static_cast<size_t>(head) * head_bytes[layer]; }
  [[nodiscard]] size_t v_offset(size_t layer, int head) const { return k_offset(layer, head) + head_bytes[layer]; }
};

}  // namespace moegen
