// `plan`, `simulate` and the summary of a run, as a script sees them.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/contract/process.h"

namespace moegen::testing {
namespace {

// Rates of a machine that is not here; `more` goes into its object.
std::string machine_file(const std::filesystem::path& dir, const std::string& more = "") {
  std::ofstream(dir / "machine.json") << R"({"name": "two cores", "gpu": null, "link": null, "dram": {"bytes": 34359738368, "bandwidth": 4e10},
      "cpu": {"cores": 2, "bf16_flops": 8e11, "attention_flops": 4e11}, "ssd": {"bytes": 1000000000000, "read_bandwidth": 2e9})"
                                      << more << "}";
  return dir / "machine.json";
}

TEST_F(Process, APlanSaysWhatGoesWhereAndHowLong) {
  const std::vector<std::string> base{"plan", "-m", kDemo, "--machine", machine_file(dir), "--host-memory", "400MiB"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), base.begin(), base.end());
    return run(more);
  };
  const Result text = with({"--num-requests", "1000", "--prompt-len", "100", "--output-len", "50"});
  EXPECT_EQ(text.status, 0) << text.err;
  for (const char* word :
       {"two cores", "1,000 requests", "bottleneck", "the job", "one more GiB of host memory", "--kv-dtype int8, other tokens: ", "KV"})
    EXPECT_NE(text.out.find(word), std::string::npos) << word << "\n" << text.out;
  const Result from_file = with({"--input", requests(30, 7), "--json"});
  EXPECT_EQ(from_file.status, 0) << from_file.err;
  const auto j = nlohmann::json::parse(from_file.out);
  EXPECT_EQ(j["workload"]["requests"], 30);
  EXPECT_EQ(j["workload"]["output_tokens"], 210);
  for (const char* key :
       {"pass_tokens", "sequences", "attention_micro_batch", "expert_micro_batch", "slots", "slot_bytes", "kv_pages", "page_tokens"})
    EXPECT_TRUE(j["sizes"][key].is_number()) << key;
  EXPECT_GT(j["job"]["seconds"].get<double>(), 0);
  EXPECT_GT(j["pass"]["by_resource"]["cpu"].get<double>(), 0);
  uint64_t sum = 0;
  for (const auto& [purpose, bytes] : j["memory"]["dram"].items()) sum += bytes.get<uint64_t>();
  EXPECT_LE(sum, uint64_t{400} << 20);
  EXPECT_NE(with({}).err.find("give --input, --lengths, or --num-requests"), std::string::npos);
  EXPECT_NE(with({"--input", dir / "none.jsonl"}).err.find("none.jsonl: cannot open"), std::string::npos);
}

TEST_F(Process, ASimulationNeedsOnlyAConfigAndAMachine) {
  std::filesystem::copy(kModels / "qwen3_moe" / "config.json", dir / "other-name.json");
  const std::vector<std::string> args{"simulate", "-m",    dir / "other-name.json", "--machine", machine_file(dir), "--num-requests",
                                      "1000000",  "--json"};
  const Result r = run(args);
  EXPECT_EQ(r.status, 0) << r.err;
  const auto j = nlohmann::json::parse(r.out);
  EXPECT_EQ(j["machine"], "two cores");
  EXPECT_GT(j["job"]["decode_tokens_per_second"].get<double>(), 0);
  EXPECT_EQ(run({"simulate", "-m", dir / "other-name.json", "--num-requests", "10"}).status, 2) << "without a machine";
  ASSERT_EQ(run({"simulate", "-m", dir / "other-name.json", "--machine", machine_file(dir), "--num-requests", "10", "--trace", dir / "trace"}).status,
            0);
  std::set<int64_t> layers;
  for (const auto& event : nlohmann::json::parse(slurp(dir / "trace")))
    if (event["ph"] == "X" && event.value("name", "") == "experts") layers.insert(event["args"]["layer"].get<int64_t>());
  EXPECT_GT(layers.size(), 1U) << "layer by layer, as a run's";
  machine_file(dir, R"(, "gpus": 3)");
  const Result bad = run(args);
  EXPECT_EQ(bad.status, 1);
  EXPECT_NE(bad.err.find("machine.json"), std::string::npos) << bad.err;
}

