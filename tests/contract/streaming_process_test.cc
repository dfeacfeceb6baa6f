// Weights that stream, as a script sees it: a memory limit of the kernel's, and files that go bad while the job runs.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "spec/config.h"
#include "spec/families.h"
#include "tests/contract/process.h"
#include "tests/spec/configs.h"
#include "tests/support/random_model.h"

namespace moegen::testing {
namespace {

namespace fs = std::filesystem;

// A memory cgroup (v1) of its own below ours, gone with it.
class MemoryGroup {
 public:
  explicit MemoryGroup(uint64_t limit) {
    std::ifstream groups("/proc/self/cgroup");
    for (std::string line; std::getline(groups, line);) {
      const auto at = line.find(":memory:");
      if (at != std::string::npos) path_ = fs::path("/sys/fs/cgroup/memory" + line.substr(at + 8)) / fmt::format("moegen-test-{}", ::getpid());
    }
    std::error_code ignored;
    usable_ = !path_.empty() && fs::create_directory(path_, ignored) && write("memory.limit_in_bytes", std::to_string(limit));
  }
  ~MemoryGroup() {
    if (!path_.empty()) ::rmdir(path_.c_str());
  }
  MemoryGroup(const MemoryGroup&) = delete;
  MemoryGroup& operator=(const MemoryGroup&) = delete;

  [[nodiscard]] bool usable() const { return usable_; }
  [[nodiscard]] fs::path members() const { return path_ / "cgroup.procs"; }

 private:
  [[nodiscard]] bool write(const char* file, const std::string& text) const {
    std::ofstream out(path_ / file);
    return static_cast<bool>(out << text << std::flush);
  }
  fs::path path_;
  bool usable_ = false;
};

class Streaming : public Process {
 protected:
  // 8 layers of 32 experts of 384 KiB: 96 MiB of experts.
  fs::path model_of_100_mib() {
    auto config = qwen3_moe_config();
    config.update({{"hidden_size", 256}, {"moe_intermediate_size", 256}, {"num_experts", 32}, {"num_experts_per_tok", 4}, {"num_hidden_layers", 8}});
    config["mlp_only_layers"] = nlohmann::json::array();
    config["decoder_sparse_step"] = 1;
    fs::create_directory(dir / "model");
    write_random_model(dir / "model", config, read_spec(Config(config, "config.json")));
    return dir / "model";
  }

