#pragma once

#include <cstddef>
#include <vector>

#include "kernels/kv_page.h"
#include "spec/model_spec.h"

namespace moegen {

/// Where K and V of a token lie. A page holds kPageTokens consecutive positions of one sequence, for all layers:
/// for each layer and KV head what kv_page.h says.
struct KvLayout {
  DType dtype = DType::bf16;
  size_t page_bytes = 0;
  std::vector<size_t> layer_offset;  ///< of a layer within the page
  std::vector<size_t> head_bytes;    ///< of a layer: what one KV head has in a page

  KvLayout() = default;
  KvLayout(const ModelSpec& spec, DType kv_dtype) : dtype(kv_dtype) {
    for (const LayerSpec& layer : spec.layers) {
      layer_offset.push_back(page_bytes);
      head_bytes.push_back(kv_head_bytes(kv_dtype, layer.attention.head_dim));
      page_bytes += head_bytes.back() * static_cast<size_t>(layer.attention.num_kv_heads);
    }
  }

  [[nodiscard]] size_t head_offset(size_t layer, int head) const { return layer_offset[layer] + static_cast<size_t>(head) * head_bytes[layer]; }
};

}  // namespace moegen
