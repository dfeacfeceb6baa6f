#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>

namespace moegen {
namespace {

constexpr int64_t kVocab = 50;

class SamplerTest : public testing::Test {
 protected:
  SamplerTest() {
    std::mt19937 rng(5);
    std::normal_distribution<float> normal(0, 2);
    for (float& x : logits) x = normal(rng);
    sequence.tokens = {3, 4, 4, 7};
    sequence.prompt_len = 4;
  }

  TokenId sample() {
    sequence.sampling = std::make_shared<Sampling>(s);
    return sampler.sample(sequence, {.logits = logits.data()}, 0).value();
  }

  // Shares of 20,000 draws, each at a position of its own.
  std::map<TokenId, double> shares() {
    std::map<TokenId, double> out;
    const auto kept = sequence.tokens;
    for (uint64_t i = 0; i < 20000; ++i) {
      s.seed = i;
      out[sample()] += 1.0 / 20000;
    }
    sequence.tokens = kept;
    return out;
  }

  // What the draw should follow: softmax of some logits over some ids.
  static std::map<TokenId, double> softmax(const std::vector<float>& x, const std::vector<TokenId>& ids) {
    std::map<TokenId, double> out;
    double sum = 0;
    for (const TokenId id : ids) sum += std::exp(static_cast<double>(x[static_cast<size_t>(id)]));
    for (const TokenId id : ids) out[id] = std::exp(static_cast<double>(x[static_cast<size_t>(id)])) / sum;
    return out;
  }

  static void expect_close(const std::map<TokenId, double>& have, const std::map<TokenId, double>& want) {
    for (const auto& [id, p] : have) EXPECT_TRUE(want.contains(id)) << id << " was drawn, but is filtered out";
    for (const auto& [id, p] : want) {
      const auto it = have.find(id);
      EXPECT_NEAR(it == have.end() ? 0 : it->second, p, 4 * std::sqrt(p / 20000) + 1e-4) << id;  // four deviations
    }
  }

  [[nodiscard]] std::vector<TokenId> sorted_ids() const {
    std::vector<TokenId> ids(kVocab);
    for (int64_t i = 0; i < kVocab; ++i) ids[static_cast<size_t>(i)] = static_cast<TokenId>(i);
    std::sort(ids.begin(), ids.end(), [&](TokenId a, TokenId b) { return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)]; });
    return ids;
  }

  std::vector<float> logits = std::vector<float>(kVocab);
  Sampling s;
  Sequence sequence;
  Sampler sampler{select_kernels("auto"), kVocab, 1};
};

TEST_F(SamplerTest, DrawsFromTheSoftmax) { expect_close(shares(), softmax(logits, sorted_ids())); }

TEST_F(SamplerTest, DrawsByCumulativeWeightsOverALargeVocabulary) {
  constexpr int64_t kMany = 5003;
  std::mt19937 rng(6);
  std::normal_distribution<float> normal(0, 2);
  std::vector<float> many(kMany, -std::numeric_limits<float>::infinity());
  for (size_t i = 0; i < many.size(); ++i) {
    if (i / 1024 % 2 == 0 && rng() % 8 == 0) many[i] = normal(rng);  // whole stretches are impossible
  }
  std::vector<double> below{0};
  for (const float x : many) below.push_back(below.back() + std::exp(static_cast<double>(x)));
  Sampler large(select_kernels("auto"), kMany, 1);
  for (uint64_t seed = 0; seed < 3000; ++seed) {
    s.seed = seed;
    sequence.sampling = std::make_shared<Sampling>(s);
    const auto id = static_cast<size_t>(large.sample(sequence, {.logits = many.data()}, 0).value());
    const double u = uniform(seed, 0, 0) * below.back();
    ASSERT_TRUE(std::isfinite(many[id])) << id;
    EXPECT_GE(u, below[id] - 1e-5 * below.back());
    EXPECT_LE(u, below[id + 1] + 1e-5 * below.back());
  }
}

TEST_F(SamplerTest, TemperatureDividesTheLogits) {
  s.temperature = 0.5;
  std::vector<float> sharper = logits;
  for (float& x : sharper) x *= 2;
  expect_close(shares(), softmax(sharper, sorted_ids()));
}

TEST_F(SamplerTest, TopK) {
  s.top_k = 3;
  auto ids = sorted_ids();
  ids.resize(3);
  expect_close(shares(), softmax(logits, ids));
}

