// What is neither a product nor attention.
#include "tests/kernels/kernels_test.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace moegen {
namespace {

std::vector<std::string> vector_paths() {
  std::vector<std::string> names;
  for (const Kernels* kernels : usable_kernels()) {
    if (kernels != &reference_kernels()) names.emplace_back(kernels->name);
  }
  if (!names.empty()) names.emplace_back(plain_tiles_kernels().name);
  if (std::find(names.begin(), names.end(), "avx512") != names.end()) names.emplace_back(emulated_bf16_kernels().name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(Paths, KernelsTest, testing::ValuesIn(vector_paths()), [](const auto& path) { return path.param; });

TEST_P(KernelsTest, MultiplyOnlyCountsByRounds) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const double once = fast().multiply_only(dtype, 1);
    EXPECT_GT(once, 0);
    EXPECT_EQ(fast().multiply_only(dtype, 100), 100 * once);
  }
}

TEST_P(KernelsTest, RmsNormIsTheReference) {
  for (const int64_t width : {1, 8, 15, 16, 17, 80, 1024, 2049}) {
    for (const DType y_type : {DType::f32, DType::bf16}) {
      const Values x(DType::f32, static_cast<size_t>(3 * width), rng, 3);
      const Values weight(DType::bf16, static_cast<size_t>(width), rng);
      Values want(y_type, static_cast<size_t>(3 * width), rng);
      Values have = want;
      for (const auto& [weights, offset] : {std::pair{weight.data(), 0.0F}, {weight.data(), 1.0F}, {static_cast<const void*>(nullptr), 0.0F}}) {
        RmsNorm op{x.data(), DType::f32, width, weights, DType::bf16, want.data(), y_type, width, width, 1e-6F, offset};
        plain().rms_norm(op, {0, 3});
        op.y = have.data();
        fast().rms_norm(op, {0, 3});
        for (size_t i = 0; i < static_cast<size_t>(3 * width); ++i) {
          ASSERT_NEAR(have[i], want[i], std::abs(want[i]) * (y_type == DType::bf16 ? kBf16Eps : 64 * kFloatEps)) << width << " " << offset;
        }
      }
    }
  }
}

// A sequence in a layer of linear attention, of which every token is the same whichever kernels compute it.
class DeltaSequence {
 public:
  DeltaSequence(int heads, int key_dim, int value_dim, int tokens, std::mt19937& rng)
      : heads_(heads), key_dim_(key_dim), value_dim_(value_dim), keys_(normal(tokens * key_dim, 1 / std::sqrt(static_cast<float>(key_dim)), rng)) {
    queries_ = normal(tokens * key_dim, 1, rng);
    values_ = normal(tokens * heads * value_dim, 1, rng);
    for (int i = 0; i < tokens * heads; ++i) {
      decay_.push_back(i % 11 == 7 ? 0.0F : i % 5 == 2 ? 1.0F : static_cast<float>(rng() % 1000) / 1000);
      beta_.push_back(static_cast<float>(rng() % 1000) / 1000);
    }
    state = normal(heads * key_dim * value_dim, 1, rng);
    out.resize(values_.size());
    // What no token of the chunk has written yet is not a number.
    chunk_keys_.assign(static_cast<size_t>(kDeltaChunk * key_dim), std::nanf(""));
    changes_.assign(static_cast<size_t>(kDeltaChunk * heads * value_dim), std::nanf(""));
    decays_.assign(static_cast<size_t>(heads * (kDeltaChunk + 1)), std::nanf(""));
  }

