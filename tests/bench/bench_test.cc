// What the measurements refuse, and the fields of their JSON, with sizes so small that no figure means anything.
#include "moegen/bench.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>

#include "bench/model_cost.h"
#include "bench/report.h"
#include "plan/machine_file.h"
#include "profile/layer.h"
#include "tests/support/errors.h"
#include "tests/support/temp_dir.h"
#include "tests/support/test_clock.h"

namespace moegen {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;

constexpr uint64_t kTiny = 1 << 20;

// Also checks that `json` makes the difference between an object and a table.
template <typename Options>
Json run(void (*bench)(const Options&, std::ostream&), Options options) {
  std::ostringstream table, json;
  bench(options, table);
  EXPECT_THAT(table.str(), HasSubstr("threads"));
  options.json = true;
  bench(options, json);
  return Json::parse(json.str());
}

template <typename Options>
Options tiny() {
  Options o;
  o.threads = 2;
  o.samples = 2;
  o.memory = kTiny;
  return o;
}

void expect_rate(const Json& rate) {
  EXPECT_GT(rate.at("low").get<double>(), 0);
  EXPECT_LE(rate.at("low").get<double>(), rate.at("median").get<double>());
  EXPECT_LE(rate.at("median").get<double>(), rate.at("high").get<double>());
}

TEST(Report, LinesUpAndKeepsBaseUnitsInJson) {
  std::ostringstream table, json;
  for (const bool as_json : {false, true}) {
    Report report(as_json ? json : table, as_json, {{"bench", "x"}}, {{"name", "name"}, {"n", "n"}, {"rate", "GB/s", 1e9}});
    report.row({"a", int64_t{1}, Rate{2e9, 1e9, 3e9}});
    report.row({"longer", int64_t{1000}, Rate{2e9, 2e9, 2e9}});
    report.row({"lost", int64_t{1}, Cell(std::vector<double>())});
    report.note("said");
    report.finish();
  }
  std::istringstream lines(table.str());
  std::string about, heading, first, second, third, note;
  for (std::string* line : {&about, &heading, &first, &second, &third, &note}) std::getline(lines, *line);
  EXPECT_EQ(about, "bench: x");
  EXPECT_EQ(heading.size(), first.size());
  EXPECT_EQ(first.size(), second.size());
  EXPECT_THAT(first, HasSubstr("2.00 (1.00-3.00)"));
  EXPECT_EQ(third.size(), first.size());
  EXPECT_EQ(third.back(), '-');
  EXPECT_EQ(note, "said");
  const Json object = Json::parse(json.str());
  EXPECT_EQ(object.at("rows")[1], Json::parse(R"({"name":"longer","n":1000,"rate":{"median":2e9,"low":2e9,"high":2e9}})"));
  EXPECT_TRUE(object.at("rows")[2].at("rate").is_null());
  EXPECT_EQ(object.at("notes"), Json::array({"said"}));
}

TEST(Bench, MachineFileHasTheFieldsOfTheContract) {
  const TempDir dir;
  auto options = tiny<MachineBench>();
  options.directory = std::filesystem::path(MOEGEN_SOURCE_DIR) / "examples/kjv-moe";
  options.file_bytes = 2 * kTiny;
  options.samples = 1;
  options.seconds = 0.1;
  options.cache = dir.path();
  const Json file = run(bench_machine, options);  // measures, then takes the same from the cache
  EXPECT_TRUE(file.at("name").is_string());
  EXPECT_TRUE(file.at("gpu").is_null());
  EXPECT_TRUE(file.at("link").is_null());
  EXPECT_EQ(file.at("cpu").at("cores"), 2);
  EXPECT_GT(file.at("cpu").at("bf16_flops"), 0);
  EXPECT_GT(file.at("cpu").at("attention_flops"), 0);
  EXPECT_GT(file.at("dram").at("bytes"), 0);
  EXPECT_GT(file.at("dram").at("bandwidth"), 0);
  EXPECT_GT(file.at("ssd").at("bytes"), 0);
  EXPECT_TRUE(file.at("ssd").contains("read_bandwidth"));
  const Machine machine = parse_machine(file, "stdout");
  ASSERT_TRUE(machine.steps.has_value());
  EXPECT_GT(machine.mlp_seconds(2048, 768, 3, {}), 0);
  EXPECT_EQ(run(bench_machine, options), file) << "it was measured again";
  options.refresh = true;
  EXPECT_NE(run(bench_machine, options), file);
}

TEST(Bench, CopyMeasuresTheLinkOfADevice) {
  for (const char* direction : {"h2d", "d2h", "both"}) {
    auto options = tiny<CopyBench>();
    options.direction = direction;
    options.device = "emulated";
    const Json rows = run(bench_copy, options).at("rows");
    ASSERT_EQ(rows.size(), 2U) << "copies that are no larger than the memory";
    for (const Json& row : rows) EXPECT_GT(row.at("copy").at("median"), 0);
  }
}

TEST(Bench, GemmMeasuresExpertsAndProjections) {
  auto options = tiny<GemmBench>();
  options.shapes = {"64x96"};
  options.tokens = {1, 5};
  for (const auto& [dtype, weights] : {std::pair("bfloat16", "auto"), std::pair("float32", "auto"), std::pair("bfloat16", "fp8"),
                                       std::pair("bfloat16", "mxfp4"), std::pair("bfloat16", "int4")}) {
    options.dtype = dtype;
    options.weights = weights;
    const Json rows = run(bench_gemm, options).at("rows");
    ASSERT_EQ(rows.size(), 6U);
    for (const Json& row : rows) {
      EXPECT_EQ(row.at("shape"), "64x96");
      for (const char* rate : {"flops", "bandwidth", "peak_flops", "peak_bandwidth", "share"}) expect_rate(row.at(rate));
      EXPECT_THAT(row.at("roof").get<std::string>(), testing::AnyOf("compute", "DRAM"));
    }
    EXPECT_EQ(rows[0].at("op"), "experts");
    EXPECT_EQ(rows[3].at("tokens"), 5);
  }
}

TEST(Bench, AttentionMeasuresBothPhases) {
  auto options = tiny<AttentionBench>();
  options.heads = {"4:2"};
  options.contexts = {33};
  options.prompts = {40};
  options.head_dim = 16;
  const Json rows = run(bench_attention, options).at("rows");
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0].at("phase"), "decode");
  EXPECT_EQ(rows[0].at("context"), 33);
  EXPECT_EQ(rows[1].at("phase"), "prefill");
  for (const Json& row : rows) expect_rate(row.at("share"));
  options.window = 20;
  EXPECT_EQ(run(bench_attention, options).at("window"), 20);
  options.window = -1;
  std::ostringstream out;
  EXPECT_ERROR(bench_attention(options, out), ErrorCode::invalid_argument, "--window -1");
}