TEST_F(Process, ASimulationOfAMachineWithAGpu) {
  std::filesystem::copy(kModels / "qwen3_moe" / "config.json", dir / "config.json");
  machine_file(dir);
  std::ofstream(dir / "gpu.json") << R"({"name": "a GPU", "gpu": {"name": "G", "memory_bytes": 1073741824, "bf16_flops": 1e13, "fp8_flops": null,
      "memory_bandwidth": 1e11}, "link": {"h2d": 1e9, "d2h": 1e9}, "cpu": {"cores": 2, "bf16_flops": 8e11, "attention_flops": 4e11},
      "dram": {"bytes": 34359738368, "bandwidth": 4e10}, "ssd": null})";
  const auto simulate = [&](const char* machine, std::vector<std::string> more) {
    more.insert(more.begin(), {"simulate", "-m", dir / "config.json", "--machine", dir / machine, "--json"});
    return run(more);
  };
  const auto job = [&](const std::vector<std::string>& more) {
    const Result r = simulate("gpu.json", more);
    EXPECT_EQ(r.status, 0) << r.err;
    return nlohmann::json::parse(r.out);
  };
  const auto planned = job({"--num-requests", "20000", "--trace", dir / "planned-trace"});
  for (const auto& event : nlohmann::json::parse(slurp(dir / "planned-trace"))) {
    EXPECT_GE(event.value("dur", 0.0), 0) << event;
  }
  EXPECT_GT(planned["next_best"]["seconds"].get<double>(), planned["job"]["seconds"].get<double>());
  EXPECT_EQ(planned["job"]["failed"], 0);
  const auto batches = job({"--num-requests", "20000", "--policy", "static", "--cpu-attention-share", "0.5", "--trace", dir / "trace"});
  EXPECT_LT(planned["job"]["seconds"].get<double>(), batches["job"]["seconds"].get<double>());
  EXPECT_EQ(batches["sizes"]["cpu_attention_share"], 0.5);
  for (const char* tier : {"hbm", "dram"}) EXPECT_TRUE(planned["memory"].contains(tier));
  EXPECT_GT(planned["pass"]["by_resource"]["gpu"].get<double>(), 0);
  EXPECT_GT(batches["pass"]["by_resource"]["link"].get<double>(), 0);
  std::ifstream trace(dir / "trace");
  std::set<std::string> rows;
  double end = 0;
  for (const auto& event : nlohmann::json::parse(trace)) {
    if (event["ph"] == "M") rows.insert(event["args"]["name"].get<std::string>());
    if (event["ph"] == "X") end = std::max(end, event["ts"].get<double>() + event["dur"].get<double>());
  }
  EXPECT_TRUE(rows.count("GPU") == 1 && rows.count("device to host") == 1);
  EXPECT_GT(end, 0);
  for (const std::vector<std::string>& option : {std::vector<std::string>{"--policy", "static"},
                                                 {"--cpu-attention-share", "1"},
                                                 {"--device-memory", "1G"},
                                                 {"--host-memory", "33GiB"},
                                                 {"--cpu-path", "avx2"},
                                                 {"--device", "cuda"},
                                                 {"--dtype", "float16"},
                                                 {"--kv-dtype", "int4"}}) {
    const Result refused = simulate("machine.json", {"--num-requests", "10", option[0], option[1]});
    EXPECT_EQ(refused.status, 1);
    EXPECT_NE(refused.err.find(option[0]), std::string::npos) << refused.err;
  }
  EXPECT_NE(simulate("gpu.json", {}).err.find("--num-requests"), std::string::npos);
  EXPECT_EQ(simulate("gpu.json", {"--policy", "other", "--num-requests", "1"}).status, 2);
  const Result limited = simulate("gpu.json", {"--policy", "static", "--weight-memory", "1GiB", "--num-requests", "1"});
  EXPECT_NE(limited.err.find("--weight-memory is not for --policy static"), std::string::npos) << limited.err;
  std::ofstream(dir / "lengths.csv") << "prompt_tokens,output_tokens\n10,10\n1000000,10\n20,1000000\n";
  for (const char* policy : {"planned", "static"}) {
    const auto some = job({"--lengths", dir / "lengths.csv", "--policy", policy});
    EXPECT_EQ(some["job"]["failed"], 1) << policy << ": the context does not hold the second";
  }
  EXPECT_NE(
      run({"plan", "-m", kDemo, "--machine", dir / "gpu.json", "--num-requests", "1"}).out.find("gpu.json has a GPU, which this plan leaves out"),
      std::string::npos);
  EXPECT_EQ(run({"simulate", "--help"}).out.find("--threads"), std::string::npos) << "what is refused";
}

// Every machine and model of docs/simulation.md.
TEST_F(Process, TheFilesOfTheSimulationsAreRead) {
  const std::filesystem::path folder = std::filesystem::path(MOEGEN_SOURCE_DIR) / "benchmarks" / "simulation";
  for (const auto& machine : std::filesystem::directory_iterator(folder / "machines")) {
    for (const auto& config : std::filesystem::directory_iterator(folder / "configs")) {
      const Result r = run({"simulate", "-m", config.path(), "--machine", machine.path(), "--num-requests", "64", "--output-len", "4"});
      EXPECT_EQ(r.status, 0) << config.path() << machine.path() << r.err;
    }
  }
}

// The rates are wrong for this machine, which is what the summary is there to show.
TEST_F(Process, ARunEndsWithPredictedAgainstMeasured) {
  const Result r =
      run({"run-batch", "-m", kDemo, "-i", requests(40, 12), "-o", dir / "out", "--machine", machine_file(dir), "--metrics", dir / "metrics"});
  EXPECT_EQ(r.status, 0) << r.err;
  EXPECT_NE(r.err.find("predicted"), std::string::npos) << r.err;
  std::ifstream in(dir / "metrics");
  double predicted = 0;
  for (std::string line; std::getline(in, line);) {
    const auto j = nlohmann::json::parse(line);
    if (!j.contains("summary")) {
      predicted += j["pass_predicted_seconds"].get<double>();
      continue;
    }
    EXPECT_NEAR(j["predicted"]["passes"].get<double>(), predicted, 1e-9 + 1e-6 * predicted);
    for (const char* kind : {"measured", "predicted"})
      EXPECT_NEAR(j[kind]["passes"].get<double>(), j[kind]["cpu"].get<double>() + j[kind]["wait"].get<double>(), 1e-6);
  }
  EXPECT_GT(predicted, 0);
}

TEST_F(Process, OnAGpuPassesArePredictedToo) {
  const Result r = run({"run-batch", "-m", kDemo, "-i", requests(2, 3), "-o", dir / "out", "--device", "emulated:1", "--max-model-len", "256",
                        "--machine", std::string(MOEGEN_SOURCE_DIR) + "/benchmarks/simulation/machines/c2.json"});
  EXPECT_EQ(r.status, 0) << r.err;
  EXPECT_NE(r.err.find("passes took"), std::string::npos) << r.err;
  EXPECT_EQ(r.err.find("the cores 0"), std::string::npos) << "what is not known is not told: " << r.err;
}

}  // namespace
}  // namespace moegen::testing