  // Tokens [begin, end), up to `most` of a chunk in a call.
  void run(const Kernels& kernels, int begin, int end, int most) {
    while (begin < end) {
      const int first = begin % kDeltaChunk;
      const int count = std::min({most, end - begin, kDeltaChunk - first});
      std::copy_n(keys_.begin() + begin * key_dim_, count * key_dim_, chunk_keys_.begin() + first * key_dim_);
      const int at = begin * heads_;
      kernels.delta_tokens({first, count, heads_, key_dim_, value_dim_, state.data(), chunk_keys_.data(), changes_.data(), decays_.data(),
                            queries_.data() + begin * key_dim_, values_.data() + at * value_dim_, decay_.data() + at, beta_.data() + at,
                            out.data() + at * value_dim_});
      begin += count;
    }
  }

  // As the rule is written, in double.
  [[nodiscard]] std::vector<double> plainly(std::vector<double> s, int tokens) const {
    std::vector<double> all;
    for (int t = 0; t < tokens; ++t) {
      for (int h = 0; h < heads_; ++h) {
        for (int j = 0; j < value_dim_; ++j) {
          double known = 0, sum = 0;
          const auto at = [&](int i) -> double& { return s[static_cast<size_t>((h * key_dim_ + i) * value_dim_ + j)]; };
          const auto of = [&](const std::vector<float>& x, int i) { return static_cast<double>(x[static_cast<size_t>(i)]); };
          for (int i = 0; i < key_dim_; ++i) known += of(keys_, t * key_dim_ + i) * (at(i) *= of(decay_, t * heads_ + h));
          const double change = of(beta_, t * heads_ + h) * (of(values_, (t * heads_ + h) * value_dim_ + j) - known);
          for (int i = 0; i < key_dim_; ++i) sum += of(queries_, t * key_dim_ + i) * (at(i) += of(keys_, t * key_dim_ + i) * change);
          all.push_back(sum);
        }
      }
    }
    return all;
  }

  std::vector<float> state, out;

 private:
  static std::vector<float> normal(int count, float scale, std::mt19937& rng) {
    std::normal_distribution<float> normal(0, scale);
    std::vector<float> x(static_cast<size_t>(count));
    for (float& v : x) v = normal(rng);
    return x;
  }

