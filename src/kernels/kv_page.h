#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/dtype.h"

namespace moegen {

/// Positions of one sequence in a page.
constexpr int kPageTokens = 32;

/// First position whose key the query at `position` sees: through a window of so many keys, its own included, or within its chunk of so many
/// positions; 0: neither. It never falls as the position grows.
[[nodiscard]] constexpr int64_t first_seen(int64_t position, int64_t window, int64_t chunk) {
  if (chunk > 0) return position / chunk * chunk;
  return window > 0 && position >= window ? position - window + 1 : 0;
}

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

/// What one KV head has in a page: its keys, its values, and with int8 the floats that they are to be multiplied by: one for the key of
/// each token, then one for each value. A multiple of 64.
[[nodiscard]] constexpr size_t kv_scale_offset(int64_t head_dim) { return 2 * static_cast<size_t>(kPageTokens * head_dim); }
[[nodiscard]] inline size_t kv_head_bytes(DType dtype, int64_t head_dim) {
  return kv_scale_offset(head_dim) * bytes_of(dtype) + (dtype == DType::i8 ? 2 * kPageTokens * sizeof(float) : 0);
}

/// What a page of latent attention has for a layer: keys alone. A multiple of 64.
[[nodiscard]] inline size_t latent_page_bytes(DType dtype, int64_t head_dim) { return static_cast<size_t>(kPageTokens * head_dim) * bytes_of(dtype); }

/// Rounds x to [-127, 127] steps of what it returns; out(i) is the place of element i. What is not finite makes the step so.
template <typename T, typename Out>
float quantize_int8(const T* x, int64_t count, const Out& out) {
  float largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    const float a = std::abs(to_float(x[i]));
    largest = a > largest || std::isnan(a) ? a : largest;
  }
  const bool plain = largest > 1e-30F && std::isfinite(largest);  // below, 127 / largest is no longer a number
  for (int64_t i = 0; i < count; ++i) out(i) = plain ? static_cast<int8_t>(std::nearbyint(to_float(x[i]) * (127 / largest))) : int8_t{0};
  return plain || !std::isfinite(largest) ? largest / 127 : 0;
}

/// Writes the key of token t of a page of latent attention.
template <typename T>
void store_latent(const T* key, int64_t head_dim, int64_t t, std::byte* page) {
  T* keys = reinterpret_cast<T*>(page);
  for (int64_t d = 0; d < head_dim; ++d) keys[key_index(kDTypeOf<T>, t, d)] = key[d];
}

/// Writes the key and the value of token t of one KV head, whose part of the page is `kv`, as elements of S. What shares a group with the
/// value and comes later becomes zero: attention multiplies it by zero, and must not meet a NaN there.
template <typename S, typename T>
void store_kv(const T* key, const T* value, int64_t head_dim, int64_t t, std::byte* kv) {
  constexpr DType kDType = kDTypeOf<S>;
  S* keys = reinterpret_cast<S*>(kv);
  S* values = keys + kPageTokens * head_dim;
  if constexpr (std::is_same_v<S, int8_t>) {
    float* scales = reinterpret_cast<float*>(kv + kv_scale_offset(head_dim));
    scales[t] = quantize_int8(key, head_dim, [&](int64_t d) -> S& { return keys[key_index(kDType, t, d)]; });
    scales[kPageTokens + t] = quantize_int8(value, head_dim, [&](int64_t d) -> S& { return values[value_index(kDType, head_dim, t, d)]; });
  } else {
    for (int64_t d = 0; d < head_dim; ++d) keys[key_index(kDType, t, d)] = key[d];
    for (int64_t d = 0; d < head_dim; ++d) {
      S* at = values + value_index(kDType, head_dim, t, d);
      *at = value[d];
      if (kv_group(kDType) == 2 && t % 2 == 0) at[1] = {};
    }
  }
}

}  // namespace moegen