TEST(Bench, CopyGoesByThreads) {
  const Json rows = run(bench_copy, tiny<CopyBench>()).at("rows");
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[1].at("copy_threads"), 2);
  for (const Json& row : rows) expect_rate(row.at("copy"));
}

ThroughputBench tiny_throughput() {
  ThroughputBench options;
  options.engine.model = std::filesystem::path(MOEGEN_SOURCE_DIR) / "examples/kjv-moe";
  options.engine.threads = 2;
  options.engine.load_format = "dummy";
  options.engine.host_memory = 1 << 30;
  options.engine.kv_memory = 16 << 20;
  options.memory = kTiny;
  return options;
}

TEST(Bench, ThroughputRunsAModel) {
  ThroughputBench options = tiny_throughput();
  options.sequences = {2, 3};
  options.prompt = 5;
  options.generate = 4;
  options.ragged = true;
  const Json object = run(bench_throughput, options);
  ASSERT_EQ(object.at("rows").size(), 4U);
  EXPECT_EQ(object.at("rows")[2].at("phase"), "prefill");
  EXPECT_EQ(object.at("rows")[3].at("sequences"), 3);
  for (const Json& row : object.at("rows")) {
    for (const char* rate : {"compute_roof", "dram_roof"}) expect_rate(row.at(rate));
    for (const char* rate : {"tokens_per_second", "share"}) {
      if (row.at("phase") == "prefill" || !row.at(rate).is_null()) expect_rate(row.at(rate));
    }
  }
}

TEST(Bench, ThroughputOfStreamedWeightsSaysWhatStorageAndCoresWaitFor) {
  ThroughputBench options = tiny_throughput();
  options.engine.load_format = "auto";
  options.engine.weight_memory = 3 << 20;
  options.sequences = {2};
  const Json row = run(bench_throughput, options).at("rows")[0];
  expect_rate(row.at("storage"));
  for (const char* share : {"storage_idle", "cores_wait"}) {
    EXPECT_GE(row.at(share).at("low").get<double>(), 0);
    EXPECT_LE(row.at(share).at("high").get<double>(), 1);
  }
  options.engine.weight_memory.reset();
  EXPECT_FALSE(run(bench_throughput, options).at("rows")[0].contains("storage_idle"));
}

TEST(Bench, DecodeLostInTheNoiseOfPrefillHasNoRate) {
  const TestClock clock;  // stands still: both take no time
  ThroughputBench options = tiny_throughput();
  options.sequences = {2};
  options.samples = 2;
  const Json object = run(bench_throughput, options);
  EXPECT_TRUE(object.at("rows")[1].at("tokens_per_second").is_null());
  EXPECT_TRUE(object.at("rows")[1].at("share").is_null());
  expect_rate(object.at("rows")[1].at("dram_roof"));
  EXPECT_EQ(object.at("notes"), Json::array({"2 sequences: decode is lost in the noise of prefill in 2 of 2 runs: more --generate"}));
}

