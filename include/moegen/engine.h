#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "moegen/options.h"
#include "moegen/request.h"

namespace moegen {

/// Gives requests one by one; called on the thread of Engine::run, only when there is room for another.
class RequestSource {
 public:
  virtual ~RequestSource() = default;
  /// Empty at the end of the input.
  virtual std::optional<Request> next() = 0;
  /// False if next() would have to wait, for a pipe that has nothing to give. Asked only while there is other work.
  virtual bool ready() { return true; }
  /// Requests that next() will still give, as far as that is known: for the time that is left.
  virtual std::optional<int64_t> left() { return std::nullopt; }
};

/// Seconds of passes, by resource.
struct ResourceSeconds {
  double passes = 0;
  double cpu = 0;      ///< the cores compute; 0 of a run on a GPU
  double storage = 0;  ///< reads are under way
  double wait = 0;     ///< the cores wait for weights
  double dram = 0;     ///< that DRAM would take alone for the bytes; predicted only

  ResourceSeconds& operator+=(const ResourceSeconds& more) {
    passes += more.passes;
    cpu += more.cpu;
    storage += more.storage;
    wait += more.wait;
    dram += more.dram;
    return *this;
  }
};

/// Counters of a run, as they stand after a pass. Tokens are totals since the start of the run.
struct Progress {
  int64_t passes = 0;
  double seconds = 0;               ///< since the start of the run
  double pass_seconds = 0;          ///< of the last pass
  double tail_seconds = 0;          ///< at the end: nothing waits any more, and passes carry less than half the sequences of the fullest
  int64_t pass_tokens = 0;          ///< tokens the last pass carried
  int64_t pass_prefill_tokens = 0;  ///< of these, prompt tokens
  int64_t pass_sequences = 0;       ///< sequences the last pass carried
  int64_t requests_finished = 0;
  int64_t requests_failed = 0;
  int64_t sequences_running = 0;
  int64_t sequences_waiting = 0;
  int64_t preemptions = 0;
  int64_t recomputed = 0;     ///< preempted sequences whose K and V were not kept
  int64_t swap_bytes = 0;     ///< on disk now, of those that wait
  double swap_seconds = 0;    ///< that writing and reading them took; no part of any pass
  int64_t prompt_tokens = 0;  ///< computed, recomputation included
  int64_t generated_tokens = 0;
  int64_t kv_pages_used = 0;
  int64_t kv_pages = 0;
  int64_t weight_bytes_read = 0;   ///< from storage, by streaming
  int64_t link_bytes = 0;          ///< of weights that were used and of K and V, brought to a GPU
  double weight_read_seconds = 0;  ///< in which at least one read was under way
  double weight_wait_seconds = 0;  ///< in which the cores waited for weights
  double pass_read_seconds = 0;    ///< of the last pass: storage was idle in the rest of it
  double pass_wait_seconds = 0;    ///< of the last pass
  int64_t pass_weight_bytes_read = 0;
  double pass_tokens_per_expert = 0;   ///< of the last pass, of those that have any, over all layers; 0 without experts
  double pass_experts_used = 0;        ///< share that have any
  int64_t pass_most_of_an_expert = 0;  ///< tokens of the one that has the most

  ResourceSeconds measured;           ///< of all passes
  ResourceSeconds predicted;          ///< of all passes; all 0 where no rates of the machine are known
  double pass_predicted_seconds = 0;  ///< of the last pass

  std::optional<double> seconds_left;  ///< until all is answered, as it looked `seconds_left_at` seconds after the start; empty: not known
  double seconds_left_at = 0;
};

/// Takes what a run gives; called on the thread of Engine::run.
class CompletionSink {
 public:
  virtual ~CompletionSink() = default;
  virtual void done(Completion completion) = 0;
  /// New text of a choice, complete characters only, nothing that may still become part of a stop string.
  virtual void text(const std::string& /*id*/, int /*choice*/, std::string_view /*piece*/) {}
  virtual void pass(const Progress& /*progress*/) {}
};

/// What the engine does just now.
struct Activity {
  bool in_pass = false;
  int layer = 0;                   ///< that is computed
  bool waits_for_storage = false;  ///< for weights that stream
};

/// What requests call the model in this directory: its base name.
[[nodiscard]] std::string model_name(const std::filesystem::path& model);

/// What the tokens of answers depend on beside the request, by name: the files of the model, the options that decide bits or lengths.
using RunSettings = std::vector<std::pair<std::string, std::string>>;
/// Of a run with these options, without loading weights: of their files the headers and some thousand samples are read. Throws Error.
[[nodiscard]] RunSettings run_settings(const EngineOptions& options);

/// A model in memory and the loop that runs requests through it. Not thread-safe, but for request_stop().
class Engine {
 public:
  /// Loads the checkpoint and reserves all memory. Throws Error.
  explicit Engine(const EngineOptions& options);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  [[nodiscard]] const EngineInfo& info() const;

  /// Runs until the source is empty and everything is answered. False if request_stop() ended it before;
  /// what was not answered then has no Completion. Throws Error where the run cannot go on.
  bool run(RequestSource& source, CompletionSink& sink);

  /// Ends run() after the pass that is under way. May be called from any thread and from a signal handler.
  void request_stop() noexcept;
  /// Any thread.
  [[nodiscard]] Activity activity() const noexcept;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

/// What a checkpoint directory holds, as text for people or as JSON: family, shapes, bytes by kind and dtype,
/// what is skipped, what is missing. Reads headers only. Throws Error where there is no checkpoint to speak of.
std::string inspect(const std::filesystem::path& model, bool json);
/// The model families that can be run: names in config.json, formats of weights, by whose golden outputs they are tested.
std::string inspect_families(bool json);

}  // namespace moegen
