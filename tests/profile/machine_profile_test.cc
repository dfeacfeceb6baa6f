// The profile of this machine: its fields with sizes so small that no figure means anything, and the cache that keeps it.
#include "profile/machine_profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "device/emulated/emulated_device.h"
#include "kernels/cuda/emulated/emulated_kernels.h"
#include "plan/machine_file.h"
#include "profile/disk.h"
#include "profile/gpu_rates.h"
#include "profile/shapes.h"
#include "spec/families.h"
#include "tests/spec/configs.h"
#include "tests/support/errors.h"
#include "tests/support/temp_dir.h"

namespace moegen {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

constexpr uint64_t kTiny = 1 << 20;
const char* const kMachine = R"({"name":"x","cpu":{"cores":2,"bf16_flops":1e12,"attention_flops":1e11},"dram":{"bytes":1,"bandwidth":1e10}})";

ModelSpec small_model() {
  ModelSpec spec = default_model();
  spec.hidden = 64;
  spec.vocab = 300;
  AttentionSpec& a = spec.layers[0].attention;
  a.num_heads = 4;
  a.num_kv_heads = 2;
  a.head_dim = a.rope.dim = 16;
  spec.layers[0].mlp.width = 96;
  spec.layers[0].mlp.num_experts = 8;
  spec.layers[0].mlp.top_k = 2;
  return spec;
}

class MachineProfileTest : public ::testing::Test {
 protected:
  MachineProfileTest() {
    input_.spec = &spec_;
    input_.cpu_path = "avx2";
    input_.threads = 2;
    input_.directory = dir_.path();
    input_.memory = kTiny;
    input_.file_bytes = 2 * kTiny;
    input_.effort = {.rounds = 1, .seconds = 0.01};
    input_.cache = dir_.path() / "a" / "cache";
    input_.build = "this one";
  }
  // In place of measuring.
  MachineProfile profile() {
    return machine_profile(input_, [this](const ProfileInput& in) {
      Machine m = parse_machine(nlohmann::json::parse(kMachine), "here");
      m.cpu.cores += ++measured_;  // another one each time
      m.measured = Machine::Origin{"2026-11-23T20:00:00Z", 20, in.build};
      m.steps.emplace();
      return m;
    });
  }
  [[nodiscard]] fs::path file() const { return profile_file(input_.cache, profile_key(input_)); }

