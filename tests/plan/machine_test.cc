// Curves between and beyond their points; machine files: the way there and back, and what is refused.
#include "plan/machine.h"

#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "plan/machine_file.h"
#include "tests/support/errors.h"
#include "tests/support/temp_dir.h"

namespace moegen {
namespace {

using Json = nlohmann::json;

Curve line(double x0, double y0, double x1, double y1) { return {{{x0, y0, 0.01}, {x1, y1, 0.25}}}; }

const char* const kFile = R"({"name": "A5000 box", "gpu": {"name": "A5000", "memory_bytes": 25769803776, "bf16_flops": 75e12, "fp8_flops": null,
  "memory_bandwidth": 768e9}, "link": {"h2d": 25e9, "d2h": 24e9}, "cpu": {"cores": 28, "bf16_flops": 1.5e12, "attention_flops": 5e11},
  "dram": {"bytes": 549755813888, "bandwidth": 150e9}, "ssd": {"bytes": 2e12, "read_bandwidth": 7e9}})";

// Every field has a value of its own.
Machine full() {
  Machine m = parse_machine(Json::parse(kFile), "here");
  m.gpu->fp8_flops = 1e14;
  m.gpu->products = line(1, 1e12, 4096, 7e13);
  m.gpu->attention_flops = 3e13;
  m.gpu->attention_bandwidth = 6e11;
  m.link->both = 40e9;
  m.cpu.path = "avx2";
  m.cpu.peaks = {{"avx2", DType::f32, line(1, 1e11, 2, 2e11)}, {"avx512", DType::bf16, line(1, 3e11, 2, 5e11)}};
  m.dram.by_threads = line(1, 27e9, 2, 33e9);
  m.ssd->by_depth.lines = {{1, line(1 << 20, 1e9, 4 << 20, 1.5e9)}, {4, line(1 << 20, 1.8e9, 4 << 20, 2e9)}};
  m.ssd->note = "a temporary file";
  StepRates s;
  s.act = DType::f32;
  s.kv = DType::i8;
  s.mlps = {{2048, 768, line(1, 1e9, 1024, 4e11)}, {2048, 6144, line(1, 2e9, 1024, 5e11)}, {2048, 768, line(1, 6e9, 1024, 3e11), DType::f4}};
  s.linears = {{4096, 2048, line(1, 3e9, 4096, 3e11)}};
  s.attentions = {{{32, 4, 128}, {{{1, line(128, 1e9, 8192, 2e10)}, {64, line(128, 9e9, 8192, 3e10)}}}, line(128, 1e11, 8192, 2e11)}};
  s.rows = {line(1, 1e6, 9, 2e6), line(1, 3e6, 9, 4e6), line(1, 5e6, 9, 6e6), line(1, 7e6, 9, 8e6),
            line(1, 9e6, 9, 1e7), line(1, 2e7, 9, 3e7), line(1, 4e7, 9, 5e7)};
  s.fork_join_seconds = 1e-7;
  s.pass_seconds = 2e-5;
  m.steps = s;
  m.measured = {"2026-11-23T20:00:00Z", 19.5, "moegen 0.1.0"};
  return m;
}

TEST(Curve, FollowsPowersBetweenPointsAndStaysBeyondThem) {
  const Curve c = {{{1, 10, 0}, {4, 40, 0}, {100, 40, 0}}};
  EXPECT_DOUBLE_EQ(c.at(1), 10);
  EXPECT_NEAR(c.at(2), 20, 1e-9);  // rate ~ x
  EXPECT_DOUBLE_EQ(c.at(4), 40);
  EXPECT_DOUBLE_EQ(c.at(20), 40);
  EXPECT_DOUBLE_EQ(c.at(0.1), 10);
  EXPECT_DOUBLE_EQ(c.at(1e9), 40);
  EXPECT_DOUBLE_EQ(c.best(), 40);
  const Curve one = {{{8, 5, 0}}};
  EXPECT_DOUBLE_EQ(one.at(1), 5);
  EXPECT_DOUBLE_EQ(one.at(8), 5);
  EXPECT_DOUBLE_EQ(one.at(9), 5);
}