TEST(Bench, WorkOfAModelIsCountedByHand) {
  ModelSpec spec = bench_spec(8, 4, {2, 1, 4});  // q 8, k and v 4 each, experts of 3 x 8 x 4
  spec.vocab = 10;
  spec.layers[0].mlp.num_experts = 4;
  spec.layers[0].mlp.top_k = 2;
  const Work work = model_work(spec, DType::bf16, {.passes = 1, .tokens = 1, .keys = 5, .samples = 1, .experts_used = 0.75, .kv_reads = 5});
  const double always = 8 * 8 + 2 * 8 * 4 + 8 * 8 + 8 * 4;
  EXPECT_EQ(work.flops, 2 * (always + 2 * 96 + 80) + 4 * 5 * 8);
  EXPECT_EQ(work.bytes, 2 * (always + 3 * 96 + 80) + 5 * 2 * 4 * 2);
}

TEST(Bench, RefusesWhatMakesNoSense) {
  std::ostringstream out;
  const auto gemm = [&](const std::function<void(GemmBench&)>& change) {
    auto options = tiny<GemmBench>();
    change(options);
    bench_gemm(options, out);
  };
  EXPECT_ERROR(gemm([](GemmBench& o) { o.shapes = {"gpt-5"}; }), ErrorCode::invalid_argument, "--shape gpt-5: expected mixtral-8x7b");
  EXPECT_ERROR(gemm([](GemmBench& o) { o.shapes = {"0x4"}; }), ErrorCode::invalid_argument, "0x4");
  EXPECT_ERROR(gemm([](GemmBench& o) { o.tokens = {0}; }), ErrorCode::invalid_argument, "--tokens 0: expected 1 to");
  EXPECT_ERROR(gemm([](GemmBench& o) { o.dtype = "int8"; }), ErrorCode::invalid_argument, "--dtype int8");
  EXPECT_ERROR(gemm([](GemmBench& o) { o.weights = "fp4"; }), ErrorCode::invalid_argument,
               "--weights fp4: expected auto (as --dtype), fp8, mxfp4, int4, int4-128 or int8");
  EXPECT_ERROR(gemm([](GemmBench& o) { o.cpu_path = "mmx"; }), ErrorCode::invalid_argument, "mmx");
  EXPECT_ERROR(gemm([](GemmBench& o) { o.samples = 0; }), ErrorCode::invalid_argument, "--samples 0");
  EXPECT_ERROR(gemm([](GemmBench& o) { o.memory = 1; }), ErrorCode::invalid_argument, "--memory 1");
  EXPECT_ERROR(gemm([](GemmBench& o) { o.memory = uint64_t{1} << 50; }), ErrorCode::out_of_memory, "are available here");
  AttentionBench attention = tiny<AttentionBench>();
  attention.heads = {"6:4"};
  EXPECT_ERROR(bench_attention(attention, out), ErrorCode::invalid_argument, "--heads 6:4");
  CopyBench copy = tiny<CopyBench>();
  copy.direction = "h2d";
  copy.device = "cuda:99";
  EXPECT_ERROR(bench_copy(copy, out), ErrorCode::unsupported, "GPU");
  copy.device = "cpu";
  EXPECT_ERROR(bench_copy(copy, out), ErrorCode::invalid_argument, "--direction h2d");
  MachineBench machine = tiny<MachineBench>();
  machine.directory = "/nowhere";
  std::ostringstream nothing;
  EXPECT_ERROR(bench_machine(machine, nothing), ErrorCode::not_found, "/nowhere: no such directory");
  EXPECT_EQ(nothing.str(), "");
  machine.directory = ".";
  machine.kv_dtype = "int4";
  EXPECT_ERROR(bench_machine(machine, out), ErrorCode::invalid_argument, "--kv-dtype int4");
  machine = tiny<MachineBench>();
  machine.dtype = "float16";
  EXPECT_ERROR(bench_machine(machine, out), ErrorCode::invalid_argument, "--dtype float16");
  machine = tiny<MachineBench>();
  machine.memory = 1;
  EXPECT_ERROR(bench_machine(machine, out), ErrorCode::invalid_argument, "--memory 1");
  ThroughputBench throughput;
  throughput.generate = 1;
  EXPECT_ERROR(bench_throughput(throughput, out), ErrorCode::invalid_argument, "--generate 1: expected at least 2");
  throughput.generate = 2;
  throughput.memory = uint64_t{1} << 50;
  EXPECT_ERROR(bench_throughput(throughput, out), ErrorCode::out_of_memory, "are available here");
}

}  // namespace
}  // namespace moegen
