#include "simulate/outlook.h"

#include <gtest/gtest.h>

#include <cmath>
#include <deque>
#include <random>

#include "spec/families.h"
#include "tests/spec/configs.h"
#include "tests/support/machines.h"

namespace moegen {
namespace {

// A request as it turns out to be, beside what is expected of it.
struct Real {
  RequestLength expected;
  int64_t prompt = 0;  // tokens
  int64_t output = 0;  // up to and with the token that ends it; the limit, if that is less
};

// Ends an answer after so many tokens.
class EndAfter : public StopRule {
 public:
  explicit EndAfter(int64_t tokens) : left_(tokens) {}
  bool complete(TokenId, bool) override { return --left_ <= 0; }

 private:
  int64_t left_;
};

struct Estimate {
  double at = 0;    // seconds since the begin
  double left = 0;  // seconds, as estimated then
};

// A job on a machine that is not what the planner takes it for: other rates for prompts and for answers, a cost of every pass, noise, a slow begin.
class OutlookTest : public ::testing::Test {
 protected:
  OutlookTest()
      : spec_(read_spec(Config(config(), "config.json"))),
        machine_(round_machine()),
        work_(work_of(spec_)),
        units_(weight_units(tensor_table(spec_), DType::bf16)) {
    PlanInput in = budget_for(spec_, work_, units_, uint64_t{4} << 30);
    in.threads = 2;
    in.max_num_seqs = 64;
    in.max_pass_tokens = 1024;
    plan_ = make_plan(in);
  }

  static nlohmann::json config() {
    auto c = qwen3_moe_config();
    c.update({{"hidden_size", 512},
              {"moe_intermediate_size", 256},
              {"num_experts", 32},
              {"num_experts_per_tok", 4},
              {"num_attention_heads", 8},
              {"num_key_value_heads", 2},
              {"head_dim", 64},
              {"num_hidden_layers", 3},
              {"vocab_size", 8000}});
    return c;
  }

  double true_seconds(const PassLoad& load, double predicted, int64_t pass) {
    const double rates = 1.3 * predicted + 4e-6 * load.prompt_tokens + 2e-5 * load.decodes + 5e-4;
    const double noise = std::uniform_real_distribution(0.85, 1.15)(random_);
    return rates * noise * (pass < 2 ? 3 : 1);
  }

  // Estimates as the job goes on, one for every twentieth that it has grown; the last is its whole duration.
  std::vector<Estimate> run(const std::vector<Real>& requests) {
    const PassCosts costs(spec_, work_, machine_, plan_, units_);
    const CostOf cost_of = [&](const PassLoad& load) { return costs.of(load); };
    Workload workload;
    for (const Real& r : requests) workload.requests.push_back(r.expected);
    Outlook outlook(plan_, cost_of, workload);
    Scheduler scheduler(plan_.sizes, plan_.kv.groups, plan_.kv_pages);
    std::vector<std::unique_ptr<Sequence>> finished;
    std::vector<Estimate> out;
    double now = 0;
    size_t next = 0;
    for (int64_t pass_idx = 0;; ++pass_idx) {
      for (; scheduler.wants_more() && next < requests.size(); ++next) {
        auto s = make(requests[next]);
        outlook.made(*s);
        scheduler.add(std::move(s));
      }
      if (scheduler.idle()) break;
      const Pass pass = scheduler.schedule();
      const PassLoad load = load_of(pass);
      const double seconds = true_seconds(load, cost_of(load).seconds, pass_idx);
      scheduler.commit(finished);
      for (const auto& s : finished) outlook.ended(*s);
      finished.clear();
      now += seconds;
      outlook.passed(load, seconds);
      if (!out.empty() && now < 1.05 * out.back().at) continue;
      const auto left = outlook.seconds_left(scheduler, static_cast<int64_t>(requests.size() - next));
      if (left) out.push_back({now, *left});
    }
    out.push_back({now, 0});
    return out;
  }

  std::unique_ptr<Sequence> make(const Real& r) {
    auto s = std::make_unique<Sequence>();
    s->prompt_len = r.prompt;
    s->tokens.assign(static_cast<size_t>(r.prompt), 0);
    Sampling sampling;
    sampling.max_tokens = r.expected.output_tokens;
    sampling.max_len = plan_.max_model_len;
    s->sampling = std::make_shared<const Sampling>(std::move(sampling));
    if (r.output < r.expected.output_tokens) s->stop_rule = std::make_unique<EndAfter>(r.output);
    return s;
  }

