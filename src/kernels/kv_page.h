#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace moegen {

/// Positions of one sequence in a page.
constexpr int kPageTokens = 32;

/// Elements that lie side by side: what one instruction multiplies and adds (pairs of bf16), so that neither decode nor prefill
/// has to turn a page around.
[[nodiscard]] constexpr int64_t kv_group(DType dtype) { return dtype == DType::f32 ? 1 : 2; }

/// Where in a page the keys of one KV head have element d of token t: [head_dim / g][kPageTokens][g], g = kv_group. head_dim is even.
[[nodiscard]] constexpr int64_t key_index(DType dtype, int64_t t, int64_t d) {
  const int64_t g = kv_group(dtype);
  return (d / g * kPageTokens + t) * g + d % g;
}

/// Likewise its values: [kPageTokens / g][head_dim][g].
[[nodiscard]] constexpr int64_t value_index(DType dtype, int64_t head_dim, int64_t t, int64_t d) {
  const int64_t g = kv_group(dtype);
  return (t / g * head_dim + d) * g + t % g;
}

/// Writes the key and the value of token t of one KV head. What shares a group with the value and comes later becomes zero: attention
/// multiplies it by zero, and must not meet a NaN there.
template <typename T>
void store_kv(const T* key, const T* value, int64_t head_dim, int64_t t, T* keys, T* values) {
  constexpr DType kDType = kDTypeOf<T>;
  for (int64_t d = 0; d < head_dim; ++d) keys[key_index(kDType, t, d)] = key[d];
  for (int64_t d = 0; d < head_dim; ++d) {
    T* at = values + value_index(kDType, head_dim, t, d);
    *at = value[d];
    if (kv_group(kDType) == 2 && t % 2 == 0) at[1] = {};
  }
}

}  // namespace moegen
