#include "pipeline/weight_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <random>
#include <thread>
#include <utility>

#include "checkpoint/weight_store.h"
#include "spec/families.h"
#include "tests/checkpoint/table_writer.h"
#include "tests/spec/configs.h"
#include "tests/support/errors.h"
#include "tests/support/fault_reader.h"
#include "tests/support/temp_dir.h"
#include "tests/support/test_clock.h"

namespace moegen {
namespace {

using ::testing::HasSubstr;

// A checkpoint of two shards with a known pattern in every tensor, and passes over it with random routing.
class WeightStreamTest : public ::testing::Test {
 protected:
  // `padding`: spaces behind the header, which move all tensors.
  void make(const nlohmann::json& config, size_t padding = 0, bool reversed = false) {
    dir_.write("config.json", config.dump());
    spec_ = load_spec(dir_.path());
    const auto table = tensor_table(spec_);
    SafetensorsWriter shards[2];
    nlohmann::json weight_map;
    for (size_t i = 0; i < table.size(); ++i) {
      const TensorSpec& t = table[reversed ? table.size() - 1 - i : i];
      const size_t shard = i * 5 / table.size() % 2;
      add_tensor(shards[shard], t, i % 7 == 3 ? DType::f32 : i % 7 == 5 ? DType::f16 : DType::bf16);
      if (t.slice <= 0) weight_map[t.name] = shard == 0 ? "a.safetensors" : "b.safetensors";
    }
    for (int i : {0, 1}) {
      std::string header = shards[i].header.dump();
      header.append((8 - header.size() % 8) % 8 + padding, ' ');
      dir_.write(i == 0 ? "a.safetensors" : "b.safetensors", SafetensorsWriter::file(header.size(), header + shards[i].data));
    }
    dir_.write("model.safetensors.index.json", nlohmann::json{{"weight_map", weight_map}}.dump());
    open();
  }

  void open() {
    checkpoint_.emplace(Checkpoint::open(dir_.path()));
    binding_ = bind(spec_, *checkpoint_);
    ASSERT_TRUE(binding_.fits());
    units_ = weight_units(binding_);
    ThreadPool pool(1);
    store_.emplace(binding_, DType::bf16, *checkpoint_, pool, std::vector<bool>(binding_.table.size(), true));
  }

  // All units but `resident` of each layer stream.
  WeightPlan plan(int slots, int resident = 0) const {
    WeightPlan p;
    p.slots = slots;
    for (size_t i = 0; i < units_.size(); ++i) {
      p.slot_bytes = std::max(p.slot_bytes, units_[i].slot_bytes);
      if (units_[i].expert >= resident || units_[i].expert < 0) p.streamed.push_back(static_cast<int32_t>(i));
    }
    return p;
  }

  std::unique_ptr<WeightStream> stream(const WeightPlan& p, const WeightStream::OpenReader& open = open_async_reader) const {
    return std::make_unique<WeightStream>(spec_, store_->views(), *checkpoint_, units_, p, open);
  }

  static WeightStream::OpenReader faulty(FaultReader::Spoil spoil) {
    return [spoil](unsigned depth, std::span<const std::span<std::byte>> buffers) -> std::unique_ptr<AsyncReader> {
      return std::make_unique<FaultReader>(open_async_reader(depth, buffers), spoil);
    };
  }

  void check(const WeightUnit& unit, const MlpWeights& weights) const {
    const auto there = [&](Role role, Part part) -> std::pair<const void*, const TensorView*> {
      if (part == Part::scales) return {role == Role::down ? weights.down.scales : weights.up.scales, nullptr};
      const TensorView* view = role == Role::up             ? &weights.up
                               : role == Role::down         ? &weights.down
                               : role == Role::gate_up_bias ? &weights.up_bias
                               : role == Role::down_bias    ? &weights.down_bias
                                                            : &weights.gate;
      return {view->data, view};
    };
    for (const WeightUnit::Tensor& tensor : unit.tensors) {
      const TensorSpec& t = binding_.table[tensor.table_idx];
      const auto [data, view] = there(t.role, t.part);
      const DType dtype = binding_.tensors[tensor.table_idx]->dtype;
      ASSERT_TRUE(view == nullptr || view->cols == t.shape.back());
      ASSERT_TRUE(view == nullptr || (t.role != Role::gate && t.role != Role::up && t.role != Role::down) || view->rows == t.shape[0]);
      ASSERT_TRUE(dtype == DType::f4 || reinterpret_cast<uintptr_t>(data) % moegen::bytes_of(dtype) == 0);
      const std::string want = bytes_in_memory(t, dtype);
      ASSERT_TRUE(std::string(static_cast<const char*>(data), want.size()) == want) << t.name;
    }
    ASSERT_EQ(weights.up.first, weights.gate.first + (unit.tensors.front().role == Role::gate ? 0 : 1));
  }