  int heads_, key_dim_, value_dim_;
  std::vector<float> keys_, queries_, values_, decay_, beta_, chunk_keys_, changes_, decays_;
};

// The chunked form is the rule token by token, up to rounding; and its bits are the same however the tokens of a chunk are shared out to calls.
TEST_P(KernelsTest, DeltaTokensAreTheRuleWhateverIsComputedTogether) {
  for (const auto& [heads, keys, values] : {std::tuple{1, 1, 1}, {2, 4, 7}, {1, 16, 16}, {3, 24, 40}, {2, 128, 128}, {1, 130, 131}}) {
    for (const int tokens : {1, kDeltaChunk - 1, kDeltaChunk, kDeltaChunk + 1, 5 * kDeltaChunk + 3}) {
      const DeltaSequence begin(heads, keys, values, tokens, rng);
      const std::vector<double> want = begin.plainly({begin.state.begin(), begin.state.end()}, tokens);
      DeltaSequence whole = begin;
      whole.run(fast(), 0, tokens, kDeltaChunk);
      DeltaSequence reference = begin;
      reference.run(plain(), 0, tokens, kDeltaChunk);
      const double tolerance = 64 * kFloatEps * std::sqrt(keys) * 8;  // queries of norm sqrt(keys), sums of a few values of size 1
      for (size_t i = 0; i < want.size(); ++i) {
        ASSERT_NEAR(whole.out[i], want[i], tolerance * (1 + std::abs(want[i]))) << keys << " " << values << " " << tokens;
        ASSERT_NEAR(reference.out[i], want[i], tolerance * (1 + std::abs(want[i])));
      }
      for (const int most : {1, 2, 3, 5, kDeltaChunk - 1}) {
        DeltaSequence cut = begin;
        cut.run(fast(), 0, tokens, most);
        ASSERT_TRUE(cut.out == whole.out && cut.state == whole.state) << keys << " " << values << " " << tokens << " by " << most;
      }
      DeltaSequence mixed = begin;  // a prompt, then tokens one by one
      mixed.run(fast(), 0, tokens / 2, kDeltaChunk);
      mixed.run(fast(), tokens / 2, tokens, 1);
      ASSERT_TRUE(mixed.out == whole.out && mixed.state == whole.state);
    }
  }
}

TEST_P(KernelsTest, ClosedGatesWithoutUp) {
  for (const size_t count : {1U, 7U, 16U, 31U}) {
    Values want(DType::f32, count, rng, 4), have = want;
    plain().silu_mul(want.data(), nullptr, DType::f32, static_cast<int64_t>(count));
    fast().silu_mul(have.data(), nullptr, DType::f32, static_cast<int64_t>(count));
    for (size_t i = 0; i < count; ++i) ASSERT_NEAR(have[i], want[i], 16 * kFloatEps * (1 + std::abs(want[i])));
  }
}

TEST_P(KernelsTest, GeluIsTheReference) {
  for (const size_t count : {1U, 7U, 16U, 31U, 400U}) {
    Values want(DType::f32, count, rng, 4), have = want;
    const Values up(DType::f32, count, rng), x = want;
    plain().gelu_mul(static_cast<float*>(want.data()), static_cast<const float*>(up.data()), static_cast<int64_t>(count));
    fast().gelu_mul(static_cast<float*>(have.data()), static_cast<const float*>(up.data()), static_cast<int64_t>(count));
    for (size_t i = 0; i < count; ++i) ASSERT_NEAR(have[i], want[i], 32 * kFloatEps * (1 + std::abs(x[i] * up[i]))) << x[i];
  }
}

TEST_P(KernelsTest, RotateIsTheReference) {
  for (const int64_t dim : {2, 16, 20, 48, 64, 128}) {
    const Values cos(DType::f32, static_cast<size_t>(dim / 2), rng), sin(DType::f32, static_cast<size_t>(dim / 2), rng);
    Values want(DType::f32, static_cast<size_t>(dim), rng);
    Values have = want;
    plain().rotate(static_cast<float*>(want.data()), static_cast<const float*>(cos.data()), static_cast<const float*>(sin.data()), dim);
    fast().rotate(static_cast<float*>(have.data()), static_cast<const float*>(cos.data()), static_cast<const float*>(sin.data()), dim);
    for (size_t i = 0; i < static_cast<size_t>(dim); ++i) ASSERT_NEAR(have[i], want[i], 32 * kFloatEps);
  }
}

TEST_P(KernelsTest, ElementwiseOpsAreTheReference) {
  for (const size_t count : {1U, 7U, 16U, 31U, 400U}) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      Values want(dtype, count, rng, 4), have = want;
      const Values up(dtype, count, rng);
      plain().silu_mul(want.data(), up.data(), dtype, static_cast<int64_t>(count));
      fast().silu_mul(have.data(), up.data(), dtype, static_cast<int64_t>(count));
      const double eps = dtype == DType::bf16 ? kBf16Eps : 16 * kFloatEps;
      for (size_t i = 0; i < count; ++i) ASSERT_NEAR(have[i], want[i], eps * std::abs(want[i]) + 1e-30);
      Values clamped(DType::f32, count, rng, 4), fast_clamped = clamped;
      const Values beside(DType::f32, count, rng, 4);
      plain().clamped_swiglu(static_cast<float*>(clamped.data()), static_cast<const float*>(beside.data()), 3, static_cast<int64_t>(count));
      fast().clamped_swiglu(static_cast<float*>(fast_clamped.data()), static_cast<const float*>(beside.data()), 3, static_cast<int64_t>(count));
      for (size_t i = 0; i < count; ++i) ASSERT_NEAR(fast_clamped[i], clamped[i], 16 * kFloatEps * std::abs(clamped[i]) + 1e-30);
      Values sum(DType::f32, count, rng), fast_sum = sum;
      plain().axpy(static_cast<float*>(sum.data()), 0.37F, up.data(), dtype, static_cast<int64_t>(count));
      fast().axpy(static_cast<float*>(fast_sum.data()), 0.37F, up.data(), dtype, static_cast<int64_t>(count));
      for (size_t i = 0; i < count; ++i) ASSERT_NEAR(fast_sum[i], sum[i], 4 * kFloatEps * (std::abs(sum[i]) + std::abs(up[i])));
    }
  }
}