TEST_F(SamplerTest, TopPKeepsTheSmallestSetOfThatMass) {
  s.top_p = 0.7;
  const auto ids = sorted_ids();
  const auto all = softmax(logits, ids);
  std::vector<TokenId> kept;
  double mass = 0;
  for (const TokenId id : ids) {
    kept.push_back(id);
    mass += all.at(id);
    if (mass >= 0.7) break;
  }
  ASSERT_GT(kept.size(), 1U);
  expect_close(shares(), softmax(logits, kept));
}

TEST_F(SamplerTest, TinyTopPIsGreedy) {
  s.top_p = 1e-6;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    s.seed = seed;
    EXPECT_EQ(sample(), sorted_ids()[0]);
  }
}

TEST_F(SamplerTest, MinPIsRelativeToTheBest) {
  s.min_p = 0.2;
  std::vector<TokenId> kept;
  for (const TokenId id : sorted_ids()) {
    if (logits[static_cast<size_t>(id)] >= logits[static_cast<size_t>(sorted_ids()[0])] + std::log(0.2)) kept.push_back(id);
  }
  expect_close(shares(), softmax(logits, kept));
}

TEST_F(SamplerTest, AllFiltersTogether) {
  s.min_p = 0.01;
  s.top_k = 6;
  s.top_p = 0.9;
  auto kept = sorted_ids();
  kept.resize(6);
  const auto k_best = softmax(logits, kept);  // top-p is over what top-k left
  double mass = 0;
  size_t n = 0;
  while (mass < 0.9) mass += k_best.at(kept[n++]);
  kept.resize(n);
  expect_close(shares(), softmax(logits, kept));
}

TEST_F(SamplerTest, GreedyTakesTheLowestOfEqualIds) {
  s.temperature = 0;
  logits[9] = logits[30] = 100;
  EXPECT_EQ(sample(), 9);
}

TEST_F(SamplerTest, BiasAllowedBadWordsAndMinTokens) {
  s.temperature = 0;
  const auto best = sorted_ids();
  s.logit_bias = {{best[10], 100.0F}};
  EXPECT_EQ(sample(), best[10]);
  s.logit_bias.clear();
  s.allowed = {best[20], best[12]};
  EXPECT_EQ(sample(), best[12]);
  EXPECT_EQ(sample(), best[12]);  // the scratch is clean again
  s.allowed.clear();
  s.bad_words = {{best[0]}, {8, best[1]}};
  EXPECT_EQ(sample(), best[1]);  // its word has another beginning
  sequence.tokens.push_back(8);
  EXPECT_EQ(sample(), best[2]);
  s.bad_words.clear();
  s.end_ids = {best[0]};
  s.stop_ids = {best[1]};
  s.min_tokens = 2;  // one is there
  EXPECT_EQ(sample(), best[2]);
  sequence.tokens.push_back(8);
  EXPECT_EQ(sample(), best[0]);
}

// A bad word must stand in the generated text: the prompt's end does not begin one.
TEST_F(SamplerTest, BadWordsDoNotBeginInThePrompt) {
  s.temperature = 0;
  s.bad_words = {{7, sorted_ids()[0]}};
  EXPECT_EQ(sample(), sorted_ids()[0]);
}

TEST_F(SamplerTest, PenaltiesCountAsVllmDoes) {
  s.temperature = 0;
  std::fill(logits.begin(), logits.end(), -10.0F);
  logits[3] = 2.0F;  // in the prompt
  logits[5] = 1.9F;
  EXPECT_EQ(sample(), 3);
  s.presence_penalty = 2;  // generated tokens only
  EXPECT_EQ(sample(), 3);
  sequence.tokens.push_back(3);
  EXPECT_EQ(sample(), 5);
  sequence.tokens.pop_back();
  s.presence_penalty = 0;
  s.repetition_penalty = 1.1;  // prompt too: 2 / 1.1 < 1.9
  EXPECT_EQ(sample(), 5);
  s.repetition_penalty = 1;
  s.frequency_penalty = 0.06;
  sequence.tokens.push_back(3);
  EXPECT_EQ(sample(), 3);  // 1.94
  sequence.tokens.push_back(3);
  EXPECT_EQ(sample(), 5);  // 1.88: counted twice, subtracted once
}

TEST_F(SamplerTest, NothingToChooseFromIsSaid) {
  for (const double temperature : {0.0, 1.0}) {
    s.temperature = temperature;
    s.allowed = {4};
    s.end_ids = {4};
    s.min_tokens = 1;  // bans the only one
    EXPECT_EQ(sample(), Sampler::kNoToken);
    s.min_tokens = 0;
    EXPECT_EQ(sample(), 4);
    s.allowed.clear();
    const auto kept = logits;
    std::fill(logits.begin(), logits.end(), std::numeric_limits<float>::quiet_NaN());
    EXPECT_EQ(sample(), Sampler::kNoToken);
    s.top_k = 3;
    EXPECT_EQ(sample(), Sampler::kNoToken);
    s.top_k = 0;
    LogprobTable::Entry out[4];
    sampler.logprobs({.logits = logits.data()}, 3, 4, out, 0);  // has no order to rely on, and needs none
    logits = kept;
  }
}