TEST(Curve, IsMonotoneWhereItsPointsAre) {
  const Curve c = {{{1, 3, 0}, {2, 3.5, 0}, {7, 20, 0}, {9, 20.1, 0}, {1000, 90, 0}}};
  double before = 0;
  for (double x = 0.5; x < 2000; x *= 1.07) {
    EXPECT_GE(c.at(x), before * (1 - 1e-12)) << x;
    before = c.at(x);
  }
}

TEST(Surface, GoesBetweenItsCurves) {
  const Surface s{{{1, {{{1, 10, 0}}}}, {16, {{{1, 40, 0}, {2, 80, 0}}}}}};
  EXPECT_NEAR(s.at(4, 1), 20, 1e-9);
  EXPECT_DOUBLE_EQ(s.at(0.5, 1), 10);
  EXPECT_DOUBLE_EQ(s.at(99, 2), 80);
  EXPECT_DOUBLE_EQ(s.best(), 80);
}

TEST(Machine, StepsTakeTheirCurvesOfTheNearestShape) {
  const Machine m = full();
  const MatrixFormat plain;
  EXPECT_DOUBLE_EQ(m.mlp_seconds(2048, 768, 1024, plain), 6.0 * 2048 * 768 * 1024 / 4e11);
  EXPECT_DOUBLE_EQ(m.mlp_seconds(2048, 5000, 1, plain), 6.0 * 2048 * 5000 / 2e9);
  EXPECT_DOUBLE_EQ(m.mlp_seconds(2048, 6144, 1, {DType::f4, 0.53, 32}), 6.0 * 2048 * 6144 / 6e9) << "its own kind first";
  EXPECT_DOUBLE_EQ(m.linear_seconds(512, 2048, 1, plain), 2.0 * 512 * 2048 / 3e9);
  const double measured = 64.0 * 8192 * 8 * 2 * (128 + 4) / 3e10;
  EXPECT_DOUBLE_EQ(m.decode_seconds({32, 8, 128}, 64, 8192, DType::i8), measured);
  EXPECT_DOUBLE_EQ(m.decode_seconds({32, 8, 128}, 64, 8192, DType::bf16), measured) << "a key takes as long in another type";
  EXPECT_DOUBLE_EQ(m.prefill_seconds({32, 4, 128}, 128, 1000, 128), 4.0 * 32 * 128 * 1000 / 1e11);
  EXPECT_DOUBLE_EQ(m.row_seconds(&StepRates::Rows::norm, 9, 2048), 9 * 2048 / 4e6);
}

TEST(Machine, WithoutCurvesRatesComeFromPeakAndBandwidth) {
  const Machine m = parse_machine(Json::parse(kFile), "here");
  EXPECT_DOUBLE_EQ(m.mlp_seconds(4096, 14336, 1, {}), 3.0 * 4096 * 14336 * 2 / 150e9);  // weights once
  EXPECT_DOUBLE_EQ(m.mlp_seconds(4096, 14336, 1, {DType::i4, 0.5625, 32}), 3.0 * 4096 * 14336 * 0.5625 / 150e9);
  EXPECT_DOUBLE_EQ(m.mlp_seconds(4096, 14336, 1e6, {}), 6.0 * 4096 * 14336 * 1e6 / 1.5e12);  // the peak
  EXPECT_DOUBLE_EQ(m.linear_seconds(4096, 4096, 1e6, MatrixFormat::plain(DType::f32)), 2.0 * 4096 * 4096 * 1e6 / 0.75e12);
  EXPECT_DOUBLE_EQ(m.decode_seconds({32, 32, 128}, 8, 512, DType::bf16), 8.0 * 512 * 32 * 2 * 128 * 2 / 150e9);
  EXPECT_DOUBLE_EQ(m.prefill_seconds({32, 8, 128}, 512, 1e6, 512), 4.0 * 32 * 128 * 1e6 / 5e11);
  EXPECT_GT(m.row_seconds(&StepRates::Rows::norm, 9, 2048), 0);
  // DeepSeek's heads: a prompt's queries in the expanded form, and the keys of its chunks made anew.
  EXPECT_DOUBLE_EQ(m.prefill_seconds({16, 1, 576, 512, 128, 128}, 512, 1e6, 3000), 2.0 * 16 * (320 * 1e6 + 512.0 * 256 * 3000) / 5e11);
}