// Rounding is exact, so the bits are the reference's: ties, subnormals, infinities and NaN included.
TEST_P(KernelsTest, ConvertHasTheReferencesBits) {
  std::vector<float> x{0.0F,
                       -0.0F,
                       1.0F,
                       0x1.01p0F,
                       0x1.03p0F,
                       0x1.0101p0F,
                       0x1p-130F,
                       -0x1.8p-127F,
                       0x1p-149F,
                       3.4e38F,
                       std::numeric_limits<float>::infinity(),
                       -std::numeric_limits<float>::infinity(),
                       std::numeric_limits<float>::quiet_NaN(),
                       std::numeric_limits<float>::signaling_NaN()};
  while (x.size() < 1003) x.push_back(std::bit_cast<float>(static_cast<uint32_t>(rng())));
  std::vector<uint16_t> want(x.size()), have(x.size());
  plain().convert(x.data(), DType::f32, want.data(), DType::bf16, static_cast<int64_t>(x.size()));
  fast().convert(x.data(), DType::f32, have.data(), DType::bf16, static_cast<int64_t>(x.size()));
  EXPECT_EQ(have, want);
  std::vector<uint16_t> halves;
  for (uint32_t i = 0; i < 0x10000; ++i) halves.push_back(static_cast<uint16_t>(i));
  for (const DType from : {DType::bf16, DType::f16}) {
    std::vector<float> a(halves.size()), b(halves.size());
    plain().convert(halves.data(), from, a.data(), DType::f32, static_cast<int64_t>(a.size()));
    fast().convert(halves.data(), from, b.data(), DType::f32, static_cast<int64_t>(b.size()));
    for (size_t i = 0; i < a.size(); ++i) ASSERT_TRUE(a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]))) << name_of(from) << " " << i;
  }
}

TEST_P(KernelsTest, MaximumAndExpSumAreTheReference) {
  for (const size_t count : {1U, 2U, 15U, 16U, 17U, 33U, 1000U}) {
    const Values x(DType::f32, count, rng, 20);
    const auto* p = static_cast<const float*>(x.data());
    const float top = fast().maximum(p, static_cast<int64_t>(count));
    ASSERT_EQ(top, plain().maximum(p, static_cast<int64_t>(count)));
    std::vector<float> want(count), have(count);
    const float sum = plain().exp_sum(p, top, want.data(), static_cast<int64_t>(count));
    ASSERT_NEAR(fast().exp_sum(p, top, have.data(), static_cast<int64_t>(count)), sum, sum * 32 * kFloatEps);
    for (size_t i = 0; i < count; ++i) {
      const double rounded_argument = std::abs(p[i] - top);  // x - top has half a unit of error, which exp multiplies by itself
      ASSERT_NEAR(have[i], want[i], want[i] * (8 + rounded_argument) * kFloatEps + 1e-38) << p[i];
    }
  }
  const std::vector<float> edges{-1000, -std::numeric_limits<float>::infinity(), -104, -88, -87, 0, 88};
  std::vector<float> e(edges.size());
  fast().exp_sum(edges.data(), 0, e.data(), static_cast<int64_t>(edges.size()));
  for (size_t i = 0; i < edges.size(); ++i) EXPECT_NEAR(e[i], std::exp(edges[i]), std::exp(edges[i]) * 8 * kFloatEps + 0x1p-148F) << edges[i];
}

}  // namespace
}  // namespace moegen
