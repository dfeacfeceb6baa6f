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

TEST_F(Process, AnswersEndAlsoWhereTheTokenizersConfigSays) {
  std::filesystem::copy(kDemo, dir / "model");
  const std::vector<std::string> args{"generate", "-m", dir / "model", "-p", "And God said", "--max-tokens", "6", "--temperature", "0"};
  EXPECT_EQ(run(args).out, ", Let my lord the king\n");
  std::ofstream(dir / "model/tokenizer_config.json") << R"({"eos_token": "\u0120lord"})";
  EXPECT_EQ(run(args).out.substr(0, 8), ", Let my");
  EXPECT_EQ(run(args).out.find("king"), std::string::npos);
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

TEST_F(Process, WhatIsReadIsNotWritten) {
  const std::filesystem::path model = dir / "model", machine = dir / "machine.json";
  std::filesystem::copy(kDemo, model, std::filesystem::copy_options::recursive);
  std::filesystem::copy(std::filesystem::path(MOEGEN_SOURCE_DIR) / "benchmarks/simulation/machines/xeon.json", machine);
  const std::string in = requests(1, 1);
  const auto refused = [&](const std::vector<std::string>& args, const std::filesystem::path& file) {
    const std::string before = slurp(file);
    const Result r = run(args);
    EXPECT_EQ(r.status, 1) << args[0];
    EXPECT_NE(r.err.find("which is read: give another file"), std::string::npos) << r.err;
    EXPECT_EQ(slurp(file), before);
  };
  for (const char* name : {"tokenizer.json", "model.safetensors", "config.json"})
    refused({"run-batch", "-m", model, "-i", in, "-o", model / name, "--no-resume"}, model / name);
  refused({"run-batch", "-m", model, "-i", in, "-o", dir / "out", "--machine", machine, "--metrics", machine}, machine);
  refused({"simulate", "-m", model, "--machine", machine, "--num-requests", "1", "--trace", machine}, machine);
  refused({"simulate", "-m", model / "config.json", "--machine", machine, "--num-requests", "1", "--trace", model / "config.json"},
          model / "config.json");
  refused({"simulate", "-m", model, "--machine", machine, "--input", in, "--trace", in}, in);
  EXPECT_EQ(run({"run-batch", "-m", model, "-i", in, "-o", model / "answers.jsonl"}).status, 0) << "any other name will do";
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

TEST_F(Process, AFileThatMayGrowNoFurtherStopsTheJobWhichIsThenResumed) {
  const std::string in = requests(100, 2), out = dir / "out";
  const std::string job =
      fmt::format("'{}' run-batch -m '{}' -i '{}' --skip-tokenizer-init --resume -o '{}' --progress none", MOEGEN_EXE, kDemo.string(), in, out);
  const std::string err = dir / "err";
  EXPECT_EQ(WEXITSTATUS(std::system(fmt::format("(ulimit -f 8; {} 2> '{}')", job, err).c_str())), 1);
  EXPECT_NE(slurp(err).find("File too large"), std::string::npos) << slurp(err);
  EXPECT_TRUE(slurp(out).ends_with('\n'));
  EXPECT_EQ(std::system((job + " 2> /dev/null").c_str()), 0);
  EXPECT_EQ(answers(out).size(), 100U);
}

// What ulimit -v leaves is what a run may take.
TEST_F(Process, AnAddressSpaceLimitIsMemoryThatIsNotThere) {
  if (std::string_view(MOEGEN_SANITIZE) != "") GTEST_SKIP() << "sanitizers reserve terabytes of addresses";
  const std::string out = dir / "out";
  EXPECT_EQ(std::system(fmt::format("(ulimit -v 1500000; '{}' run-batch -m '{}' -i '{}' --skip-tokenizer-init -o '{}' --progress none)", MOEGEN_EXE,
                                    kDemo.string(), requests(5, 2), out)
                            .c_str()),
            0);
  EXPECT_EQ(answers(out).size(), 5U);
}

TEST_F(Process, AReaderOfItsWordsThatGoesAwayEndsNoJob) {
  const std::string job =
      fmt::format("'{}' run-batch -m '{}' -i '{}' --skip-tokenizer-init --no-resume -o ", MOEGEN_EXE, kDemo.string(), requests(3, 2));
  const std::string out = (dir / "out").string();
  ASSERT_EQ(std::system(fmt::format("({} '{}' 2>&1; echo $? > '{}') | true", job, out, (dir / "status").string()).c_str()), 0);
  EXPECT_EQ(slurp(dir / "status"), "0\n");
  EXPECT_EQ(answers(out).size(), 3U);
  // Nor does a file become stdin, stdout or stderr where these are closed.
  ASSERT_EQ(std::system(fmt::format("{} '{}' 0>&- 1>&- 2>&-", job, out).c_str()), 0);
  EXPECT_EQ(answers(out).size(), 3U);
  const std::string text = slurp(out);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3) << text;
}

TEST_F(Process, NamesThatATerminalWouldObeyAreNotPrintedAsTheyAre) {
  std::ofstream(dir / "in.jsonl") << R"({"custom_id":"\u001b]0;owned\u0007","method":"POST","url":"/v1/completions","body":{"prompt":[1],"n":-1}})"
                                  << "\n";
  const Result r = run({"run-batch", "-m", kDemo, "-i", dir / "in.jsonl", "-o", dir / "out", "--skip-tokenizer-init"});
  EXPECT_EQ(r.status, 0) << r.err;
  EXPECT_NE(r.err.find("?]0;owned?"), std::string::npos) << r.err;
  std::filesystem::create_directory(dir / "model");
  std::ofstream(dir / "model" / "config.json") << R"({"architectures":["\u001b[2J"],"model_type":"\u001b[2J"})";
  const Result bad = run({"generate", "-m", dir / "model", "-p", "x"});
  EXPECT_EQ(bad.status, 1);
  EXPECT_EQ(bad.err.find('\x1b'), std::string::npos) << bad.err;
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

TEST_F(Process, AFurtherTemplateThatChangesIsNoticedOnResume) {
  const std::filesystem::path model = dir / "model";
  std::filesystem::copy(kDemo, model);
  std::filesystem::create_directory(model / "additional_chat_templates");
  std::ofstream(model / "additional_chat_templates" / "tool_use.jinja") << "one";
  const std::vector<std::string> args{"run-batch", "-m", model, "-i", requests(2, 2), "-o", dir / "out", "--resume"};
  ASSERT_EQ(run(args).status, 0);
  EXPECT_EQ(run(args).status, 0);
  std::ofstream(model / "additional_chat_templates" / "tool_use.jinja") << "two";
  const Result r = run(args);
  EXPECT_EQ(r.status, 1);
  EXPECT_NE(r.err.find("additional_chat_templates"), std::string::npos) << r.err;
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
  std::ofstream(in, std::ios::app) << std::string(size_t{90} << 20, 'x') << "\n";  // no request, and longer than the memory of the first two
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

}  // namespace
}  // namespace moegen::testing