TEST_F(SamplerTest, LogprobsAreOfTheRawDistribution) {
  LogprobTable::Entry out[4];
  const auto best = sorted_ids();
  sampler.logprobs({.logits = logits.data()}, best[7], 4, out, 0);
  const auto p = softmax(logits, best);
  EXPECT_EQ(out[0].id, best[7]);
  EXPECT_EQ(out[0].rank, 8);
  EXPECT_NEAR(out[0].logprob, std::log(p.at(best[7])), 1e-5);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(out[i + 1].id, best[static_cast<size_t>(i)]);
    EXPECT_EQ(out[i + 1].rank, i + 1);
    EXPECT_NEAR(out[i + 1].logprob, std::log(p.at(best[static_cast<size_t>(i)])), 1e-5);
  }
}

// What a device answers, but for a draw from all.
struct Summary {
  Summary(const std::vector<float>& logits, const LogitQuery& q) {
    std::vector<int32_t> ids(logits.size());
    std::iota(ids.begin(), ids.end(), 0);
    const auto value = [&](int32_t id) { return logits[static_cast<size_t>(id)]; };
    std::stable_sort(ids.begin(), ids.end(), [&](int32_t a, int32_t b) { return value(a) > value(b); });
    summary.top = value(ids[0]);
    for (const float x : logits) {
      summary.sum += std::exp(x - summary.top);
      if (q.temperature > 0) summary.heated_sum += std::exp(x / q.temperature - summary.top / q.temperature);
    }
    summary.id = q.id == LogitQuery::kBest ? ids[0] : q.id;
    if (summary.id >= 0) {
      summary.value = value(summary.id);
      summary.rank = 1 + static_cast<int32_t>(std::count_if(logits.begin(), logits.end(), [&](float x) { return x > summary.value; }));
    }
    for (size_t i = 0; i < std::min<size_t>(ids.size(), kLogitCandidates); ++i) candidates.push_back({value(ids[i]), ids[i]});
  }
  LogitSummary summary;
  std::vector<LogitCandidate> candidates;
};

// The same from a summary as from the row; or nothing where it does not tell, as flat distributions and equal logits do not.
TEST(SamplerOfSummaries, AsOfRows) {
  constexpr int64_t kMany = 300;
  enum class Told { all, some, none };
  struct Case {
    void (*set)(Sampling&);
    float deviation;  // of logits; 0: so close that the temperature makes some equal
    bool in_steps;    // many are equal
    Told told;
  };
  const std::vector<Case> cases{
      {[](auto& s) { s.temperature = 0; }, 2, false, Told::all},
      {[](auto& s) { s.temperature = 0; }, 2, true, Told::all},
      {[](auto& s) { s.temperature = 0.7, s.top_k = 20; }, 2, false, Told::all},
      {[](auto& s) { s.temperature = 0.7, s.top_k = 127; }, 2, false, Told::all},
      {[](auto& s) { s.top_k = 20; }, 2, true, Told::all},
      {[](auto& s) { s.temperature = 1.3, s.top_k = 120; }, 2, true, Told::some},
      {[](auto& s) { s.top_p = 0.5; }, 2, false, Told::all},
      {[](auto& s) { s.top_p = 0.97; }, 2, false, Told::some},
      {[](auto& s) { s.top_p = 0.99; }, 1, false, Told::none},
      {[](auto& s) { s.top_p = 0.95; }, 2, true, Told::some},
      {[](auto& s) { s.min_p = 0.2; }, 2, false, Told::all},
      {[](auto& s) { s.min_p = 0.001; }, 2, false, Told::some},
      {[](auto& s) { s.top_k = 200, s.min_p = 0.1; }, 2, false, Told::all},
      {[](auto& s) { s.top_k = 120, s.top_p = 0.9, s.min_p = 0.001; }, 2, false, Told::all},
      {[](auto& s) { s.top_p = 0.9, s.min_p = 0.0018; }, 2, true, Told::some},
      {[](auto& s) { s.temperature = 1.3, s.top_p = 0.4215; }, 0, false, Told::some},
  };
  Sampler sampler(select_kernels("auto"), kMany, 1);
  std::mt19937 rng(3);
  for (size_t c = 0; c < cases.size(); ++c) {
    SCOPED_TRACE(c);
    std::normal_distribution<float> normal(0, std::max(1.0F, cases[c].deviation));
    uint64_t told = 0;
    Sampling s;
    cases[c].set(s);
    for (s.seed = 0; s.seed < 300; ++s.seed) {
      std::vector<float> logits(kMany);
      for (float& x : logits) {
        x = cases[c].in_steps ? std::round(normal(rng)) : normal(rng);
        if (cases[c].deviation == 0) x = 1.9F + static_cast<float>(rng() % 64) * 0x1p-23F;
      }
      Sequence sequence;
      sequence.tokens = {3};
      sequence.prompt_len = 1;
      sequence.sampling = std::make_shared<Sampling>(s);
      sequence.logprobs.per_position = 6;
      const LogitQuery q = Sampler::query(sequence);
      ASSERT_FALSE(q.whole);
      const Summary summary(logits, q);
      const LogitRow row{.summary = &summary.summary, .candidates = summary.candidates.data()}, whole{.logits = logits.data()};
      const auto token = sampler.sample(sequence, row, 0);
      if (!token) continue;
      ++told;
      ASSERT_EQ(*token, sampler.sample(sequence, whole, 0));
      LogprobTable::Entry have[6], want[6];
      sampler.logprobs(row, *token, 6, have, 0);
      sampler.logprobs(whole, *token, 6, want, 0);
      for (int i = 0; i < 6; ++i) {
        ASSERT_EQ(have[i].id, want[i].id);
        ASSERT_EQ(have[i].rank, want[i].rank);
        ASSERT_NEAR(have[i].logprob, want[i].logprob, 1e-5);
      }
    }
    EXPECT_EQ(told > 0, cases[c].told != Told::none) << told;
    EXPECT_EQ(told == 300, cases[c].told == Told::all) << told;
  }
}

