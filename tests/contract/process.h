#pragma once

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/run.h"

namespace moegen::testing {

/// How the executable ended.
struct Result {
  int status = -1;  // exit status, or 128 + signal
  std::string out, err;
  int64_t peak_bytes = 0;
  double cpu_seconds = 0;  // of all its threads: does not depend on what else runs
};

inline std::string slurp(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

/// Runs the executable in a directory of its own.
class Process : public ::testing::Test {
 protected:
  Process() {
    char name[] = "/tmp/moegen-test-XXXXXX";
    dir = ::mkdtemp(name);
    ::setenv("XDG_CACHE_HOME", (dir / "cache").c_str(), 1);  // no rates that were measured before
  }
  ~Process() override { std::filesystem::remove_all(dir); }

  // `group`: the cgroup.procs of a group that it runs in; empty: ours.
  pid_t start(std::vector<std::string> args, const std::filesystem::path& group = {}) {
    args.insert(args.begin(), MOEGEN_EXE);
    std::vector<char*> argv;
    for (std::string& a : args) argv.push_back(a.data());
    argv.push_back(nullptr);
    const pid_t pid = ::fork();
    if (pid == 0) {
      if (!group.empty()) std::ofstream(group) << "0" << std::flush;
      ::dup2(::open((dir / "stdin").c_str(), O_RDONLY | O_CREAT, 0600), 0);
      ::dup2(::open((dir / "stdout").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), 1);
      ::dup2(::open((dir / "stderr").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), 2);
      ::execv(MOEGEN_EXE, argv.data());
      ::_exit(127);
    }
    return pid;
  }

  Result wait(pid_t pid) {
    int status = 0;
    rusage usage{};
    ::wait4(pid, &status, 0, &usage);
    const auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6; };
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), slurp(dir / "stdout"), slurp(dir / "stderr"), usage.ru_maxrss * 1024,
            seconds(usage.ru_utime) + seconds(usage.ru_stime)};
  }

  Result run(std::vector<std::string> args) { return wait(start(std::move(args))); }

  // `count` greedy requests of token ids; the file's name.
  std::string requests(int count, int max_tokens) {
    std::ofstream out(dir / "in.jsonl");
    for (int i = 0; i < count; ++i) {
      nlohmann::json body{{"prompt", std::vector<int>(static_cast<size_t>(1 + i % 40), 5 + i % 100)},
                          {"max_tokens", max_tokens},
                          {"temperature", 0},
                          {"ignore_eos", true},
                          {"return_token_ids", true}};
      out << nlohmann::json{{"custom_id", fmt::format("r{}", i)}, {"method", "POST"}, {"url", "/v1/completions"}, {"body", body}}.dump() << "\n";
    }
    return dir / "in.jsonl";
  }

  std::map<std::string, nlohmann::json> answers(const std::filesystem::path& file) {
    std::map<std::string, nlohmann::json> out;
    std::ifstream in(file);
    for (std::string line; std::getline(in, line);) {
      const auto j = nlohmann::json::parse(line);
      EXPECT_TRUE(out.emplace(j["custom_id"].get<std::string>(), j["response"]["body"]["choices"]).second) << "answered twice";
    }
    return out;
  }

  std::filesystem::path dir;
};

}  // namespace moegen::testing
