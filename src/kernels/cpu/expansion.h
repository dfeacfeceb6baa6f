#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/gemm.h"

// Keys and values of a head from latents. Latents are turned into rows, and a GEMM does the rest: with tokens as columns for keys, with tokens
// as rows for values, which is how pages have them, but for pairs. All of it has internal linkage: see simd_avx512.h.
namespace moegen {
namespace {

// The first `width` elements of the first `tokens` tokens of a page of keys, as rows. What has one place in a page, a float or a pair of bf16, is a
// word.
template <typename T>
void read_rows(const std::byte* page, int64_t width, int64_t tokens, T* rows) {
  const int64_t words = width / kv_group(kDTypeOf<T>);
  const auto* from = reinterpret_cast<const float*>(page);
  auto* to = reinterpret_cast<float*>(rows);
  for (int64_t first = 0; first < tokens; first += kW) {
    int64_t w = 0;
    for (; w + kW <= words; w += kW) {
      V lines[kW];
      for (int64_t i = 0; i < kW; ++i) lines[i] = Simd::load(from + (w + i) * kPageTokens + first);
      Simd::transpose(lines);
      for (int64_t t = 0; t < std::min(kW, tokens - first); ++t) Simd::store(to + (first + t) * words + w, lines[t]);
    }
    for (; w < words; ++w) {
      for (int64_t t = first; t < std::min(first + kW, tokens); ++t) to[t * words + w] = from[w * kPageTokens + t];
    }
  }
}

void pair_up(const bf16* even, const bf16* odd, int64_t count, bf16* out) {
  for (int64_t i = 0; i < count; ++i) {
    out[2 * i] = even[i];
    out[2 * i + 1] = odd[i];
  }
}

// Elements of keys, [plain][column_stride] with the page's tokens first in a row, into their page.
template <typename T>
void place_keys(const T* keys, int64_t plain, int64_t column_stride, T* page) {
  if constexpr (kv_group(kDTypeOf<T>) == 1) {
    for (int64_t d = 0; d < plain; ++d) std::copy_n(keys + d * column_stride, kPageTokens, page + d * kPageTokens);
  } else {
    const T none[kPageTokens] = {};
    for (int64_t d = 0; d < plain; d += 2) {
      const T* even = keys + d * column_stride;
      pair_up(even, d + 1 < plain ? even + column_stride : none, kPageTokens, page + d * kPageTokens);
    }
  }
}

// values: [tokens, dim]. Beside a last value without another is zero.
template <typename T>
void place_values(const T* values, int64_t dim, int64_t tokens, T* page) {
  if constexpr (kv_group(kDTypeOf<T>) == 1) {
    std::copy_n(values, tokens * dim, page);
  } else {
    for (int64_t t = 0; t + 1 < tokens; t += 2) pair_up(values + t * dim, values + (t + 1) * dim, dim, page + t * dim);
    if (tokens % 2 == 0) return;
    const T* last = values + (tokens - 1) * dim;
    T* out = page + (tokens - 1) * dim;
    for (int64_t d = 0; d < dim; ++d) {
      out[2 * d] = last[d];
      out[2 * d + 1] = {};
    }
  }
}

template <auto kGemm, typename T>
void expand_as(const LatentExpansion& op) {
  constexpr int64_t kColumns = kExpandedTokens + kPageTokens;  // a page begins at any of the tokens
  T* rows = static_cast<T*>(op.scratch);
  T* keys = rows + kExpandedTokens * op.kv_rank;
  T* values = keys + kColumns * op.plain_dim;
  const auto gemm_at = reinterpret_cast<uintptr_t>(values + kExpandedTokens * op.v_dim);
  void* gemm_scratch = reinterpret_cast<void*>((gemm_at + 63) / 64 * 64);
  int64_t count = 0;
  for (int64_t i = 0; i < op.num_pages; count += op.tokens[i++]) read_rows(op.pages[i], op.kv_rank, op.tokens[i], rows + count * op.kv_rank);
  const auto* w = static_cast<const T*>(op.w);
  Gemm product{.x = w,
               .x_dtype = op.dtype,
               .x_stride = op.kv_rank,
               .w = rows,
               .w_dtype = op.dtype,
               .y = keys,
               .y_dtype = op.dtype,
               .y_stride = kColumns,
               .k = op.kv_rank,
               .scratch = gemm_scratch};
  kGemm(product, {0, op.plain_dim}, {0, count});
  product.x = rows;
  product.w = w + int64_t{op.plain_dim} * op.kv_rank;
  product.y = values;
  product.y_stride = op.v_dim;
  kGemm(product, {0, count}, {0, op.v_dim});
  const int64_t plain = op.key_dim() - op.rope_dim;
  int64_t first = 0;
  for (int64_t i = 0; i < op.num_pages; first += op.tokens[i++]) {
    T* page = reinterpret_cast<T*>(op.out + static_cast<size_t>(i) * op.page_bytes());
    place_keys(keys + first, op.plain_dim, kColumns, page);
    const T* latent = reinterpret_cast<const T*>(op.pages[i]);
    std::copy_n(latent + kPageTokens * op.kv_rank, kPageTokens * op.rope_dim, page + kPageTokens * plain);
    place_values(values + first * op.v_dim, op.v_dim, op.tokens[i], page + kPageTokens * op.key_dim());
  }
}

template <auto kGemm>
void expand_latents(const LatentExpansion& op) {
  with_activation_type(op.dtype, [&](auto* type) { expand_as<kGemm, std::remove_pointer_t<decltype(type)>>(op); });
}

}  // namespace
}  // namespace moegen