TEST(MachineFile, ReadsWhatItWrites) {
  for (const Machine& m : {full(), parse_machine(Json::parse(kFile), "here")}) {
    const std::string text = pretty(to_json(m));
    EXPECT_TRUE(parse_machine(Json::parse(text), "text") == m) << text;
  }
  const TempDir dir;
  EXPECT_TRUE(load_machine(dir.write("m.json", pretty(to_json(full())))) == full());
}

TEST(MachineFile, NeedsLittle) {
  const Machine m = parse_machine(
      Json::parse(
          R"({"name":"x","cpu":{"cores":2,"bf16_flops":1e12,"attention_flops":1e11},"dram":{"bytes":1,"bandwidth":1e10},"gpu":null,"ssd":null})"),
      "here");
  EXPECT_FALSE(m.gpu || m.link || m.ssd || m.steps || m.measured);
}

TEST(MachineFile, RefusesByName) {
  const Json good = Json::parse(to_json(full()).dump());
  const auto refused = [&](const char* pointer, const Json& value, const char* part) {
    Json bad = good;
    bad[Json::json_pointer(pointer)] = value;
    EXPECT_ERROR(parse_machine(bad, "m.json"), ErrorCode::corrupt, part);
  };
  refused("/cpu/corse", 2, "m.json: cpu: unknown field \"corse\": expected cores, path");
  refused("/speed", 2, "m.json: unknown field \"speed\"");
  refused("/cpu/cores", 0, "m.json: cpu: cores: expected an integer from 1 to");
  refused("/cpu/bf16_flops", -1, "m.json: cpu: bf16_flops: expected a number from");
  refused("/cpu/attention_flops", nullptr, "m.json: cpu: attention_flops is missing");
  refused("/dram", nullptr, "m.json: dram is missing");
  refused("/dram/bandwidth", "fast", "m.json: dram: bandwidth");
  refused("/dram/bytes", 1e30, "m.json: dram: bytes");
  refused("/link", nullptr, "m.json: link is missing: a gpu needs it");
  refused("/link/h2d", 0, "m.json: link: h2d");
  refused("/gpu/memory_bytes", 0.5, "m.json: gpu: memory_bytes");
  refused("/dram/by_threads", Json::array(), "m.json: dram: by_threads: expected a list of 1 to");
  refused("/dram/by_threads/1", Json::array({1, 1e9}), "m.json: dram: by_threads[1]: size 1: expected more than 1 (sizes rise)");
  refused("/dram/by_threads/0", Json::array({1}), "by_threads[0]: expected [size, rate]");
  refused("/dram/by_threads/0", Json::array({1, "x"}), "by_threads[0]: expected [size, rate]");
  refused("/dram/by_threads/0/1", 0, "by_threads[0]: rate 0");
  refused("/dram/by_threads/0/2", -1, "by_threads[0]: noise -1");
  refused("/ssd/by_depth/1/depth", 1, "m.json: ssd: by_depth[1]: depth: expected an integer from 2");
  refused("/steps/act", "fp4", "m.json: steps: act: expected one of float32, bfloat16, int8, found \"fp4\"");
  refused("/steps/mlps/0/weights", "fp4",
          "m.json: steps: mlps[0]: weights: expected one of float32, bfloat16, fp8, mxfp4, int4, int8, found \"fp4\"");
  refused("/steps/mlps/1/flops", nullptr, "m.json: steps: mlps[1]: flops is missing");
  refused("/steps/mlps", Json(std::vector<int>(300)), "m.json: steps: mlps: expected a list of 1 to 256");
  refused("/steps/rows/dance", 1, "m.json: steps: rows: unknown field \"dance\"");
  refused("/steps/attentions/0/prefill", 1, "attentions[0]: prefill: expected a list");
  refused("/measured", 1, "m.json: measured: expected a JSON object");
  const TempDir dir;
  EXPECT_ERROR(load_machine(dir.path() / "none"), ErrorCode::not_found, "none");
  EXPECT_ERROR(load_machine(dir.write("cut", "{\"name\":")), ErrorCode::corrupt, "cut");
  EXPECT_ERROR(load_machine(dir.write("twice", R"({"name":"a","name":"b"})")), ErrorCode::corrupt, "stands twice");
}

}  // namespace
}  // namespace moegen