  // One pass in which each expert has tokens with the probability `touched`; returns the units taken.
  int run_pass(WeightStream& stream, const WeightPlan& p, int64_t tokens, double touched, uint32_t seed, int compute_us = 0) {
    std::mt19937 random(seed);
    int taken = 0;
    size_t s = 0;
    stream.begin_pass(tokens);
    for (size_t layer = 0; layer < spec_.layers.size(); ++layer) {
      const int experts = spec_.layers[layer].mlp.num_experts;
      std::vector<int32_t> begin(static_cast<size_t>(experts) + 1);
      for (int e = 0; e < experts; ++e)
        begin[static_cast<size_t>(e) + 1] = begin[static_cast<size_t>(e)] + (random() % 1000 < touched * 1000 ? 2 : 0);
      stream.routed(layer, experts > 0 ? begin.data() : nullptr);
      for (; s < p.streamed.size() && units_[static_cast<size_t>(p.streamed[s])].layer == static_cast<int>(layer); ++s) {
        const WeightUnit& unit = units_[static_cast<size_t>(p.streamed[s])];
        const auto e = static_cast<size_t>(unit.expert);
        if (unit.expert >= 0 && begin[e] == begin[e + 1]) continue;
        check(unit, stream.take(layer, unit.expert));
        if (compute_us > 0) std::this_thread::sleep_for(std::chrono::microseconds(compute_us));
        stream.release();
        ++taken;
      }
    }
    return taken;
  }

