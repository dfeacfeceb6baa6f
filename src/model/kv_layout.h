#pragma once

#include <cstddef>
#include <vector>

#include "spec/model_spec.h"

namespace moegen {

/// Where K and V of a token lie. A page holds `page_tokens` consecutive positions of one sequence, for all layers:
/// for each layer, keys of each KV head [page_tokens, head_dim], then its values likewise.
struct KvLayout {
  DType dtype = DType::bf16;
  int page_tokens = 0;
  size_t page_bytes = 0;
  std::vector<size_t> layer_offset;   ///< of a layer's keys within the page
  std::vector<size_t> head_bytes;     ///< of a layer: one head's keys (or values) of one page
  std::vector<size_t> values_offset;  ///< of a layer's values, from its keys

  KvLayout() = default;
  KvLayout(const ModelSpec& spec, DType kv_dtype, int tokens) : dtype(kv_dtype), page_tokens(tokens) {
    for (const LayerSpec& layer : spec.layers) {
      layer_offset.push_back(page_bytes);
      head_bytes.push_back(static_cast<size_t>(tokens) * static_cast<size_t>(layer.attention.head_dim) * bytes_of(kv_dtype));
      values_offset.push_back(head_bytes.back() * static_cast<size_t>(layer.attention.num_kv_heads));
      page_bytes += 2 * values_offset.back();
    }
  }

  [[nodiscard]] size_t k_offset(size_t layer, int head) const { return layer_offset[layer] + static_cast<size_t>(head) * head_bytes[layer]; }
  [[nodiscard]] size_t v_offset(size_t layer, int head) const { return k_offset(layer, head) + values_offset[layer]; }
};

}  // namespace moegen
