#include <array>
#include <bit>
#include <cstring>
#include <limits>

#include "tests/kernels/gpu_kernels_test.h"

namespace moegen {
namespace {

uint32_t bits(float x) { return std::bit_cast<uint32_t>(x); }
constexpr float kInf = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();

// Logits whose best are spread, equal, side by side, far apart, or no numbers.
std::vector<std::vector<float>> awkward_rows(int64_t width, std::mt19937& rng) {
  std::normal_distribution<float> normal(0, 4);
  std::vector<std::vector<float>> rows(14, std::vector<float>(static_cast<size_t>(width)));
  for (auto& row : rows) {
    for (float& x : row) x = normal(rng);
  }
  const auto each = [&](size_t row, const auto& f) {
    for (size_t i = 0; i < rows[row].size(); ++i) f(rows[row][i], i);
  };
  each(1, [&](float& x, size_t) { x = static_cast<float>(rng() % 50) - 60.0F; });
  each(2, [](float& x, size_t i) { x = i % 3 == 0 ? kNan : x; });
  each(3, [](float& x, size_t) { x = kNan; });
  each(4, [](float& x, size_t) { x = -kInf; });
  rows[5][rows[5].size() / 2] = kInf;
  each(6, [](float& x, size_t i) { x = i % 7 == 3 ? x : -kInf; });
  each(7, [](float& x, size_t) { x = 1.5F; });
  each(8, [](float& x, size_t i) { x = static_cast<float>(i) * 0.01F; });
  each(9, [](float& x, size_t i) { x = i % kGpuSegmentIds == 5 ? x + 100 : x; });
  each(10, [&](float& x, size_t i) { x = i / 300 == 1 ? 50 : x; });
  each(11, [](float& x, size_t i) { x = i % 2 == 0 ? 0.0F : -0.0F; });
  each(12, [](float& x, size_t i) { x = i % 5 == 0 ? -6e37F : -kInf; });
  each(13, [](float& x, size_t i) { x = i % 400 == 7 ? 30 : i % 400 == 9 ? 31 : -1 - x * x; });
  return rows;
}

// What the sampler of the CPU would find.
void expect_summary(const std::vector<float>& row, const LogitQuery& q, const LogitSummary& have, const std::vector<LogitCandidate>& candidates) {
  const auto number = [](float x) { return std::isnan(x) ? -kInf : x; };
  std::vector<int32_t> ids(row.size());
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i);
  std::stable_sort(ids.begin(), ids.end(),
                   [&](int32_t a, int32_t b) { return number(row[static_cast<size_t>(a)]) > number(row[static_cast<size_t>(b)]); });
  const auto value = [&](int32_t id) { return row[static_cast<size_t>(id)]; };
  const float top = number(value(ids[0]));
  ASSERT_EQ(have.top, top);
  if (q.candidates) {
    for (size_t i = 0; i < std::min<size_t>(ids.size(), kLogitCandidates); ++i) {
      ASSERT_EQ(candidates[i].id, ids[i]) << i;
      ASSERT_EQ(bits(candidates[i].value), bits(value(ids[i]))) << i;
    }
  }
  if (!std::isfinite(top)) {
    if (q.id < 0) {
      EXPECT_LT(have.id, 0);
    }
    return;
  }
  std::vector<double> upto{0};
  double sum = 0;
  for (const float x : row) {
    sum += std::exp(static_cast<double>(number(x)) - static_cast<double>(top));
    const auto hot = [&](float v) { return static_cast<double>(v / q.temperature); };
    if (q.temperature > 0) upto.push_back(upto.back() + std::exp(hot(number(x)) - hot(top)));
  }
  if (q.logprob) {
    EXPECT_NEAR(static_cast<double>(have.sum), sum, 1e-6 * sum);
  }
  if (q.temperature > 0) {
    EXPECT_NEAR(static_cast<double>(have.heated_sum), upto.back(), 2e-6 * upto.back());
  }
  if (q.id == LogitQuery::kNoId) {
    EXPECT_LT(have.id, 0);
    return;
  }
  if (q.id == LogitQuery::kBest) {
    ASSERT_EQ(have.id, ids[0]);
  }
  if (q.id >= 0) {
    ASSERT_EQ(have.id, q.id);
  }
  ASSERT_TRUE(have.id >= 0 && have.id < static_cast<int32_t>(row.size()));
  if (q.id == LogitQuery::kDrawn) {
    EXPECT_TRUE(std::isfinite(value(have.id)));
    EXPECT_GT(upto[static_cast<size_t>(have.id) + 1], q.u * upto.back() - 2e-6 * upto.back());
    EXPECT_LE(upto[static_cast<size_t>(have.id)], q.u * upto.back() + 2e-6 * upto.back());
  }
  if (!q.logprob) return;
  EXPECT_EQ(bits(have.value), bits(value(have.id)));
  if (!std::isnan(have.value)) {
    EXPECT_EQ(have.rank, 1 + std::count_if(row.begin(), row.end(), [&](float x) { return x > have.value; }));
  }
}

TEST_P(GpuKernelsTest, Summarize) {
  std::uniform_real_distribution<double> uniform(0, 1);
  const LogitSummary untouched{.rank = 77};
  std::vector<int64_t> widths{1, 31, 127, 128, 129, 300, 1000, 50'257};
  if (device->name() != "emulated") widths.push_back(151'936);
  for (const int64_t width : widths) {
    const auto rows = awkward_rows(width, rng);
    for (int round = 0; round < (width > 1000 ? 1 : 6); ++round) {
      std::vector<float> logits;
      std::vector<LogitQuery> queries;
      for (const auto& row : rows) {
        logits.insert(logits.end(), row.begin(), row.end());
        LogitQuery q{.u = round == 1   ? 0
                          : round == 2 ? 0x1.fffffffffffffp-1
                                       : uniform(rng),
                     .logprob = rng() % 2 == 0,
                     .candidates = rng() % 4 != 0,
                     .whole = rng() % 8 == 0};
        q.id = std::array{LogitQuery::kNoId, LogitQuery::kBest, LogitQuery::kDrawn,
                          static_cast<int32_t>(rng() % static_cast<uint32_t>(width))}[rng() % 4];
        q.temperature = q.id == LogitQuery::kDrawn || rng() % 2 == 0 ? std::array{1.0F, 0.3F, 1.7F}[rng() % 3] : 0.0F;
        queries.push_back(q);
      }
      const size_t count = rows.size();
      GpuSummarize op{.logits = put(logits), .rows = static_cast<int64_t>(count), .width = width, .queries = put(queries)};
      op.segments = put(std::vector<GpuSegment>(count * static_cast<size_t>(op.segments_of_row())));
      op.summaries = put(std::vector<LogitSummary>(count, untouched));
      op.candidates = put(std::vector<LogitCandidate>(count * kLogitCandidates));
      kernels.summarize(*device, stream, op);
      const auto summaries = get<LogitSummary>(op.summaries, count);
      const auto candidates = get<LogitCandidate>(op.candidates, count * kLogitCandidates);
      for (size_t r = 0; r < count; ++r) {
        SCOPED_TRACE(fmt::format("row {} of {}, round {}", r, width, round));
        if (queries[r].whole) {
          EXPECT_EQ(summaries[r].rank, untouched.rank);
          continue;
        }
        const auto* own = candidates.data() + r * kLogitCandidates;
        expect_summary(rows[r], queries[r], summaries[r], {own, own + kLogitCandidates});
        // Alone it is the same.
        if (round > 0) continue;
        op.rows = 1;
        op.logits = put(rows[r]);
        op.queries = put(std::vector<LogitQuery>{queries[r]});
        kernels.summarize(*device, stream, op);
        EXPECT_EQ(std::memcmp(get<LogitSummary>(op.summaries, 1).data(), &summaries[r], sizeof(LogitSummary)), 0);
      }
    }
  }
}

}  // namespace
}  // namespace moegen