  TempDir dir_;
  ModelSpec spec_ = small_model();
  ProfileInput input_;
  int measured_ = 0;
};

TEST_F(MachineProfileTest, HasEveryStepOfTheModel) {
  spec_.layers.push_back(spec_.layers[0]);
  spec_.layers[1].mlp = {};
  spec_.layers[1].mlp.width = 160;
  const Machine m = measure_machine(input_);
  EXPECT_EQ(m.cpu.cores, 2);
  EXPECT_EQ(m.cpu.path, "avx2");
  EXPECT_EQ(m.dram.by_threads.points.size(), 2U);
  EXPECT_EQ(m.measured->build, "this one");
  EXPECT_FALSE(m.gpu || m.link);
  ASSERT_TRUE(m.steps.has_value());
  EXPECT_EQ(m.steps->mlps.size(), 2U);
  EXPECT_EQ(m.steps->mlps[1].width, 160);
  EXPECT_EQ(m.steps->linears.size(), 4U);  // head, q and o alike, k and v, router
  ASSERT_EQ(m.steps->attentions.size(), 1U);
  EXPECT_FALSE(m.steps->attentions[0].decode.empty());
  const StepRates::Rows& r = m.steps->rows;
  for (const Curve* curve : {&r.embed, &r.norm, &r.place, &r.route, &r.combine, &r.argmax, &r.draw}) EXPECT_FALSE(curve->empty());
  EXPECT_GT(m.steps->fork_join_seconds, 0);
  EXPECT_GT(m.steps->pass_seconds, 0);
  EXPECT_TRUE(parse_machine(nlohmann::json::parse(to_json(m).dump()), "text") == m);
}

TEST_F(MachineProfileTest, MeasuresWeightsAsTheyAreCoded) {
  const std::string plain = profile_key(input_);
  auto config = qwen3_moe_config();
  config.update({{"hidden_size", 96}, {"moe_intermediate_size", 32}, {"intermediate_size", 64}, {"num_experts", 4}, {"vocab_size", 300}});
  for (const auto& [dtype, quantisation] : std::vector<std::pair<DType, nlohmann::json>>{
           {DType::f8_e4m3, {{"quant_method", "fp8"}, {"weight_block_size", {128, 128}}}},
           {DType::u8, {{"quant_method", "gptq"}, {"bits", 8}, {"group_size", -1}, {"desc_act", false}, {"sym", true}}}}) {
    config["quantization_config"] = quantisation;
    spec_ = read_spec(Config(config, "config.json"));
    EXPECT_NE(profile_key(input_), plain);
    const Machine m = measure_machine(input_);
    for (const StepRates::Mlp& mlp : m.steps->mlps) {
      EXPECT_EQ(mlp.weights, dtype);
      EXPECT_FALSE(mlp.flops.empty());
    }
    const auto count = [&](DType of) {
      return std::count_if(m.steps->linears.begin(), m.steps->linears.end(), [of](const auto& l) { return l.weights == of; });
    };
    EXPECT_EQ(count(DType::bf16), 2) << "head and router";
    EXPECT_GE(count(dtype), 2) << "attention";
    EXPECT_TRUE(parse_machine(nlohmann::json::parse(to_json(m).dump()), "text") == m);
  }
}

TEST_F(MachineProfileTest, MeasuresAGpuToo) {
  const std::string without = profile_key(input_);
  EmulatedDevice device(emulated_kernels(), {.seed = 3});
  input_.device = &device;
  EXPECT_NE(profile_key(input_), without);
  for (const bool latent : {false, true}) {
    if (latent) {
      AttentionSpec& a = spec_.layers[0].attention;
      a.latent = {32, 32, 16, 8, 16};
      a.num_kv_heads = 1;
      a.head_dim = 40;
    }
    const Machine m = measure_machine(input_);
    ASSERT_TRUE(m.gpu && m.link);
    EXPECT_EQ(m.gpu->name, device.name());
    EXPECT_GT(m.gpu->memory_bytes, 0);
    ASSERT_FALSE(m.gpu->products.empty());
    EXPECT_EQ(m.gpu->products.best(), m.gpu->bf16_flops);
    for (const double rate : {m.gpu->memory_bandwidth, m.gpu->attention_flops.value_or(0), m.gpu->attention_bandwidth.value_or(0), m.link->h2d,
                              m.link->d2h, m.link->both.value_or(0)})
      EXPECT_GT(rate, 0);
    EXPECT_TRUE(parse_machine(nlohmann::json::parse(to_json(m).dump()), "text") == m);
  }
  const GpuRates narrow = measure_gpu(device, {shapes_of(spec_), DType::bf16, DType::bf16, 1 << 15, {1, 0}});
  EXPECT_FALSE(narrow.gpu.products.empty()) << "of two experts with as many columns as the memory holds";
  input_.memory = 1 << 14;
  EXPECT_THROW(static_cast<void>(measure_gpu(device, {shapes_of(spec_), DType::bf16, DType::bf16, input_.memory, {}})), Error);
}

TEST_F(MachineProfileTest, MeasuresLatentAttention) {
  AttentionSpec& a = spec_.layers[0].attention;
  a.latent = {32, 32, 16, 8, 16};
  a.num_kv_heads = 1;
  a.head_dim = 40;
  a.rope.dim = 8;
  const Machine m = measure_machine(input_);
  ASSERT_EQ(m.steps->attentions.size(), 1U);
  EXPECT_EQ(m.steps->attentions[0].shape, AttentionShape(a));
  EXPECT_EQ(m.steps->linears.size(), 8U) << "head, router, and six of the attention";
}

TEST_F(MachineProfileTest, TakesEveryDTypeAndDenseModels) {
  spec_.layers[0].mlp = {};
  spec_.layers[0].mlp.width = 96;
  input_.kv_dtype = DType::i8;
  EXPECT_TRUE(measure_machine(input_).steps->rows.route.empty());
  spec_.dtype = DType::f32;
  input_.act = input_.kv_dtype = DType::f32;
  EXPECT_EQ(measure_machine(input_).steps->mlps[0].weights, DType::f32);
}

TEST_F(MachineProfileTest, IsMeasuredOnce) {
  const MachineProfile first = profile();
  EXPECT_THAT(first.source, StartsWith("measured now, in 20 s"));
  EXPECT_THAT(first.warnings, IsEmpty());
  const MachineProfile second = profile();
  EXPECT_THAT(second.source, StartsWith("from " + file().string() + ", measured at 2026-11-23T20:00:00Z"));
  EXPECT_TRUE(first.machine == second.machine);
  EXPECT_EQ(measured_, 1);
  input_.refresh = true;
  EXPECT_THAT(profile().source, StartsWith("measured now"));
  const auto entries = fs::directory_iterator(input_.cache);
  EXPECT_EQ(std::distance(begin(entries), end(entries)), 1) << "something unfinished stayed";
}

TEST_F(MachineProfileTest, HasAKeyOfAllThatMatters) {
  const std::string key = profile_key(input_);
  EXPECT_EQ(profile_key(input_), key);
  const auto changes = [&](const auto& change) {
    ProfileInput other = input_;
    ModelSpec model = spec_;
    other.spec = &model;
    change(other, model);
    EXPECT_NE(profile_key(other), key);
    EXPECT_NE(profile_file("/", profile_key(other)), profile_file("/", key));
  };
  changes([](ProfileInput& in, ModelSpec&) { in.cpu_path = "reference"; });
  changes([](ProfileInput& in, ModelSpec&) { in.threads = 1; });
  changes([](ProfileInput& in, ModelSpec&) { in.directory = "/proc"; });  // another file system
  changes([](ProfileInput& in, ModelSpec&) { in.kv_dtype = DType::i8; });
  changes([](ProfileInput& in, ModelSpec&) { in.act = DType::f32; });
  changes([](ProfileInput& in, ModelSpec&) { in.spec = nullptr; });
  changes([](ProfileInput&, ModelSpec& model) { model.dtype = DType::f32; });
  changes([](ProfileInput&, ModelSpec& model) { model.layers[0].mlp.width = 128; });
  changes([](ProfileInput&, ModelSpec& model) { model.layers[0].attention.num_kv_heads = 1; });
  changes([](ProfileInput&, ModelSpec& model) { model.vocab = 301; });
}

TEST_F(MachineProfileTest, ABrokenFileIsMeasuredAgain) {
  static_cast<void>(profile());
  const std::string good = read_text_file(file(), 1 << 20);
  std::string of_another = good;
  of_another.replace(of_another.find("\"format\":"), 10, "\"format\":0");
  for (const std::string& bad : {std::string(), good.substr(0, good.size() / 2), std::string("[]"), std::string("{\"key\":1,\"machine\":null}"),
                                 of_another, std::string("{\"machine\":") + good + "}"}) {
    static_cast<void>(dir_.write(file(), bad));
    const MachineProfile again = profile();
    EXPECT_THAT(again.source, StartsWith("measured now")) << bad.substr(0, 100);
    EXPECT_THAT(profile().source, StartsWith("from")) << "it was not mended";
  }
  dir_.write(file(), good.substr(0, 40));
  EXPECT_THAT(profile().warnings.at(0), HasSubstr("measuring anew"));
}

TEST_F(MachineProfileTest, ACacheThatCannotBeWrittenIsAWarning) {
  dir_.write("a", "a file where a folder should be");
  const MachineProfile unkept = profile();
  EXPECT_THAT(unkept.source, StartsWith("measured now"));
  EXPECT_THAT(unkept.warnings.back(), HasSubstr("cannot keep the profile there"));
  input_.cache.clear();
  EXPECT_THAT(profile().warnings.at(0), HasSubstr("XDG_CACHE_HOME"));
}

TEST_F(MachineProfileTest, RefusesWhatIsNotThere) {
  input_.directory = dir_.path() / "none";
  EXPECT_ERROR(machine_profile(input_), ErrorCode::not_found, "none");
  input_.directory = dir_.path();
  input_.cpu_path = "mmx";
  EXPECT_ERROR(machine_profile(input_), ErrorCode::invalid_argument, "mmx");
}

TEST(Cache, LiesWhereTheStandardSays) {
  const auto with = [](const char* cache, const char* home) {
    ::setenv("XDG_CACHE_HOME", cache, 1);
    ::setenv("HOME", home, 1);
    return ProfileInput::default_cache_folder();
  };
  EXPECT_EQ(with("/c", "/h"), "/c/moegen");
  EXPECT_EQ(with("", "/h"), "/h/.cache/moegen");
  EXPECT_EQ(with("relative", "/h"), "/h/.cache/moegen");
  EXPECT_EQ(with("", ""), "");
}

TEST(Disk, ReadsShardsWhereTheyAreLargeEnough) {
  const TempDir dir;
  const Effort effort{.rounds = 1, .seconds = 0};
  dir.write("model.safetensors", std::string(3 * kTiny + 5, 'x'));
  const Machine::Ssd shards = disk_profile(dir.path(), 2 * kTiny, effort);
  const Machine::Ssd temporary = disk_profile(dir.path(), 4 * kTiny, effort);
  if (!shards.read_bandwidth) GTEST_SKIP() << shards.note;
  const auto entries = fs::directory_iterator(dir.path());
  EXPECT_EQ(std::distance(begin(entries), end(entries)), 1) << "the temporary file stayed";
  EXPECT_THAT(shards.note, HasSubstr("shards"));
  EXPECT_EQ(shards.by_depth.lines.front().curve.points.back().x, 2 * kTiny);  // 4 MiB are more than there are
  EXPECT_THAT(temporary.note, HasSubstr("temporary file of 4.0 MiB"));
  EXPECT_EQ(temporary.by_depth.lines.front().curve.points.back().x, 4 * kTiny);
}

TEST(Disk, AFileSmallerThanAPieceHasRatesToo) {
  const TempDir dir;
  const Machine::Ssd ssd = disk_profile(dir.path(), kLeastFileBytes, {1, 0.01});
  if (!ssd.read_bandwidth) GTEST_SKIP() << ssd.note;
  const Together t = read_beside(dir.path(), kLeastFileBytes, [] { return 1.0; }, {1, 0.01});
  EXPECT_GT(t.reads, 0);
  EXPECT_EQ(t.compute, 1);
}

TEST(Disk, SaysWhyThereIsNoRate) {
  const Effort effort{.rounds = 1, .seconds = 0};
  const Machine::Ssd none = disk_profile("/proc", kTiny, effort);  // no place for a file
  EXPECT_FALSE(none.read_bandwidth.has_value());
  EXPECT_TRUE(none.by_depth.empty());
  EXPECT_THAT(none.note, HasSubstr("cannot make a file"));
  if (fs::exists("/dev/shm")) {
    EXPECT_THAT(disk_profile("/dev/shm", kTiny, effort).note, HasSubstr("memory"));
  }
}

}  // namespace
}  // namespace moegen
