#pragma once

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/json.h"
#include "batch/job.h"

namespace moegen::testing {

using Json = nlohmann::json;

/// A folder that goes away with the test.
struct Scratch {
  std::filesystem::path dir;
  Scratch() {
    const std::filesystem::path fast = "/dev/shm";  // hundreds of fsync
    std::string name = ((std::filesystem::is_directory(fast) ? fast : std::filesystem::temp_directory_path()) / "moegen-XXXXXX").string();
    dir = ::mkdtemp(name.data());
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { std::filesystem::remove_all(dir); }
  [[nodiscard]] std::string path(const std::string& name) const { return (dir / name).string(); }
};

inline std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void write_file(const std::string& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

inline std::vector<Json> read_lines(const std::string& path) {
  std::vector<Json> lines;
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) lines.push_back(Json::parse(line));
  return lines;
}

inline std::string request_text(const std::string& custom_id, const std::string& body = R"({"prompt":[5,6,7],"max_tokens":2})",
                                const std::string& url = "/v1/completions") {
  return R"({"custom_id":)" + Json(custom_id).dump() + R"(,"method":"POST","url":")" + url + R"(","body":)" + body + "}";
}

/// What Engine checks, for a model with 256 ids and a context of 512.
inline std::optional<RequestError> model_error(const Request& request) {
  const auto bad_id = [](TokenId id) { return id >= 256; };
  for (const Prompt& prompt : request.prompts) {
    const auto* ids = std::get_if<std::vector<TokenId>>(&prompt);
    const auto* text = std::get_if<std::string>(&prompt);
    if (ids != nullptr && std::any_of(ids->begin(), ids->end(), bad_id)) return RequestError{"invalid_value", "no such id", "prompt"};
    if ((ids != nullptr && ids->size() >= 512) || (text != nullptr && text->size() >= 512)) {
      return RequestError{"context_length_exceeded", "too long", "prompt"};
    }
  }
  for (const auto& [id, bias] : request.sampling.logit_bias) {
    if (bad_id(id)) return RequestError{"invalid_value", "no such id", "logit_bias"};
  }
  return std::nullopt;
}

inline Completion scripted_completion(const Request& request) {
  Completion completion{.id = request.id, .error = model_error(request), .prompts = {}, .choices = {}};
  if (completion.error) return completion;
  for (const Prompt& prompt : request.prompts) {
    PromptResult& result = completion.prompts.emplace_back();
    if (const auto* ids = std::get_if<std::vector<TokenId>>(&prompt)) result.token_ids = *ids;
    result.text = "the prompt";
    for (int i = 0; i < request.sampling.n; ++i) {
      Choice& choice = completion.choices.emplace_back();
      choice.index = static_cast<int>(completion.choices.size()) - 1;
      choice.token_ids = {1, 2};
      choice.text = "answer to " + request.id;
    }
  }
  return completion;
}

/// Runs a job to its end with `in_flight` requests at a time, the newest answered first. `stop_after`: answers until stop().
inline int run_job(const BatchOptions& options, size_t in_flight = 4, int stop_after = -1, const std::function<void(const Request&)>& look = {}) {
  Job job(options);
  job.start("the-model");
  std::deque<Request> running;
  Progress progress;
  bool stopped = false;
  for (;;) {
    while (running.size() < in_flight) {
      auto request = job.next();
      if (!request) break;
      if (look) look(*request);
      running.push_back(std::move(*request));
    }
    if (running.empty()) break;
    if (stopped || stop_after-- == 0) {
      stopped = true;
      job.stop();
      break;
    }
    job.done(scripted_completion(running.back()));
    running.pop_back();
    ++progress.passes;
    job.pass(progress);
  }
  return job.finish(!stopped);
}

inline BatchOptions options_for(const Scratch& scratch) {
  BatchOptions options;
  options.input = scratch.path("in");
  options.output = scratch.path("out");
  options.progress = "none";
  return options;
}

}  // namespace moegen::testing
