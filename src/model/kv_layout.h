#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "base/checked.h"
#include "kernels/kv_page.h"
#include "model/kv_groups.h"
#include "spec/model_spec.h"

namespace moegen {

/// What a layer has in a page; linear attention nothing.
[[nodiscard]] inline size_t layer_page_bytes(const AttentionSpec& spec, DType kv_dtype) {
  if (spec.is_latent()) return latent_page_bytes(kv_dtype, spec.head_dim);
  return static_cast<size_t>(spec.num_kv_heads) * kv_head_bytes(kv_dtype, spec.head_dim);
}

/// Where K and V of a token lie. A page holds kPageTokens consecutive positions of one sequence, for the layers of one group: for each layer and KV
/// head, of which latent attention has one, what kv_page.h says. All layers of a group see equally far back; there may be several groups of a kind,
/// so that pages, which are equal for all, hold little of nothing.
/// Layers of linear attention keep floats of the sequence instead: DeltaState.
struct KvLayout {
  DType dtype = DType::bf16;
  size_t page_bytes = 0;
  std::vector<KvGroup> groups;
  std::vector<size_t> layer_group;    ///< of a layer
  std::vector<size_t> layer_offset;   ///< within the page
  std::vector<size_t> head_bytes;     ///< of a layer: what one KV head has in a page
  int64_t state_floats = 0;           ///< of a sequence
  std::vector<int64_t> state_offset;  ///< of a layer within them

  KvLayout() = default;
  KvLayout(const ModelSpec& spec, DType kv_dtype);

  [[nodiscard]] int64_t num_groups() const { return static_cast<int64_t>(groups.size()); }
  [[nodiscard]] size_t state_bytes() const { return static_cast<size_t>(state_floats) * sizeof(float); }
  [[nodiscard]] size_t head_offset(size_t layer, int head) const { return layer_offset[layer] + static_cast<size_t>(head) * head_bytes[layer]; }
  /// Of the page table [positions / kPageTokens, groups] of a sequence, the entry of a layer and a position.
  [[nodiscard]] size_t page_index(size_t layer, int64_t position) const {
    return static_cast<size_t>(position / kPageTokens) * groups.size() + layer_group[layer];
  }
};

}  // namespace moegen