TEST(SamplerOfSummaries, AsksForRowsThatAreChanged) {
  Sequence sequence;
  sequence.tokens = {3};
  sequence.prompt_len = 1;
  const auto query = [&](void (*set)(Sampling&)) {
    Sampling s;
    set(s);
    sequence.sampling = std::make_shared<Sampling>(s);
    return Sampler::query(sequence);
  };
  EXPECT_EQ(query([](Sampling&) {}).id, LogitQuery::kDrawn);
  EXPECT_EQ(query([](auto& s) { s.seed = 5; }).u, uniform(5, 0, 0));
  EXPECT_EQ(query([](auto& s) { s.temperature = 0; }).id, LogitQuery::kBest);
  EXPECT_FALSE(query([](auto& s) { s.temperature = 0; }).candidates || query([](auto& s) { s.temperature = 0; }).logprob);
  EXPECT_TRUE(query([](auto& s) { s.top_k = 128; }).whole);
  EXPECT_TRUE(query([](auto& s) { s.repetition_penalty = 1.1; }).whole);
  EXPECT_TRUE(query([](auto& s) { s.presence_penalty = 1; }).whole);
  EXPECT_TRUE(query([](auto& s) { s.frequency_penalty = 1; }).whole);
  EXPECT_TRUE(query([](auto& s) { s.min_tokens = 1; }).whole);
  EXPECT_TRUE(query([](auto& s) { s.bad_words = {{4}}; }).whole);
  EXPECT_TRUE(query([](auto& s) { s.allowed = {4}; }).whole);
  EXPECT_TRUE(query([](auto& s) { s.logit_bias = {{4, 1}}; }).whole);
  sequence.logprobs.per_position = 1 + kLogitCandidates + 1;
  EXPECT_TRUE(query([](Sampling&) {}).whole);
  sequence.tokens.push_back(4);
  sequence.logprobs.per_position = 1;
  EXPECT_TRUE(query([](auto& s) { s.min_tokens = 1; }).logprob);  // one is there
}

// Known answers of Philox 4x32-10 (Random123, kat_vectors): counter and key all zero, all ones.
TEST(Philox, KnownAnswers) { EXPECT_EQ(uniform(0, 0, 0), static_cast<double>((uint64_t{0x6627e8d5} << 32 | 0xe169c58d) >> 11) * 0x1p-53); }

TEST(Philox, NoTwoStreamsOrPositionsAgree) {
  std::map<double, int> seen;
  for (uint64_t key = 0; key < 4; ++key) {
    for (uint32_t stream = 0; stream < 8; ++stream) {
      for (uint64_t position = 0; position < 100; ++position) {
        const double u = uniform(key, stream, position);
        EXPECT_TRUE(u >= 0 && u < 1);
        EXPECT_EQ(seen[u]++, 0);
      }
    }
  }
}

}  // namespace
}  // namespace moegen