  nlohmann::json summary(const fs::path& metrics) {
    std::ifstream in(metrics);
    std::string line;
    std::string last;
    while (std::getline(in, line)) last = line;
    return nlohmann::json::parse(last);
  }
};

// The budget is kept by the kernel's own count, whatever streams through it. Page cache counts there too, and is reclaimed.
TEST_F(Streaming, SurvivesAMemoryLimitJustAboveTheBudget) {
  if (std::string_view(MOEGEN_SANITIZE) != "") GTEST_SKIP() << "sanitizers bring memory of their own";
  constexpr uint64_t kBudget = 64 << 20;
  const MemoryGroup group(kBudget / 10 * 11);
  if (!group.usable()) GTEST_SKIP() << "no memory cgroup v1 that we may write to";
  const fs::path model = model_of_100_mib();
  ASSERT_GT(fs::file_size(model / "model.safetensors"), uint64_t{96} << 20);
  int64_t peak_of_few = 0;
  for (const int tokens : {2, 24}) {
    const Result r = wait(start({"run-batch", "-m", model, "-i", requests(100, tokens), "-o", dir / "out", "--no-resume", "--skip-tokenizer-init",
                                 "--metrics", dir / "metrics", "--threads", "2", "--host-memory", std::to_string(kBudget)},
                                group.members()));
    ASSERT_EQ(r.status, 0) << r.err;
    EXPECT_LE(r.peak_bytes, static_cast<int64_t>(kBudget));
    EXPECT_EQ(answers(dir / "out").size(), 100U);
    const auto s = summary(dir / "metrics");
    EXPECT_GT(s["weight_bytes_read"].get<uint64_t>(), static_cast<uint64_t>(tokens) * (50 << 20)) << "each pass reads more than half of the weights";
    EXPECT_GT(s["weight_read_seconds"].get<double>(), 0);
    if (tokens == 2) peak_of_few = r.peak_bytes;
    EXPECT_LE(r.peak_bytes, peak_of_few + (4 << 20)) << "more bytes through the slots take no more memory";
  }
}

TEST_F(Streaming, TooLittleWeightMemoryIsRefusedAtOnceWithTheLeast) {
  const fs::path model = kModels / "mixtral";
  const auto args = [&](const std::string& memory) {
    return std::vector<std::string>{"run-batch",       "-m",  model, "-i", requests(3, 3), "-o", dir / "out", "--no-resume", "--skip-tokenizer-init",
                                    "--weight-memory", memory};
  };
  const Result r = run(args("1000"));
  EXPECT_EQ(r.status, 1);
  const auto at = r.err.find("bytes) are needed");
  ASSERT_NE(at, std::string::npos) << r.err;
  const auto least = std::stoull(r.err.substr(r.err.rfind('(', at) + 1));
  EXPECT_EQ(run(args(std::to_string(least - 1))).status, 1);
  const Result enough = run(args(std::to_string(least)));
  EXPECT_EQ(enough.status, 0) << enough.err;
  EXPECT_NE(enough.err.find("16 of 16 experts, "), std::string::npos) << enough.err;
  EXPECT_NE(enough.err.find("of weights streamed at"), std::string::npos) << enough.err;
}

// What was answered before the file went bad is there; with the file as it was, the job goes on.
TEST_F(Streaming, AFileCutOffStopsTheJobWhichIsThenResumed) {
  const fs::path model = dir / "model";
  fs::copy(kModels / "mixtral", model);
  const fs::path file = model / "model-00002-of-00002.safetensors";
  const std::string in = requests(400, 100);
  const std::vector<std::string> args{
      "run-batch",       "-m",    model, "-i", in, "-o", dir / "out", "--resume", "--skip-tokenizer-init", "--max-num-seqs", "16",
      "--weight-memory", "400000"};
  const pid_t pid = start(args);
  while (!fs::exists(dir / "out") || fs::file_size(dir / "out") < 20'000) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  fs::resize_file(file, 300'000);
  const Result stopped = wait(pid);
  EXPECT_EQ(stopped.status, 1) << stopped.err;
  EXPECT_NE(stopped.err.find("model-00002-of-00002.safetensors: "), std::string::npos) << stopped.err;
  EXPECT_NE(stopped.err.find("while in use"), std::string::npos) << stopped.err;
  const size_t before = answers(dir / "out").size();
  EXPECT_GT(before, 0U);
  EXPECT_LT(before, 400U);
  fs::copy_file(kModels / "mixtral" / file.filename(), file, fs::copy_options::overwrite_existing);
  EXPECT_EQ(run(args).status, 0);
  ASSERT_EQ(run({"run-batch", "-m", kModels / "mixtral", "-i", in, "-o", dir / "whole", "--skip-tokenizer-init"}).status, 0);
  EXPECT_EQ(answers(dir / "out"), answers(dir / "whole"));
}

TEST_F(Streaming, ATraceShowsWhatTheCoresAndTheStorageDid) {
  ASSERT_EQ(run({"run-batch", "-m", kModels / "mixtral", "-i", requests(20, 5), "-o", dir / "out", "--skip-tokenizer-init", "--weight-memory",
                 "400000", "--trace", dir / "trace"})
                .status,
            0);
  std::map<std::string, int> events;
  double end = 0;
  for (const auto& e : nlohmann::json::parse(slurp(dir / "trace"))) {
    ++events[e["ph"] == "X" ? e["name"].get<std::string>() : e["ph"].get<std::string>()];
    if (e["ph"] != "X") continue;
    EXPECT_GE(e["ts"].get<double>() + 0.2, end) << "what the cores do follows one another";
    if (e["name"] != "wait for weights") end = e["ts"].get<double>() + e["dur"].get<double>();
  }
  EXPECT_GT(events["experts"], 20);
  EXPECT_GT(events["b"], 20);
  EXPECT_EQ(events["b"], events["e"]);
  EXPECT_EQ(events["attention"], events["router"]);
}

}  // namespace
}  // namespace moegen::testing
