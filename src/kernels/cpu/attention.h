#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "base/checked.h"
#include "kernels/cpu/attention_rows.h"

// Attention over pages: which rows meet which page, and when it is fetched. All of it has internal linkage: see simd_avx512.h.
namespace moegen {
namespace {

const std::byte* kv_of(const Attention& op, int kv_head, int64_t position) {
  return op.pages + static_cast<size_t>(op.page_table[(position - op.first_key) / kPageTokens * op.table_stride]) * op.page_bytes + op.kv_offset +
         static_cast<size_t>(kv_head) * op.kv_head_bytes;
}

template <typename S>
PageParts<S> page_parts(const Attention& op, int kv_head, int64_t position) {
  const std::byte* kv = kv_of(op, kv_head, position);
  const S* keys = reinterpret_cast<const S*>(kv);
  return {keys, keys + kPageTokens * op.head_dim, reinterpret_cast<const float*>(kv + kv_scale_offset(op.head_dim))};
}

// The first half of a KV head of a page.
int64_t kv_half(const Attention& op) { return ceil_div<int64_t>(static_cast<int64_t>(op.kv_head_bytes), 128) * 64; }

// attend_page of rows->count rows, while `next`, if any, is fetched.
template <typename T, typename S>
void attend_page_ahead(const Attention& op, AttentionRows<T, S>& rows, int kv_head, int64_t first, int64_t end, const std::byte* next) {
  const PageParts<S> page = page_parts<S>(op, kv_head, first);
  with_count<Simd::kAttentionRows>(rows.count, [&](auto count) {
    if (next != nullptr) {
      attend_page<count>(op, rows, page, first, end, PageAhead{next, kv_half(op)});
    } else {
      attend_page<count>(op, rows, page, first, end, NothingAhead{});
    }
  });
}

// The rows of a prompt meet the pages of a KV head again and again: head by head, some rows at a time. The first of them fetch.
template <typename T, typename S>
void attend_by_heads(const Attention& op) {
  const int64_t num_rows = op.num_queries * op.heads;
  for (int kv_head = 0; kv_head < op.kv_heads; ++kv_head) {
    for (int64_t row = 0; row < num_rows; row += Simd::kAttentionRows) {
      AttentionRows<T, S> rows;
      const Range seen = begin_rows(op, kv_head, row, std::min<int64_t>(Simd::kAttentionRows, num_rows - row), op.scratch, rows);
      for (int64_t first = seen.begin / kPageTokens * kPageTokens; first < seen.end; first += kPageTokens) {
        const std::byte* next = nullptr;
        if (row == 0 && first + kPageTokens < seen.end) {
          next = kv_of(op, kv_head, first + kPageTokens);
        } else if (row == 0 && kv_head + 1 < op.kv_heads) {
          next = kv_of(op, kv_head + 1, seen.begin);
        }
        attend_page_ahead(op, rows, kv_head, first, seen.end, next);
      }
      finish_rows(op, rows);
    }
  }
}

// A generated token meets each page once, and would wait for it: page by page through all KV heads, as they lie in memory.
template <typename T, typename S>
void attend_by_pages(const Attention& op) {
  AttentionRows<T, S> rows[kAttentionRowsInFlight];
  const int64_t last = op.first_position;
  const int64_t begin = first_seen(last, op.window, op.chunk);
  PageAhead{kv_of(op, 0, begin), kv_half(op)}.fetch(2 * kv_half(op));
  int64_t groups = 0;
  const int64_t parts = ceil_div<int64_t>(op.heads, Simd::kAttentionRows);
  float* scratch = op.scratch;
  for (int kv_head = 0; kv_head < op.kv_heads; ++kv_head) {
    for (int64_t row = 0; row < op.heads; row += Simd::kAttentionRows) {
      const int64_t count = std::min<int64_t>(Simd::kAttentionRows, op.heads - row);
      begin_rows(op, kv_head, row, count, scratch, rows[groups++]);
      scratch += count * attention_row_scratch(op.head_dim);
    }
  }
  for (int64_t first = begin / kPageTokens * kPageTokens; first <= last; first += kPageTokens) {
    for (int64_t g = 0; g < groups; ++g) {
      const auto kv_head = static_cast<int>(g / parts);
      // The next KV head of the page, or the first of the next page, or of the next call; nothing that is already there is fetched again.
      const std::byte* next = nullptr;
      if (g % parts == 0 && kv_head + 1 < op.kv_heads) {
        next = kv_of(op, kv_head + 1, first);
      } else if (g % parts == 0 && first + kPageTokens <= last) {
        next = kv_of(op, 0, first + kPageTokens);
      } else if (g % parts == 0) {
        next = op.next;
      }
      attend_page_ahead(op, rows[g], kv_head, first, last + 1, next);
    }
  }
  for (int64_t g = 0; g < groups; ++g) finish_rows(op, rows[g]);
}

// Values as value_index() has them, from keys: the first `dim` elements of `tokens` tokens; those of the others become zero.
void turn_page(const float* keys, int64_t dim, int64_t tokens, float* values) {
  for (int64_t t = 0; t < kPageTokens; ++t) {
    for (int64_t d = 0; d < dim; ++d) values[t * dim + d] = t < tokens ? keys[d * kPageTokens + t] : 0;
  }
}

// Two tokens of two elements are a word, in which the two in the middle change places.
void turn_page(const bf16* keys, int64_t dim, int64_t tokens, bf16* values) {
  const auto* from = reinterpret_cast<const uint64_t*>(keys);
  auto* to = reinterpret_cast<uint64_t*>(values);
  for (int64_t t = 0; t < kPageTokens / 2; ++t) {
    const uint64_t there = 2 * t + 1 < tokens ? ~uint64_t{0} : 2 * t < tokens ? uint64_t{0x0000ffff0000ffff} : 0;
    for (int64_t d = 0; d < dim / 2; ++d) {
      const uint64_t x = from[d * (kPageTokens / 2) + t];
      const uint64_t turned = (x & 0xffff00000000ffff) | ((x >> 16) & 0xffff0000) | ((x & 0xffff0000) << 16);
      to[t * (dim / 2) + d] = turned & there;
    }
  }
}

// All heads share the keys, and the values, which are turned once for all rows in flight.
template <typename T>
void attend_latent(const Attention& op) {
  AttentionRows<T, T> rows[kAttentionRowsInFlight];
  Range seen[kAttentionRowsInFlight];
  T* values = reinterpret_cast<T*>(op.scratch + kAttentionRowsInFlight * attention_row_scratch(op.head_dim));
  const int64_t num_rows = op.num_queries * op.heads;
  for (int64_t begin = 0; begin < num_rows; begin += kAttentionRowsInFlight) {
    const int64_t end = std::min<int64_t>(num_rows, begin + kAttentionRowsInFlight);
    Range all{std::numeric_limits<int64_t>::max(), 0};
    int64_t groups = 0;
    float* scratch = op.scratch;
    for (int64_t row = begin; row < end; row += Simd::kAttentionRows) {
      const int64_t count = std::min<int64_t>(Simd::kAttentionRows, end - row);
      seen[groups] = begin_rows(op, 0, row, count, scratch, rows[groups]);
      all = {std::min(all.begin, seen[groups].begin), std::max(all.end, seen[groups].end)};
      scratch += count * attention_row_scratch(op.head_dim);
      ++groups;
    }
    for (int64_t first = all.begin / kPageTokens * kPageTokens; first < all.end; first += kPageTokens) {
      const T* keys = reinterpret_cast<const T*>(kv_of(op, 0, first));
      turn_page(keys, op.latent_dim, std::min<int64_t>(all.end - first, kPageTokens), values);
      for (int64_t g = 0; g < groups; ++g) {
        if (first >= seen[g].end || first + kPageTokens <= seen[g].begin) continue;
        with_count<Simd::kAttentionRows>(rows[g].count, [&](auto count) {
          attend_page<count>(op, rows[g], PageParts<T>{keys, values, nullptr}, first, seen[g].end, NothingAhead{});
        });
      }
    }
    for (int64_t g = 0; g < groups; ++g) finish_rows(op, rows[g]);
  }
}

void attention(const Attention& op) {
  if (op.latent_dim > 0) {
    with_activation_type(op.dtype, [&]<typename T>(T*) { attend_latent<T>(op); });
    return;
  }
  const auto attend = [&]<typename T, typename S>(T*, S*) {
    if (op.num_keys == 0 && op.num_queries == 1 && op.kv_heads * op.heads <= kAttentionRowsInFlight) {
      attend_by_pages<T, S>(op);
    } else {
      attend_by_heads<T, S>(op);
    }
  };
  with_activation_type(op.dtype, [&](auto* type) {
    if (op.kv_dtype == DType::i8) {
      attend(type, static_cast<int8_t*>(nullptr));
    } else {
      attend(type, type);
    }
  });
}

}  // namespace
}  // namespace moegen
