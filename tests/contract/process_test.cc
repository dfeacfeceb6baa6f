// The executable as a script sees it: exit status, streams, signals, memory.
#include "tests/contract/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <thread>

namespace moegen::testing {
namespace {

TEST_F(Process, HelpAndVersionTeach) {
  const Result version = run({"--version"});
  EXPECT_EQ(version.status, 0);
  for (const char* word : {"commit", "backends compiled in: cpu", "CPU paths found:", "reference"})
    EXPECT_NE(version.out.find(word), std::string::npos) << word;
  const Result help = run({"run-batch", "--help"});
  EXPECT_EQ(help.status, 0);
  for (const char* option : {"--model", "--input-file", "--resume", "--host-memory", "--kv-memory", "--expert-micro-batch", "--generation-config"}) {
    EXPECT_NE(help.out.find(option), std::string::npos) << option;
  }
}

TEST_F(Process, ExitStatus) {
  EXPECT_EQ(run({}).status, 2);
  EXPECT_EQ(run({"run-batch"}).status, 2);
  EXPECT_EQ(run({"run-batch", "-m", kDemo, "-i", "x", "-o", "y", "--kv-memory", "lots"}).status, 2);
  EXPECT_EQ(run({"run-batch", "-m", kDemo, "-i", "x", "-o", "y", "--no-resume", "--retry-failed"}).status, 2);
  EXPECT_EQ(run({"run-batch", "-m", kDemo, "-i", "x", "-o", "y", "--no-resume", "--changed", "redo"}).status, 2);
  EXPECT_EQ(run({"frobnicate"}).status, 2);
  const Result missing = run({"run-batch", "-m", dir / "nowhere", "-i", requests(1, 1), "-o", dir / "out"});
  EXPECT_EQ(missing.status, 1);
  EXPECT_NE(missing.err.find("nowhere"), std::string::npos) << missing.err;
  EXPECT_EQ(run({"generate", "-m", kDemo, "-p", "x", "--device", "cuda"}).status, 1);
  EXPECT_EQ(run({"generate", "-m", kDemo, "-p", "And God said", "--max-tokens", "3"}).status, 0);
}

TEST_F(Process, WhatIsRefusedLeavesNoOutput) {
  std::ofstream(dir / "out") << "precious\n";
  const Result r = run({"run-batch", "-m", kDemo, "-i", requests(1, 1), "-o", dir / "out"});
  EXPECT_EQ(r.status, 1);
  EXPECT_NE(r.err.find("--resume"), std::string::npos) << r.err;
  EXPECT_NE(r.err.find("--no-resume"), std::string::npos) << r.err;
  EXPECT_EQ(slurp(dir / "out"), "precious\n");
}

TEST_F(Process, OutputIntoTheInputIsRefusedAlsoThroughStdout) {
  const std::string in = requests(3, 1);
  const std::string before = slurp(in);
  const std::string command = fmt::format("'{}' run-batch -m '{}' -i '{}' -o - >> '{}' 2> /dev/null", MOEGEN_EXE, kDemo.string(), in, in);
  EXPECT_NE(std::system(command.c_str()), 0);
  EXPECT_EQ(slurp(in), before);
}

TEST_F(Process, AFullDiskBehindStdoutIsNoSuccess) {
  for (const char* args : {"generate -p x --max-tokens 2", "inspect"}) {
    EXPECT_NE(std::system(fmt::format("'{}' {} -m '{}' > /dev/full 2> /dev/null", MOEGEN_EXE, args, kDemo.string()).c_str()), 0) << args;
  }
}

TEST_F(Process, ATraceThatCannotBeWrittenIsAWarningAtTheEnd) {
  const Result r = run({"run-batch", "-m", kDemo, "-i", requests(3, 2), "-o", dir / "out", "--progress", "none", "--trace", "/dev/full"});
  EXPECT_EQ(r.status, 0) << r.err;
  EXPECT_NE(r.err.find("warning: /dev/full: cannot write: No space left on device"), std::string::npos) << r.err;
  const std::string answers = slurp(dir / "out");
  EXPECT_EQ(std::count(answers.begin(), answers.end(), '\n'), 3);
}

// A file system of its own, that is full soon.
TEST_F(Process, AJobOnAFullDiskStopsAndIsResumed) {
  const std::filesystem::path disk = dir / "disk";
  std::filesystem::create_directory(disk);
  if (::mount("none", disk.c_str(), "tmpfs", 0, "size=64k") != 0) GTEST_SKIP() << "may not mount a small file system: " << std::strerror(errno);
  const auto unmount = std::unique_ptr<const std::filesystem::path, void (*)(const std::filesystem::path*)>(
      &disk, [](const std::filesystem::path* path) { ::umount2(path->c_str(), MNT_DETACH); });
  const std::string in = requests(400, 8);
  const auto args = [&](const std::filesystem::path& out, const char* resume) {
    return std::vector<std::string>{"run-batch", "-m", kModels / "mixtral", "-i", in, "-o", out, "--skip-tokenizer-init", "--ordered", resume};
  };
  const Result full = run(args(disk / "out", "--resume"));
  EXPECT_EQ(full.status, 1) << full.err;
  EXPECT_NE(full.err.find((disk / "out").string() + ": cannot write: No space left on device"), std::string::npos) << full.err;
  EXPECT_NE(full.err.find("--resume"), std::string::npos) << full.err;
  const auto kept = answers(disk / "out");
  EXPECT_GT(kept.size(), 20U);
  EXPECT_LT(kept.size(), 400U);
  ASSERT_EQ(::mount("none", disk.c_str(), "tmpfs", MS_REMOUNT, "size=16m"), 0);
  EXPECT_EQ(run(args(disk / "out", "--resume")).status, 0);
  ASSERT_EQ(run(args(dir / "whole", "--no-resume")).status, 0);
  EXPECT_EQ(answers(disk / "out"), answers(dir / "whole"));
}

TEST_F(Process, AReadOnlyOutputIsRefusedAtTheStart) {
  const std::filesystem::path disk = dir / "disk";
  std::filesystem::create_directory(disk);
  if (::mount("none", disk.c_str(), "tmpfs", MS_RDONLY, "size=64k") != 0) GTEST_SKIP() << "may not mount a file system: " << std::strerror(errno);
  const Result r = run({"run-batch", "-m", kDemo, "-i", requests(1, 1), "-o", disk / "out"});
  ::umount2(disk.c_str(), MNT_DETACH);
  EXPECT_EQ(r.status, 1);
  EXPECT_NE(r.err.find((disk / "out").string() + ": cannot open: Read-only file system"), std::string::npos) << r.err;
}

TEST_F(Process, AVanishedOutputDirectoryStopsTheJob) {
  const std::filesystem::path gone = dir / "gone";
  std::filesystem::create_directory(gone);
  const pid_t pid = start({"run-batch", "-m", kDemo, "-i", requests(4000, 20), "-o", gone / "out", "--skip-tokenizer-init", "--max-num-seqs", "4"});
  for (int i = 0; i < 600 && (!std::filesystem::exists(gone / "out") || std::filesystem::file_size(gone / "out") == 0); ++i) ::usleep(100'000);
  std::filesystem::remove_all(gone);
  const Result r = wait(pid);
  EXPECT_EQ(r.status, 1);
  EXPECT_NE(r.err.find("was removed while it was written"), std::string::npos) << r.err;
}

TEST_F(Process, AnotherModelIsNoticedOnResume) {
  const std::filesystem::path model = dir / "model";
  std::filesystem::copy(kDemo, model);
  const std::string in = requests(5, 2);
  const auto resume = [&](std::vector<std::string> more) {
    std::vector<std::string> args{"run-batch", "-m", model, "-i", in, "-o", dir / "out", "--resume", "--skip-tokenizer-init"};
    args.insert(args.end(), more.begin(), more.end());
    return run(args);
  };
  ASSERT_EQ(resume({}).status, 0);
  std::filesystem::last_write_time(model / "model.safetensors", std::filesystem::file_time_type::clock::now() - std::chrono::hours(1));
  EXPECT_EQ(resume({}).status, 0) << "a copy is the same model";
  const Result seed = resume({"--seed", "7"});
  EXPECT_EQ(seed.status, 1);
  EXPECT_NE(seed.err.find("--seed: was 0, is 7"), std::string::npos) << seed.err;
  // Values of all tensors: nothing that a header has.
  std::fstream weights(model / "model.safetensors", std::ios::in | std::ios::out | std::ios::binary);
  for (std::streamoff at = 200'000; at < 11'000'000; at += 128) {
    weights.seekp(at);
    weights.put(1);
  }
  weights.close();
  const Result other = resume({});
  EXPECT_EQ(other.status, 1);
  EXPECT_NE(other.err.find("weights: was 1 files"), std::string::npos) << other.err;
  EXPECT_EQ(other.err.find("config.json"), std::string::npos) << other.err;
  EXPECT_EQ(resume({"--changed", "keep"}).status, 0);
}

// Whatever cannot be had when it starts: it says so, and touches nothing.
TEST_F(Process, MemoryThatTheSystemRefusesIsAnErrorAtTheStart) {
  if (std::string_view(MOEGEN_SANITIZE) != "") GTEST_SKIP() << "sanitizers need address space";
  const std::string in = requests(3, 2);
  int refused = 0;
  int answered = 0;
  for (int mib = 16; mib <= 16 << 10; mib += mib / 8) {
    const std::string command =
        fmt::format("ulimit -v {}; exec '{}' run-batch -m '{}' -i '{}' -o '{}' --no-resume --host-memory 300MiB --threads 2 2> '{}'", mib << 10,
                    MOEGEN_EXE, kDemo.string(), in, (dir / "out").string(), (dir / "err").string());
    const int status = std::system(command.c_str());
    ASSERT_TRUE(WIFEXITED(status)) << mib << " MiB: signal " << WTERMSIG(status) << slurp(dir / "err");
    if (WEXITSTATUS(status) == 127) continue;  // not even the program's own libraries
    ASSERT_TRUE(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 1) << mib << " MiB: " << slurp(dir / "err");
    EXPECT_NE(slurp(dir / "err"), "");
    ++(WEXITSTATUS(status) == 0 ? answered : refused);
  }
  EXPECT_GT(refused, 3);
  EXPECT_GT(answered, 3);
}

// A pipe whose writer goes on later.
TEST_F(Process, AnswersWhileTheWriterSleeps) {
  const std::string lines = slurp(requests(2, 3));
  const size_t second = lines.find('\n') + 1;
  ASSERT_EQ(::mkfifo((dir / "pipe").c_str(), 0600), 0);
  const pid_t pid = start({"run-batch", "-m", kDemo, "-i", dir / "pipe", "-o", dir / "out"});
  std::ofstream pipe(dir / "pipe");
  pipe << lines.substr(0, second) << std::flush;
  for (int i = 0; i < 600 && slurp(dir / "out").empty(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(answers(dir / "out").size(), 1U) << "while the second is not written yet";
  pipe << lines.substr(second) << std::flush;
  pipe.close();
  EXPECT_EQ(wait(pid).status, 0);
  EXPECT_EQ(answers(dir / "out").size(), 2U);
}

TEST_F(Process, InspectSaysWhatIsThere) {
  const Result r = run({"inspect", "-m", kModels / "qwen3_moe", "--json"});
  EXPECT_EQ(r.status, 0);
  const auto j = nlohmann::json::parse(r.out);
  EXPECT_EQ(j["family"], "qwen3_moe");
  EXPECT_EQ(j["files"], 3);
  EXPECT_EQ(j["shape"]["experts"], 16);
  EXPECT_EQ(j["shape"]["moe_layers"], 2);
  EXPECT_TRUE(j["usable"]);
  uint64_t sum = 0;
  for (const auto& [kind, bytes] : j["kinds"].items()) sum += bytes["bytes"].get<uint64_t>();
  EXPECT_EQ(sum, j["bytes"].get<uint64_t>());
}

// Of a real checkpoint these are thousands.
TEST_F(Process, WhatIsSkippedIsSaidInALine) {
  for (const auto& [model, why] : {std::pair("deepseek_v3", "predicts further tokens"), std::pair("qwen3_5_moe", "for images")}) {
    const Result shown = run({"inspect", "-m", kModels / model});
    const size_t first = shown.out.find("skipped: ");
    ASSERT_NE(first, std::string::npos) << shown.out;
    const std::string line = shown.out.substr(first, shown.out.find('\n', first) - first);
    EXPECT_NE(line.find(why), std::string::npos) << line;
    EXPECT_NE(line.find(" more ("), std::string::npos) << line;
    EXPECT_EQ(shown.out.find(fmt::format("({}", why), first + line.size()), std::string::npos) << "twice";
    const Result batch = run({"run-batch", "-m", kModels / model, "-i", requests(1, 1), "-o", dir / "out", "--no-resume", "--skip-tokenizer-init"});
    const size_t said = batch.err.find("\nskipped  ");
    ASSERT_NE(said, std::string::npos) << batch.err;
    EXPECT_LT(batch.err.find(why, said), batch.err.find('\n', said + 1)) << batch.err;
  }
}

// Memory is fixed before the loop and inside the budget; thousands of requests go through it.
TEST_F(Process, PeakMemoryIsInsideTheBudget) {
  if (std::string_view(MOEGEN_SANITIZE) != "") GTEST_SKIP() << "sanitizers bring memory of their own";
  const std::string in = requests(1000, 20);
  {  // what makes answers large: refused where it cannot fit, in turn where it can
    std::ofstream out(in, std::ios::app);
    for (int i = 0; i < 30; ++i) {
      const std::vector<int> prompt(static_cast<size_t>(100 + 60 * i), 7);
      nlohmann::json body{{"prompt", prompt}, {"max_tokens", 1}, {"prompt_logprobs", i % 21}};
      if (i % 3 == 0)
        body = {{"prompt", std::vector<int>(50, 7)}, {"max_tokens", 200}, {"n", 10 * i + 1}, {"logprobs", i % 21}, {"ignore_eos", true}};
      if (i % 7 == 0) body = {{"prompt", std::vector<int>(size_t{1} << 20, 7)}, {"max_tokens", 1}};
      out << nlohmann::json{{"custom_id", fmt::format("big{}", i)}, {"method", "POST"}, {"url", "/v1/completions"}, {"body", body}}.dump() << "\n";
    }
  }
  for (const int64_t mib : {48, 64, 160}) {
    const Result r = run({"run-batch", "-m", kDemo, "-i", in, "-o", dir / "out", "--no-resume", "--progress", "none", "--threads", "2",
                          "--host-memory", fmt::format("{}MiB", mib)});
    EXPECT_EQ(r.status, 0) << r.err;
    EXPECT_LE(r.peak_bytes, mib << 20);
  }
}

TEST_F(Process, AnInterruptedJobIsResumed) {
  const std::string in = requests(600, 120);
  const std::vector<std::string> args{"run-batch",      "-m", kModels / "mixtral", "-i", in, "-o", dir / "out", "--skip-tokenizer-init",
                                      "--max-num-seqs", "16", "--resume"};
  int interrupted = 0;
  for (int i = 0; i < 50; ++i) {
    const pid_t pid = start(args);
    std::this_thread::sleep_for(std::chrono::milliseconds(60 + 17 * i));
    ::kill(pid, i % 2 == 0 ? SIGINT : SIGKILL);
    const Result r = wait(pid);
    if (r.status == 0) break;
    ASSERT_TRUE(r.status == 130 || r.status == 128 + SIGKILL || r.status == 128 + SIGINT) << r.status << r.err;  // a signal before it is caught kills
    interrupted += r.status == 130 ? 1 : 0;
  }
  EXPECT_EQ(run(args).status, 0);
  EXPECT_GT(interrupted, 0);
  ASSERT_EQ(run({"run-batch", "-m", kModels / "mixtral", "-i", in, "-o", dir / "whole", "--skip-tokenizer-init"}).status, 0);
  const auto want = answers(dir / "whole");
  EXPECT_EQ(want.size(), 600U);
  EXPECT_EQ(answers(dir / "out"), want);
}

// 164 real prompts with stop strings; the file is other people's text and stays in shared/.
TEST_F(Process, HumanEvalRunsToTheEnd) {
  const char* shared = std::getenv("MOEGEN_SHARED");
  const std::filesystem::path file =
      std::filesystem::path(shared != nullptr ? shared : MOEGEN_SOURCE_DIR "/../shared") / "data/workloads/humaneval.jsonl.xz";
  if (!std::filesystem::exists(file)) GTEST_SKIP() << "no " << file << ": set MOEGEN_SHARED";
  ASSERT_EQ(std::system(fmt::format("xz -dc '{}' > '{}'", file.string(), (dir / "in.jsonl").string()).c_str()), 0);
  const Result r = run({"run-batch", "-m", kDemo, "-i", dir / "in.jsonl", "-o", dir / "out", "--progress", "none"});
  EXPECT_EQ(r.status, 0) << r.err;
  const auto all = answers(dir / "out");
  EXPECT_EQ(all.size(), 164U);
  for (const auto& [id, choices] : all) {
    for (const char* stop : {"\nclass", "\ndef", "\nif", "\nprint"})
      EXPECT_EQ(choices[0]["text"].get<std::string>().find(stop), std::string::npos) << id;
  }
}

TEST_F(Process, DummyWeightsRun) {
  std::filesystem::copy(kModels / "qwen2_moe" / "config.json", dir / "config.json");
  const Result r = run({"run-batch", "-m", dir, "-i", requests(5, 4), "-o", dir / "out", "--load-format", "dummy", "--skip-tokenizer-init"});
  EXPECT_EQ(r.status, 0) << r.err;
  EXPECT_EQ(answers(dir / "out").size(), 5U);
}

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

}  // namespace
}  // namespace moegen::testing