  // Time left is right within 15 % of itself and 2 % of the whole from the first tenth on.
  void expect_right(const std::string& name, const std::vector<Real>& requests) {
    const std::vector<Estimate> estimates = run(requests);
    const double whole = estimates.back().at;
    double worst = 0;
    int counted = 0;
    for (const Estimate& e : estimates) {
      if (e.at < 0.1 * whole || e.at >= whole) continue;
      const double left = whole - e.at;
      EXPECT_NEAR(e.left, left, 0.15 * left + 0.02 * whole) << name << " at " << 100 * e.at / whole << " %";
      if (e.at < 0.9 * whole) worst = std::max(worst, std::abs(e.left / left - 1));
      ++counted;
    }
    EXPECT_GT(counted, 20) << name;
    RecordProperty(name, std::to_string(worst));
    std::printf("%-24s %6.1f s, %3d estimates from 10 %% to 90 %%: off by %4.1f %% at most\n", name.c_str(), whole, counted, 100 * worst);
  }

  std::mt19937 random_{7};
  ModelSpec spec_;
  Machine machine_;
  ModelWork work_;
  std::vector<WeightUnit> units_;
  Plan plan_;
};

TEST_F(OutlookTest, RightWithin15PercentFromTheFirstTenthOn) {
  const auto up_to = [this](int64_t n) { return static_cast<int64_t>(random_() % static_cast<uint32_t>(n)); };
  std::vector<Real> uniform(1500, {{128, 64}, 150, 64});
  expect_right("uniform", uniform);
  std::vector<Real> few(64, {{100, 1000}, 120, 1000});
  expect_right("one wave", few);
  std::vector<Real> prompts(3000);
  for (Real& r : prompts) {
    r.prompt = 20 + up_to(600);
    r.expected = {static_cast<int32_t>(r.prompt * 3 / 4), 1};
    r.output = 1;
  }
  expect_right("prompts only", prompts);
  std::vector<Real> ragged(1500);
  for (Real& r : ragged) {
    r.prompt = 20 + up_to(300);
    r.expected = {static_cast<int32_t>(r.prompt * 5 / 4), static_cast<int32_t>(1 + up_to(200))};
    r.output = r.expected.output_tokens;
  }
  expect_right("ragged", ragged);
  std::vector<Real> stopping(1500);
  for (Real& r : stopping) {
    r.prompt = 50 + up_to(100);
    r.expected = {100, 2000};
    r.output = 1 + static_cast<int64_t>(std::exp(std::normal_distribution(4.0, 0.6)(random_)));
  }
  expect_right("answers that end early", stopping);
  std::vector<Real> tail = ragged;
  for (size_t i = 0; i < tail.size(); i += 100) {
    tail[i].expected.output_tokens = 1500;
    tail[i].output = 1500;
  }
  expect_right("long tail", tail);
  std::vector<Real> last(2000, {{60, 32}, 60, 32});  // those that are expected to be long come last
  for (size_t i = 1500; i < last.size(); ++i) last[i] = {{60, 128}, 60, 128};
  expect_right("long ones last", last);
}

TEST_F(OutlookTest, NothingIsSaidWhereNothingIsKnown) {
  const PassCosts costs(spec_, work_, machine_, plan_, units_);
  Outlook outlook(plan_, [&](const PassLoad& load) { return costs.of(load); }, {});
  const Scheduler scheduler(plan_.sizes, plan_.kv.groups, plan_.kv_pages);
  EXPECT_FALSE(outlook.seconds_left(scheduler, 0)) << "no pass yet";
  outlook.passed({4, 100, 0, 0, 4, 0}, 0.1);
  EXPECT_FALSE(outlook.seconds_left(scheduler, 5)) << "no lengths";
  EXPECT_EQ(outlook.seconds_left(scheduler, 0), 0);
}

TEST(PassFit, TellsWhatTheShapeOfThePredictionLacks) {
  PassFit fit;
  const auto load = [](double decodes, double prompts) { return PassLoad{decodes, decodes * 100, prompts, prompts * 50, decodes, 0}; };
  const auto predicted = [](double decodes, double prompts) { return 1e-3 + 1e-5 * decodes + 1e-5 * prompts; };
  const auto real = [&](double decodes, double prompts) { return 2 * predicted(decodes, prompts) + 0.004 + 3e-5 * prompts; };
  for (int i = 0; i < 300; ++i) {
    const double decodes = 10 + i % 50;
    const double prompts = i % 7 * 100;
    fit.add(predicted(decodes, prompts), load(decodes, prompts), i == 200 ? 50 : real(decodes, prompts));
  }
  fit.solve();
  for (const auto& [decodes, prompts] : {std::pair(30.0, 0.0), std::pair(30.0, 600.0), std::pair(1.0, 0.0), std::pair(0.0, 1000.0)})
    EXPECT_NEAR(fit.seconds(predicted(decodes, prompts), load(decodes, prompts)), real(decodes, prompts), 0.15 * real(decodes, prompts)) << decodes;
}

}  // namespace
}  // namespace moegen
