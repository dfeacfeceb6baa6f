#pragma once

#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "moegen/engine.h"

namespace moegen::testing {

/// Gives requests from a list and keeps what comes back.
class ListJob : public RequestSource, public CompletionSink {
 public:
  explicit ListJob(std::vector<Request> requests) : requests_(std::move(requests)) {}
  std::optional<Request> next() override {
    if (given_ == requests_.size()) return std::nullopt;
    return requests_[given_++];
  }
  void done(Completion completion) override {
    const std::string id = completion.id;
    if (!answers.emplace(id, std::move(completion)).second) throw std::runtime_error("answered twice: " + id);
  }
  void text(const std::string& id, int choice, std::string_view piece) override { pieces[{id, choice}] += piece; }
  void pass(const Progress& p) override { progress = p; }

  std::map<std::string, Completion> answers;
  std::map<std::pair<std::string, int>, std::string> pieces;
  Progress progress;

 private:
  std::vector<Request> requests_;
  size_t given_ = 0;
};

/// Greedy continuation of token ids, EOS ignored.
inline Request greedy(std::string id, std::vector<TokenId> prompt, int64_t max_tokens) {
  Request r;
  r.id = std::move(id);
  r.prompts.emplace_back(std::move(prompt));
  r.sampling.temperature = 0;
  r.sampling.max_tokens = max_tokens;
  r.sampling.ignore_eos = true;
  return r;
}

inline EngineOptions ids_only(std::filesystem::path model) {
  EngineOptions o;
  o.model = std::move(model);
  o.skip_tokenizer_init = true;
  o.threads = 2;
  o.host_memory = uint64_t{2} << 30;
  return o;
}

inline const std::filesystem::path kModels = std::filesystem::path(MOEGEN_SOURCE_DIR) / "tests/data/models";
inline const std::filesystem::path kDemo = std::filesystem::path(MOEGEN_SOURCE_DIR) / "examples/kjv-moe";

}  // namespace moegen::testing