  TempDir dir_;
  ModelSpec spec_;
  std::optional<Checkpoint> checkpoint_;
  Binding binding_;
  std::vector<WeightUnit> units_;
  std::optional<WeightStore> store_;  // of nothing but scales
};

TEST_F(WeightStreamTest, EveryDepthAndRoutingBringsTheBytesOfTheFiles) {
  make(mixtral_config());
  for (const int slots : {1, 2, 3, 7, 16}) {
    for (const int resident : {0, 3}) {
      const WeightPlan p = plan(slots, resident);
      const auto s = stream(p);
      for (uint32_t pass = 0; pass < 30; ++pass) {
        const double touched = pass % 4 * 0.33;
        run_pass(*s, p, pass % 3 == 0 ? 1 : 4000, touched, pass);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_F(WeightStreamTest, TensorsAtOddOffsetsAndInAnyOrder) {
  for (const size_t padding : {0, 1, 3, 1234}) {
    for (const bool reversed : {false, true}) {
      make(qwen3_moe_config(), padding, reversed);
      const WeightPlan p = plan(3);
      const auto s = stream(p);
      for (uint32_t pass = 0; pass < 3; ++pass) run_pass(*s, p, 4000, 0.8, pass);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_F(WeightStreamTest, SlicesOfTensorsOfAllExperts) {
  for (const auto& config : {gpt_oss_config(), mxfp4_config(gpt_oss_config())}) {
    for (const size_t padding : {0, 1}) {
      make(config, padding, padding == 1);
      const WeightPlan p = plan(3, 1);
      const auto s = stream(p);
      for (uint32_t pass = 0; pass < 3; ++pass) run_pass(*s, p, 4000, 0.8, pass);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_F(WeightStreamTest, NeighbouringTensorsAreOneRead) {
  make(mixtral_config());
  size_t ranges = 0;
  for (const WeightUnit& u : units_) ranges += u.ranges.size();
  EXPECT_LE(ranges, units_.size() + 5) << "but for units that lie in two shards";
}

TEST_F(WeightStreamTest, AModelWithoutExpertsStreamsItsMlps) {
  make(llama_config());
  EXPECT_EQ(units_.size(), 3U);
  const WeightPlan p = plan(2);
  const auto s = stream(p);
  for (uint32_t pass = 0; pass < 5; ++pass) EXPECT_EQ(run_pass(*s, p, 1, 0, pass), 3);
}

TEST_F(WeightStreamTest, WhatHasNoTokensIsNotRead) {
  make(mixtral_config());
  const WeightPlan p = plan(4);
  const auto s = stream(p);
  uint64_t largest = 0;
  for (const WeightUnit& u : units_) largest = std::max(largest, u.slot_bytes);
  uint64_t taken = 0;
  for (uint32_t pass = 0; pass < 20; ++pass) taken += static_cast<uint64_t>(run_pass(*s, p, 1, 0.25, pass));
  EXPECT_GT(taken, 20U);
  EXPECT_LE(s->counters().bytes_read, taken * largest) << "few tokens: what is read waits for the routing";
  run_pass(*s, p, 4000, 0, 7);
  run_pass(*s, p, 1, 0, 7);
}

TEST_F(WeightStreamTest, ReadsAheadOnlyWhereHardlyAnExpertStaysWithoutTokens) {
  MlpSpec m;
  EXPECT_EQ(read_ahead_tokens(m), 1) << "no routing at all";
  m.num_experts = 128;
  m.top_k = 8;
  EXPECT_EQ(read_ahead_tokens(m), 61);
  m.num_experts = 8;
  m.top_k = 2;
  EXPECT_EQ(read_ahead_tokens(m), 14);
  m.top_k = 8;
  EXPECT_EQ(read_ahead_tokens(m), 1);
}

TEST_F(WeightStreamTest, TheNextLayerAndTheNextPassAreOnTheirWay) {
  make(mixtral_config());
  const WeightPlan p = plan(8);
  const auto s = stream(p);
  s->begin_pass(4000);
  for (int pass = 0; pass < 3; ++pass) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    const double before = s->counters().wait_seconds;
    s->routed(0, std::vector<int32_t>{0, 1, 2, 3, 4, 5, 6, 7, 8}.data());
    for (int e = 0; e < 8; ++e) {
      check(units_[static_cast<size_t>(e)], s->take(0, e));
      s->release();
    }
    EXPECT_EQ(s->counters().wait_seconds, before) << "all eight slots were filled before the pass asked";
    const std::vector<int32_t> nobody(9);
    s->routed(1, nobody.data());
    s->routed(2, nobody.data());
    s->begin_pass(4000);
  }
}

TEST_F(WeightStreamTest, ThreadsDoWhatIoUringDoes) {
  make(mixtral_config());
  const WeightPlan p = plan(3);
  const auto s = stream(p, [](unsigned depth, auto) { return open_pread_reader(depth); });
  EXPECT_EQ(s->reader_name(), "threads");
  for (uint32_t pass = 0; pass < 10; ++pass) run_pass(*s, p, 4000, 0.7, pass);
}

TEST_F(WeightStreamTest, ShortInterruptedAndSlowReadsChangeNothing) {
  make(mixtral_config());
  std::mt19937 random(3);
  const auto spoil = [&](const ReadRequest&, ReadResult& result) {
    const auto dice = random() % 6;
    if (dice == 0 && result.bytes > 8192) result.bytes = 4096 + static_cast<int64_t>(random() % 8192 % static_cast<uint32_t>(result.bytes - 4096));
    if (dice == 1) result.bytes = -EINTR;
    if (dice == 2) std::this_thread::sleep_for(std::chrono::microseconds(300));
  };
  for (const int slots : {1, 4}) {
    const WeightPlan p = plan(slots);
    const auto s = stream(p, faulty(spoil));
    for (uint32_t pass = 0; pass < 10; ++pass) run_pass(*s, p, 4000, 0.7, pass, 50);
    EXPECT_GT(s->counters().read_seconds, 0);
    EXPECT_GT(s->counters().wait_seconds, 0);
  }
}

TEST_F(WeightStreamTest, WaitingForASlowReadIsWhatTheClockSays) {
  make(mixtral_config());
  TestClock clock;
  std::atomic<const WeightStream*> waiter{nullptr};
  bool first = true;
  const WeightPlan p = plan(4);
  const auto s = stream(p, faulty([&](const ReadRequest&, ReadResult&) {
                          if (!std::exchange(first, false)) return;
                          while (waiter.load() == nullptr || !waiter.load()->waiting()) std::this_thread::yield();
                          clock.go_on(std::chrono::seconds(7));
                        }));
  waiter = s.get();
  s->begin_pass(4000);
  s->routed(0, std::vector<int32_t>{0, 1, 2, 3, 4, 5, 6, 7, 8}.data());
  for (int e = 0; e < 8; ++e) {
    check(units_[static_cast<size_t>(e)], s->take(0, e));
    s->release();
  }
  EXPECT_EQ(s->counters().wait_seconds, 7);
  EXPECT_EQ(s->counters().read_seconds, 7);
}

TEST_F(WeightStreamTest, AnErrorIsThrownWithFileAndOffsetFromThenOn) {
  make(mixtral_config());
  int reads = 0;
  const WeightPlan p = plan(4);
  const auto s = stream(p, faulty([&](const ReadRequest&, ReadResult& result) {
                          if (++reads == 40) result.bytes = -EIO;
                        }));
  std::string text;
  for (uint32_t pass = 0; pass < 20 && text.empty(); ++pass) {
    try {
      run_pass(*s, p, 4000, 1, pass);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::io);
      text = e.what();
    }
  }
  EXPECT_THAT(text, HasSubstr(".safetensors: reading "));
  EXPECT_THAT(text, HasSubstr(" at offset "));
  EXPECT_THAT(text, HasSubstr("Input/output error"));
  const std::string again = error_of([&] { run_pass(*s, p, 4000, 1, 0); }).what();
  EXPECT_EQ(again, text);
}

TEST_F(WeightStreamTest, AFileCutOffWhileAPassRunsIsAnError) {
  make(mixtral_config());
  const WeightPlan p = plan(2);
  const auto s = stream(p);
  s->begin_pass(1);
  std::filesystem::resize_file(dir_.path() / "a.safetensors", 5000);
  s->routed(0, std::vector<int32_t>{0, 1, 2, 3, 4, 5, 6, 7, 8}.data());
  const std::string text = error_of([&] { static_cast<void>(s->take(0, 0)); }).what();
  EXPECT_THAT(text, HasSubstr("a.safetensors: reading "));
  EXPECT_THAT(text, HasSubstr("the file ends there"));
}

TEST_F(WeightStreamTest, AFileThatChangedIsNoticedWhenThePassBegins) {
  make(mixtral_config());
  const WeightPlan p = plan(2);
  const auto s = stream(p);
  run_pass(*s, p, 4000, 1, 0);
  std::fstream(dir_.path() / "b.safetensors", std::ios::in | std::ios::out | std::ios::binary).seekp(2000) << "other weights";
  EXPECT_ERROR(s->begin_pass(4000), ErrorCode::io, "b.safetensors: was written to while in use");
  std::filesystem::resize_file(dir_.path() / "b.safetensors", 5000);
  EXPECT_ERROR(s->begin_pass(4000), ErrorCode::io, "b.safetensors: now has 5000 bytes");
}

// What was opened stays readable: a checkpoint that is deleted or replaced by new files does not disturb the run.
TEST_F(WeightStreamTest, AFileThatVanishedIsStillRead) {
  make(mixtral_config());
  const WeightPlan p = plan(2);
  const auto s = stream(p);
  run_pass(*s, p, 4000, 1, 0);
  for (const char* file : {"a.safetensors", "b.safetensors"}) {
    std::filesystem::remove(dir_.path() / file);
    dir_.write(file, "something else");
  }
  EXPECT_EQ(run_pass(*s, p, 4000, 1, 1), 24);
}

TEST_F(WeightStreamTest, EndsAtAnyMoment) {
  make(mixtral_config());
  const WeightPlan p = plan(5);
  for (int i = 0; i < 20; ++i) {
    const auto s = stream(p);
    if (i % 4 > 0) s->begin_pass(4000);
    if (i % 4 > 1) s->routed(0, std::vector<int32_t>(9, 0).data());
    std::this_thread::sleep_for(std::chrono::microseconds(i * 50));
  }
}

}  // namespace
}  // namespace moegen
