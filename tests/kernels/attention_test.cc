// Attention over KV pages, and the keys and values of latents.
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/checked.h"
#include "tests/kernels/kernels_test.h"

namespace moegen {
namespace {

struct AttentionCase {
  int kv_heads, heads, head_dim;
  int64_t queries, first_position, window;
  DType dtype;
  DType kv_dtype = dtype;
  int latent_dim = 0;
  bool sinks = false;
  int64_t chunk = 0;

  [[nodiscard]] size_t head_bytes() const { return latent_dim > 0 ? latent_page_bytes(kv_dtype, head_dim) : kv_head_bytes(kv_dtype, head_dim); }
  [[nodiscard]] size_t q_stride() const { return static_cast<size_t>(kv_heads * heads * head_dim + 8); }
  [[nodiscard]] size_t out_stride() const { return static_cast<size_t>(kv_heads * heads * (latent_dim > 0 ? latent_dim : head_dim) + 8); }
};

// Pages in shuffled order, garbage (NaN) in the slots that no query may see.
class Pages {
 public:
  Pages(const AttentionCase& c, std::mt19937& rng) : c_(c) {
    const int64_t positions = c.first_position + c.queries;
    const auto count = static_cast<size_t>((positions + kPageTokens - 1) / kPageTokens);
    page_bytes = static_cast<size_t>(c.kv_heads) * c.head_bytes();
    memory.assign(page_bytes * (count + 2), std::byte{0xff});
    for (size_t i = 0; i < count; ++i) table.push_back(static_cast<int32_t>((i * 5 + 1) % (count + 2)));
    if ((count + 2) % 5 == 0) {
      for (size_t i = 0; i < count; ++i) table[i] = static_cast<int32_t>(count + 1 - i);
    }
    for (int64_t p = 0; p < positions; ++p) {
      std::byte* page = memory.data() + static_cast<size_t>(table[static_cast<size_t>(p / kPageTokens)]) * page_bytes;
      for (int head = 0; head < c.kv_heads; ++head, page += c.head_bytes()) {
        const Values key(c.dtype, static_cast<size_t>(c.head_dim), rng), value(c.dtype, static_cast<size_t>(c.head_dim), rng);
        store(c.dtype, key.data(), value.data(), p % kPageTokens, page);
      }
    }
    scratch.resize(static_cast<size_t>(attention_scratch(c.head_dim)));
    for (int i = 0; i < c.kv_heads * c.heads; ++i)
      sinks.push_back(i % 5 == 3 ? -std::numeric_limits<float>::infinity() : static_cast<float>(i % 7) * 3 - 8);
  }
  void store(DType dtype, const void* key, const void* value, int64_t slot, std::byte* page) const {
    const auto with = [&]<typename T>(const T* k, const void* v) {
      if (c_.latent_dim > 0) {
        store_latent(k, c_.head_dim, slot, page);
      } else if (c_.kv_dtype == DType::i8) {
        store_kv<int8_t>(k, static_cast<const T*>(v), c_.head_dim, slot, page);
      } else {
        store_kv<T>(k, static_cast<const T*>(v), c_.head_dim, slot, page);
      }
    };
    dtype == DType::f32 ? with(static_cast<const float*>(key), value) : with(static_cast<const bf16*>(key), value);
  }
  Attention op(const void* q, void* out) {
    return {q,
            static_cast<int64_t>(c_.q_stride()),
            out,
            static_cast<int64_t>(c_.out_stride()),
            c_.dtype,
            c_.kv_dtype,
            c_.kv_heads,
            c_.heads,
            c_.head_dim,
            c_.latent_dim,
            c_.queries,
            c_.first_position,
            memory.data(),
            page_bytes,
            table.data(),
            1,
            0,
            c_.head_bytes(),
            c_.window,
            c_.chunk,
            1 / std::sqrt(static_cast<float>(c_.head_dim)),
            c_.sinks ? sinks.data() : nullptr,
            scratch.data()};
  }
  AttentionCase c_;
  std::vector<std::byte> memory;
  std::vector<int32_t> table;
  std::vector<float> scratch, sinks;
  size_t page_bytes = 0;
};

TEST_P(KernelsTest, AttentionIsTheReference) {
  for (const AttentionCase& c : {AttentionCase{2, 1, 16, 1, 0, 0, DType::f32},
                                 AttentionCase{1, 3, 32, 20, 0, 0, DType::bf16},
                                 AttentionCase{3, 2, 48, 5, 70, 0, DType::f32},
                                 AttentionCase{1, 4, 20, 40, 13, 7, DType::f32},
                                 AttentionCase{1, 8, 128, 3, 300, 0, DType::bf16},
                                 AttentionCase{4, 1, 34, 17, 31, 24, DType::bf16},
                                 AttentionCase{1, 7, 2, 9, 62, 0, DType::bf16},
                                 AttentionCase{2, 5, 80, 70, 0, 33, DType::bf16},
                                 AttentionCase{1, 1, 256, 1, 95, 0, DType::f32},
                                 AttentionCase{2, 5, 32, 70, 20, 0, DType::bf16, DType::bf16, 0, false, 24},
                                 AttentionCase{2, 2, 16, 9, 90, 0, DType::f32, DType::f32, 0, false, 48},
                                 AttentionCase{4, 8, 64, 1, 191, 0, DType::bf16, DType::bf16, 0, false, 48},
                                 AttentionCase{4, 8, 64, 1, 192, 0, DType::bf16, DType::bf16, 0, false, 64},
                                 AttentionCase{4, 8, 128, 1, 200, 0, DType::bf16},
                                 AttentionCase{16, 1, 64, 1, 70, 0, DType::bf16},
                                 AttentionCase{2, 12, 48, 1, 99, 40, DType::f32},
                                 AttentionCase{8, 20, 16, 1, 40, 0, DType::bf16},
                                 AttentionCase{4, 8, 128, 1, 200, 0, DType::bf16, DType::i8},
                                 AttentionCase{2, 3, 34, 70, 11, 33, DType::bf16, DType::i8},
                                 AttentionCase{3, 2, 20, 40, 0, 0, DType::f32, DType::i8},
                                 AttentionCase{1, 16, 576, 1, 100, 0, DType::bf16, DType::bf16, 512},
                                 AttentionCase{1, 130, 48, 1, 63, 0, DType::bf16, DType::bf16, 32},
                                 AttentionCase{1, 5, 50, 40, 21, 0, DType::f32, DType::f32, 34},
                                 AttentionCase{1, 5, 22, 70, 0, 9, DType::bf16, DType::bf16, 18},
                                 AttentionCase{2, 5, 80, 70, 0, 33, DType::bf16, DType::bf16, 0, true},
                                 AttentionCase{4, 8, 128, 1, 200, 100, DType::bf16, DType::bf16, 0, true},
                                 AttentionCase{3, 2, 20, 40, 0, 0, DType::f32, DType::i8, 0, true},
                                 AttentionCase{1, 70, 64, 2, 0, 1, DType::f32, DType::f32, 0, true},
                                 AttentionCase{1, 3, 4, 33, 5, 0, DType::f32, DType::f32, 2}}) {
    Pages pages(c, rng);
    const size_t count = static_cast<size_t>(c.queries) * c.out_stride();
    const Values q(c.dtype, static_cast<size_t>(c.queries) * c.q_stride(), rng, 2);
    Values want(c.dtype, count, rng), have = want;
    plain().attention(pages.op(q.data(), want.data()));
    fast().attention(pages.op(q.data(), have.data()));
    for (size_t i = 0; i < count; ++i) {
      // Both results are rounded, a unit apart at most, and so are the weights, for values of about 4 at most.
      const double tolerance = c.dtype == DType::bf16 ? 2 * kBf16Eps * (1 + std::abs(want[i])) : 1e-5;
      ASSERT_NEAR(have[i], want[i], tolerance) << c.head_dim << " " << i;
    }
  }
}

// The pages of a sequence behind memory that cannot be read, where page -1 lies.
class Guarded {
 public:
  explicit Guarded(const Pages& pages) : guard_((pages.page_bytes + 4095) / 4096 * 4096), bytes_(guard_ + pages.memory.size()) {
    at_ = static_cast<std::byte*>(::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    std::copy(pages.memory.begin(), pages.memory.end(), at_ + guard_);
    ::mprotect(at_, guard_, PROT_NONE);
  }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  ~Guarded() { ::munmap(at_, bytes_); }
  [[nodiscard]] const std::byte* pages() const { return at_ + guard_; }

 private:
  size_t guard_, bytes_;
  std::byte* at_;
};

// Pages outside of every query's window may be gone, or be other sequences': they are not read. The table is one of three groups of layers.
TEST_P(KernelsTest, AttentionReadsNoPageThatNoQuerySees) {
  for (const AttentionCase& c : {AttentionCase{4, 8, 64, 1, 500, 1, DType::bf16}, AttentionCase{4, 8, 64, 1, 500, 128, DType::bf16, DType::i8},
                                 AttentionCase{2, 100, 32, 1, 415, 64, DType::f32}, AttentionCase{2, 5, 80, 70, 300, 33, DType::bf16},
                                 AttentionCase{2, 5, 80, 1, 384, 0, DType::bf16, DType::bf16, 0, false, 128},
                                 AttentionCase{2, 5, 32, 20, 380, 0, DType::f32, DType::f32, 0, false, 96},
                                 AttentionCase{1, 9, 48, 33, 300, 64, DType::bf16, DType::bf16, 32}}) {
    Pages pages(c, rng);
    const size_t count = static_cast<size_t>(c.queries) * c.out_stride();
    const Values q(c.dtype, static_cast<size_t>(c.queries) * c.q_stride(), rng, 2);
    Values want(c.dtype, count, rng), have = want;
    fast().attention(pages.op(q.data(), want.data()));

    const Guarded guarded(pages);
    std::vector<int32_t> table(3 * pages.table.size(), -1);
    const int64_t first_page = first_seen(c.first_position, c.window, c.chunk) / kPageTokens;
    ASSERT_GT(first_page, 2);
    for (size_t i = static_cast<size_t>(first_page); i < pages.table.size(); ++i) table[3 * i + 1] = pages.table[i];
    for (const Kernels* kernels : {&fast(), &plain()}) {
      Attention op = pages.op(q.data(), have.data());
      op.pages = guarded.pages();
      op.page_table = table.data() + 1;
      op.table_stride = 3;
      kernels->attention(op);
      for (size_t i = 0; i < count && kernels == &fast(); ++i) ASSERT_EQ(have[i], want[i]) << c.head_dim << " " << i;
    }
  }
}

// A query alone, with nothing but NaN behind it, has the bits that it has in a chunk: what preemption and chunked prefill rest on.
TEST_P(KernelsTest, AttentionBitsDoNotDependOnTheChunk) {
  for (const AttentionCase& c :
       {AttentionCase{2, 2, 48, 50, 20, 0, DType::bf16}, AttentionCase{1, 3, 20, 50, 0, 17, DType::f32},
        AttentionCase{3, 8, 64, 40, 7, 40, DType::bf16}, AttentionCase{2, 4, 20, 50, 9, 0, DType::bf16, DType::i8},
        AttentionCase{2, 4, 20, 50, 9, 30, DType::bf16, DType::bf16, 0, true}, AttentionCase{2, 9, 20, 50, 9, 0, DType::f32, DType::f32, 0, true},
        AttentionCase{1, 9, 40, 50, 9, 0, DType::bf16, DType::bf16, 24}, AttentionCase{1, 9, 40, 50, 9, 0, DType::f32, DType::f32, 32}}) {
    const size_t stride = c.out_stride();
    const Values q(c.dtype, static_cast<size_t>(c.queries) * c.q_stride(), rng, 2);
    Values whole(c.dtype, static_cast<size_t>(c.queries) * stride, rng), single = whole;
    const auto seed = rng();
    std::mt19937 same(seed);
    Pages pages(c, same);
    fast().attention(pages.op(q.data(), whole.data()));
    for (int64_t i = 0; i < c.queries; ++i) {
      AttentionCase up_to = c;
      up_to.queries = i + 1;
      same.seed(seed);
      Pages fewer(up_to, same);
      const auto at = [&](size_t width) { return static_cast<size_t>(i) * width * bytes_of(c.dtype); };
      Attention op = fewer.op(static_cast<const std::byte*>(q.data()) + at(c.q_stride()), static_cast<std::byte*>(single.data()) + at(stride));
      op.num_queries = 1;
      op.first_position += i;
      fast().attention(op);
    }
    for (size_t i = 0; i < static_cast<size_t>(c.queries) * stride; ++i) ASSERT_EQ(single[i], whole[i]) << c.head_dim << " " << i;
  }
}

// Attention over keys that come a range at a time has the bits of attention over all of them, and values may have a width of their own.
TEST_P(KernelsTest, AttentionOverRangesOfKeysHasTheSameBits) {
  struct Case {
    int head_dim, value_width;
    int64_t queries, first_position, window;
    DType dtype;
    bool sinks;
  };
  for (const Case& c : {Case{192, 128, 70, 60, 0, DType::bf16, false}, Case{34, 20, 40, 90, 0, DType::f32, false},
                        Case{6, 33, 9, 100, 0, DType::bf16, false}, Case{16, 48, 50, 80, 41, DType::f32, true}}) {
    const int64_t positions = c.first_position + c.queries;
    const auto num_pages = static_cast<size_t>(ceil_div<int64_t>(positions, kPageTokens));
    const size_t page_bytes = static_cast<size_t>(kPageTokens * (c.head_dim + c.value_width)) * bytes_of(c.dtype);
    std::vector<std::byte> memory(num_pages * page_bytes);
    for (size_t i = 0; i < num_pages; ++i) {
      const Values numbers(c.dtype, page_bytes / bytes_of(c.dtype), rng);
      std::memcpy(memory.data() + i * page_bytes, numbers.data(), page_bytes);
    }
    std::vector<int32_t> table;
    for (size_t i = num_pages; i-- > 0;) table.push_back(static_cast<int32_t>(i));
    const Values q(c.dtype, static_cast<size_t>(c.queries * c.head_dim), rng, 2);
    const float sink = 1;
    const int64_t carry_stride = attention_carry(c.value_width) + 3;
    std::vector<float> scratch(static_cast<size_t>(attention_scratch(std::max(c.head_dim, c.value_width)))),
        carry(static_cast<size_t>(c.queries * carry_stride), std::nanf(""));
    const auto run = [&](const Kernels& kernels, const std::vector<Range>& ranges) {
      Values out(c.dtype, static_cast<size_t>(c.queries * c.value_width), rng);
      for (const Range& keys : ranges) {
        const int64_t before = std::max<int64_t>(0, keys.begin - c.first_position);
        Attention op{.q = static_cast<const std::byte*>(q.data()) + static_cast<size_t>(before * c.head_dim) * bytes_of(c.dtype),
                     .q_stride = c.head_dim,
                     .out = static_cast<std::byte*>(out.data()) + static_cast<size_t>(before * c.value_width) * bytes_of(c.dtype),
                     .out_stride = c.value_width,
                     .dtype = c.dtype,
                     .kv_dtype = c.dtype,
                     .kv_heads = 1,
                     .heads = 1,
                     .head_dim = c.head_dim,
                     .num_queries = c.queries - before,
                     .first_position = c.first_position + before,
                     .pages = memory.data(),
                     .page_bytes = page_bytes,
                     .page_table = table.data() + keys.begin / kPageTokens,
                     .window = c.window,
                     .scale = 1 / std::sqrt(static_cast<float>(c.head_dim)),
                     .sinks = c.sinks ? &sink : nullptr,
                     .scratch = scratch.data(),
                     .value_width = c.value_width,
                     .first_key = keys.begin,
                     .num_keys = keys.size(),
                     .carry = carry.data() + before * carry_stride,
                     .carry_stride = carry_stride};
        if (keys.size() == 0) op.carry = nullptr;  // all at once
        kernels.attention(op);
      }
      return out;
    };
    const int64_t end = round_up<int64_t>(positions, kPageTokens);
    const Values whole = run(fast(), {{0, 0}});
    const Values want = run(plain(), {{0, 0}});
    const Values plain_ranges = run(plain(), {{0, 64}, {64, end}});
    for (const auto& ranges : std::vector<std::vector<Range>>{{{0, end}}, {{0, 64}, {64, end}}, {{0, 32}, {32, 64}, {64, 96}, {96, end}}}) {
      const Values have = run(fast(), ranges);
      const Values plain_have = run(plain(), ranges);
      for (size_t i = 0; i < static_cast<size_t>(c.queries * c.value_width); ++i) {
        ASSERT_EQ(have[i], whole[i]) << c.head_dim << " " << ranges.size() << " " << i;
        ASSERT_EQ(plain_have[i], plain_ranges[i]) << c.head_dim << " " << ranges.size() << " " << i;
        ASSERT_NEAR(plain_have[i], want[i], c.dtype == DType::bf16 ? 2 * kBf16Eps * (1 + std::abs(want[i])) : 1e-5);
        ASSERT_NEAR(have[i], want[i], c.dtype == DType::bf16 ? 2 * kBf16Eps * (1 + std::abs(want[i])) : 1e-5);
      }
    }
  }
}

// Pages of latents with NaN where no token is, expanded by `kernels` from page `first` on; the result's pages are as large as `op` says.
struct Latents {
  Latents(DType type, int rank, int plain, int rope, int v, std::vector<int32_t> counts, std::mt19937& rng)
      : tokens(std::move(counts)), weights(type, static_cast<size_t>((plain + v) * rank), rng, 0.2F) {
    op = {.dtype = type, .w = weights.data(), .kv_rank = rank, .plain_dim = plain, .rope_dim = rope, .v_dim = v};
    const int64_t width = rank + rope;
    const size_t bytes = latent_page_bytes(type, width);
    memory.assign(tokens.size() * bytes, std::byte{0xff});
    for (size_t i = 0; i < tokens.size(); ++i) {
      pages.push_back(memory.data() + i * bytes);
      for (int64_t t = 0; t < tokens[i]; ++t) {
        const Values key(type, static_cast<size_t>(width), rng);
        if (type == DType::f32) store_latent(static_cast<const float*>(key.data()), width, t, memory.data() + i * bytes);
        if (type == DType::bf16) store_latent(static_cast<const bf16*>(key.data()), width, t, memory.data() + i * bytes);
      }
    }
  }
  std::vector<std::byte> expand(const Kernels& kernels, size_t first, size_t count) {
    std::vector<std::byte> out(count * op.page_bytes(), std::byte{0});
    std::vector<float> room(op.scratch_bytes() / sizeof(float) + 16);
    op.scratch = reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(room.data()) + 63) / 64 * 64);
    op.pages = pages.data() + first;
    op.tokens = tokens.data() + first;
    op.num_pages = static_cast<int64_t>(count);
    op.out = out.data();
    kernels.expand_latents(op);
    return out;
  }
  // Element d of the key of a token, or of its value.
  [[nodiscard]] float element(const std::vector<std::byte>& out, size_t page, bool value, int64_t t, int64_t d) const {
    const int64_t at = value ? kPageTokens * op.key_dim() + value_index(op.dtype, op.v_dim, t, d) : key_index(op.dtype, t, d);
    const std::byte* from = out.data() + page * op.page_bytes();
    return op.dtype == DType::f32 ? reinterpret_cast<const float*>(from)[at] : to_float(reinterpret_cast<const bf16*>(from)[at]);
  }
  std::vector<int32_t> tokens;
  Values weights;
  LatentExpansion op;
  std::vector<std::byte> memory;
  std::vector<const std::byte*> pages;
};

TEST_P(KernelsTest, ExpandedLatentsAreTheReference) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const auto& [rank, plain, rope, v] : std::vector<std::array<int, 4>>{{512, 128, 64, 128}, {34, 7, 2, 9}, {16, 40, 8, 3}, {64, 1, 16, 50}}) {
      Latents latents(dtype, rank, plain, rope, v, {32, 31, 17, 1, 20, 27}, rng);
      const size_t pages = latents.tokens.size();
      const auto want = latents.expand(reference_kernels(), 0, pages);
      const auto have = latents.expand(fast(), 0, pages);
      const double tolerance = (dtype == DType::bf16 ? 2 * kBf16Eps : 0) + rank * kFloatEps;
      for (size_t i = 0; i < pages; ++i) {
        const auto alone = latents.expand(fast(), i, 1);
        for (int64_t t = 0; t < latents.tokens[i]; ++t) {
          for (const bool value : {false, true}) {
            for (int64_t d = 0; d < (value ? v : latents.op.key_dim()); ++d) {
              const float x = latents.element(want, i, value, t, d);
              ASSERT_NEAR(latents.element(have, i, value, t, d), x, tolerance * (1 + std::abs(x))) << rank << " " << i << " " << t << " " << d;
              ASSERT_EQ(latents.element(alone, 0, value, t, d), latents.element(have, i, value, t, d)) << "bits depend on what is beside it";
            }
          }
          const bool odd_end = dtype == DType::bf16 && t % 2 == 0 && t + 1 == latents.tokens[i];
          if (odd_end) {
            ASSERT_EQ(latents.element(have, i, true, t + 1, 0), 0);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace moegen
