#include "checkpoint/weight_store.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <set>

#include "spec/families.h"
#include "tests/checkpoint/table_writer.h"
#include "tests/spec/configs.h"
#include "tests/support/errors.h"
#include "tests/support/temp_dir.h"
#include "tests/support/test_clock.h"

namespace moegen {
namespace {

constexpr size_t kPiece = 16 << 20;  // weight_store.cc reads in pieces of this size

std::string bytes_of(const TensorView& view) {
  const auto* p = static_cast<const char*>(view.data);
  return {p, static_cast<size_t>(view.rows * view.cols) * bytes_of(view.dtype)};
}

// A model in two shards, written in reverse, each tensor in another dtype; one tensor is larger than a piece of the reader.
TEST(WeightStore, HasTheBytesOfTheFiles) {
  const TempDir dir;
  auto config = qwen3_moe_config();
  config["vocab_size"] = (kPiece / 2 + 4096) / 64 + 1;
  dir.write("config.json", config.dump());
  const ModelSpec spec = load_spec(dir.path());
  auto table = tensor_table(spec);
  SafetensorsWriter shards[2];
  nlohmann::json weight_map;
  for (size_t i = table.size(); i-- > 0;) {
    const DType dtype = i == 0 ? DType::bf16 : i % 3 == 0 ? DType::f32 : i % 3 == 1 ? DType::f16 : DType::bf16;
    shards[i % 2].add(table[i].name, dtype, table[i].shape);
    weight_map[table[i].name] = i % 2 == 0 ? "even.safetensors" : "odd.safetensors";
  }
  dir.write("even.safetensors", shards[0].file());
  dir.write("odd.safetensors", shards[1].file());
  dir.write("model.safetensors.index.json", nlohmann::json{{"weight_map", weight_map}}.dump());
  const Checkpoint checkpoint = Checkpoint::open(dir.path());
  const Binding binding = bind(spec, checkpoint);
  ASSERT_TRUE(binding.fits());
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    const WeightStore store(binding, DType::bf16, checkpoint, pool);
    EXPECT_EQ(store.bytes(), WeightStore::bytes_needed(binding, DType::bf16));
    ASSERT_EQ(store.views().size(), table.size());
    for (size_t i = 0; i < table.size(); ++i) {
      const TensorView& view = store.views()[i];
      ASSERT_EQ(view.cols, table[i].shape.back());
      ASSERT_EQ(reinterpret_cast<uintptr_t>(view.data) % 64, 0U);
      const std::string bytes = bytes_of(view);
      ASSERT_EQ(bytes.size(), binding.tensors[i]->bytes);
      ASSERT_TRUE(bytes == SafetensorsWriter::pattern(table[i].name, bytes.size())) << table[i].name;
    }
  }
}

TEST(WeightStore, SlicesAreApartAndTurned) {
  for (const auto& config : {gpt_oss_config(), mxfp4_config(gpt_oss_config())}) {
    const TempDir dir;
    dir.write("config.json", config.dump());
    const auto table = tensor_table(load_spec(dir.path()));
    SafetensorsWriter w;
    for (size_t i = 0; i < table.size(); ++i) add_tensor(w, table[i], i % 2 == 0 ? DType::f32 : DType::bf16);
    dir.write("model.safetensors", w.file());
    const Checkpoint checkpoint = Checkpoint::open(dir.path());
    const Binding binding = bind(load_spec(dir.path()), checkpoint);
    ASSERT_TRUE(binding.fits());
    ThreadPool pool(2);
    const WeightStore store(binding, DType::bf16, checkpoint, pool);
    EXPECT_EQ(store.bytes(), WeightStore::bytes_needed(binding, DType::bf16));
    for (size_t i = 0; i < table.size(); ++i) {
      const TensorView& view = store.views()[i];
      const std::string want = bytes_in_memory(table[i], view.dtype);
      ASSERT_TRUE(std::string(static_cast<const char*>(view.data), want.size()) == want) << table[i].name << " " << table[i].slice;
    }
    const WeightStore dummy(table, DType::bf16, DType::bf16, pool);
    EXPECT_EQ(dummy.bytes(), WeightStore::bytes_needed(table, DType::bf16, DType::bf16));
  }
}

// A checkpoint with all tensors of a small Llama.
struct SmallLlama {
  TempDir dir;
  std::filesystem::path file;
  SmallLlama() {
    dir.write("config.json", llama_config().dump());
    SafetensorsWriter w;
    for (const TensorSpec& t : tensor_table(load_spec(dir.path()))) w.add(t.name, DType::f32, t.shape);
    file = dir.write("model.safetensors", w.file());
  }
};

TEST(WeightStore, AFileCutOffBehindItsHeaderIsAnError) {
  const SmallLlama model;
  const Checkpoint checkpoint = Checkpoint::open(model.dir.path());
  const Binding binding = bind(load_spec(model.dir.path()), checkpoint);
  std::filesystem::resize_file(model.file, std::filesystem::file_size(model.file) - 1);
  ThreadPool pool(2);
  EXPECT_ERROR(WeightStore(binding, DType::bf16, checkpoint, pool), ErrorCode::io, "model.safetensors");
}

TEST(WeightStore, SaysHowFarItIs) {
  const SmallLlama model;
  const Checkpoint checkpoint = Checkpoint::open(model.dir.path());
  const Binding binding = bind(load_spec(model.dir.path()), checkpoint);
  ThreadPool pool(2);
  const HurriedClock clock;
  std::vector<uint64_t> said;
  const WeightStore store(binding, DType::bf16, checkpoint, pool, {}, [&](uint64_t bytes, uint64_t all) {
    EXPECT_EQ(all, WeightStore::bytes_needed(binding, DType::bf16));
    said.push_back(bytes);
  });
  EXPECT_EQ(said.size(), binding.table.size());
  EXPECT_TRUE(std::is_sorted(said.begin(), said.end()));
  EXPECT_LE(said.back(), WeightStore::bytes_needed(binding, DType::bf16));
}

TEST(DummyWeights, DoNotDependOnTheNumberOfThreads) {
  const auto table = tensor_table(read_spec(Config(qwen3_moe_config(), "c")));
  ThreadPool one(1);
  ThreadPool three(3);
  const WeightStore a(table, DType::bf16, DType::bf16, one);
  const WeightStore b(table, DType::bf16, DType::bf16, three);
  for (size_t i = 0; i < table.size(); ++i) ASSERT_TRUE(bytes_of(a.views()[i]) == bytes_of(b.views()[i])) << table[i].name;
  EXPECT_EQ(a.bytes(), WeightStore::bytes_needed(table, DType::bf16, DType::bf16));
}

TEST(DummyWeights, NormsAreOneAndTheRestIsNormalWithDeviationTwoPercent) {
  const auto table = tensor_table(read_spec(Config(llama_config(), "c")));
  ThreadPool pool(2);
  const WeightStore store(table, DType::f32, DType::f32, pool);
  for (size_t i = 0; i < table.size(); ++i) {
    const TensorView& view = store.views()[i];
    const auto n = static_cast<size_t>(view.rows * view.cols);
    const std::vector<float> x(static_cast<const float*>(view.data), static_cast<const float*>(view.data) + n);
    const double mean = std::accumulate(x.begin(), x.end(), 0.0) / static_cast<double>(n);
    const double square = std::inner_product(x.begin(), x.end(), x.begin(), 0.0) / static_cast<double>(n);
    if (table[i].shape.size() == 1) {
      EXPECT_EQ(square, 1) << table[i].name;
      continue;
    }
    const double error = 0.02 / std::sqrt(static_cast<double>(n));
    EXPECT_NEAR(mean, 0, 5 * error) << table[i].name;
    EXPECT_NEAR(std::sqrt(square), 0.02, 5 * error) << table[i].name;
  }
}

TEST(DummyWeights, NoTwoTensorsAreAlike) {
  const auto table = tensor_table(read_spec(Config(mixtral_config(), "c")));
  ThreadPool pool(1);
  const WeightStore store(table, DType::bf16, DType::bf16, pool);
  std::set<std::string> seen;
  size_t matrices = 0;
  for (size_t i = 0; i < table.size(); ++i) {
    if (table[i].shape.size() < 2) continue;
    ++matrices;
    seen.insert(bytes_of(store.views()[i]).substr(0, 64));
  }
  EXPECT_EQ(seen.size(), matrices);
}

}  // namespace
}  // namespace moegen
