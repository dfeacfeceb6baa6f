#include "bench/random_run.h"

#include <algorithm>
#include <optional>
#include <random>
#include <string>
#include <utility>

#include "base/error.h"

namespace moegen {
namespace {

// Gives `lengths.size()` greedy requests of random token ids, and counts what the run does.
class Requests : public RequestSource, public CompletionSink {
 public:
  Requests(const std::vector<Lengths>& lengths, int64_t vocab) : lengths_(lengths), vocab_(vocab) {}

  std::optional<Request> next() override {
    if (given_ == lengths_.size()) return std::nullopt;
    const Lengths& length = lengths_[given_];
    std::uniform_int_distribution<TokenId> any(0, static_cast<TokenId>(vocab_ - 1));
    std::vector<TokenId> prompt(static_cast<size_t>(length.prompt));
    for (TokenId& id : prompt) id = any(random_);
    Request request;
    request.id = std::to_string(given_++);
    request.prompts.emplace_back(std::move(prompt));
    request.sampling.temperature = 0;
    request.sampling.max_tokens = length.generate;
    request.sampling.ignore_eos = true;
    return request;
  }
  void done(Completion completion) override {
    if (completion.error) error_ = completion.error->message;
  }
  void pass(const Progress& progress) override {
    run_.progress = progress;
    run_.experts_used += progress.pass_experts_used;
  }

  [[nodiscard]] const std::string& error() const { return error_; }
  [[nodiscard]] const Run& run() const { return run_; }

 private:
  const std::vector<Lengths>& lengths_;
  int64_t vocab_;
  std::mt19937 random_{0};
  size_t given_ = 0;
  std::string error_;
  Run run_;
};

}  // namespace

Run run(Engine& engine, const std::vector<Lengths>& lengths) {
  Requests requests(lengths, engine.info().vocab_size);
  if (!engine.run(requests, requests)) throw_error(ErrorCode::io, "the run was stopped");
  if (!requests.error().empty()) throw_error(ErrorCode::invalid_argument, "a request was refused: {}", requests.error());
  return requests.run();
}

std::vector<Lengths> make_lengths(const ThroughputBench& o, int64_t count) {
  std::mt19937 random(1);
  const auto around = [&](int64_t mean) {
    if (!o.ragged) return mean;
    return std::uniform_int_distribution<int64_t>(std::max<int64_t>(1, mean - mean / 2), mean + mean / 2)(random);
  };
  std::vector<Lengths> out;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t prompt = around(o.prompt);
    out.push_back({prompt, std::max<int64_t>(2, around(o.generate))});
  }
  return out;
}

std::vector<Lengths> prompts_only(std::vector<Lengths> lengths) {
  for (Lengths& length : lengths) length.generate = 1;
  return lengths;
}

}  // namespace moegen
