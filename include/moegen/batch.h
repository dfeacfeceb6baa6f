#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "moegen/engine.h"

namespace moegen {

struct BatchOptions {
  std::string input;                            ///< a file (.gz and .zst are read as such), or "-": stdin
  std::string output;                           ///< a file, or "-": stdout
  std::string error_file;                       ///< where failed requests go; empty: to output
  std::string metrics_file;                     ///< JSON lines, one a pass and a summary; empty: none
  std::string prometheus_file;                  ///< the state in Prometheus' text format, every 10 s; empty: none
  std::string progress = "auto";                ///< auto | bar | plain | none
  std::string trace_file;                       ///< the engine's, which may be none of these files; empty: none
  std::optional<bool> resume;                   ///< empty: refuse to touch an existing output; false: overwrite it
  bool retry_failed = false;                    ///< resume, and ask failed requests again, in place of their answers
  std::string changed = "stop";                 ///< on resume, where requests or settings are not those of the answers: stop | keep | redo
  RunSettings settings;                         ///< that tokens depend on: run_settings() of the engine's options
  bool ordered = false;                         ///< in the order of the input; what waits beyond 64 MiB waits in a temporary file
  uint64_t host_memory = 0;                     ///< the engine's: bounds what is kept of a line before an engine is there; 0: what is available
  std::optional<int64_t> limit;                 ///< only the first so many lines that hold a request
  std::vector<std::string> served_model_names;  ///< further names that a request's `model` may have
};

/// Lengths of the requests of an input file, for a plan: those of up to 2,000 lines that are spread over it, of which the rest are taken to be
/// repetitions; max_tokens is taken to be used up. What the run will refuse is left out. None of a pipe, nor `complete` then. `model_name`: what
/// requests may call the model. Without a `counter` lengths of prompts are estimated from their characters.
[[nodiscard]] Workload sample_requests(const BatchOptions& options, const std::string& model_name, const PromptCounter* counter);

/// An OpenAI batch file and its answers. Every answer is written as a whole line when it is ready, so a run that was killed
/// can be resumed: an answer there with a line's custom_id (or, for a line without one, with its `id`) is not given again.
class BatchJob {
 public:
  /// Opens the files before any model is loaded: a missing input, an output that would be overwritten, and input and output
  /// being the same file end here. Throws Error.
  explicit BatchJob(const BatchOptions& options);
  ~BatchJob();
  BatchJob(const BatchJob&) = delete;
  BatchJob& operator=(const BatchJob&) = delete;

  /// As sample_requests(), of what former runs have left to answer. Before run().
  [[nodiscard]] Workload workload(const std::string& model_name, const PromptCounter* counter) const;

  /// For files of the run that are gone with it: where the output is, if it is a file.
  [[nodiscard]] std::filesystem::path temporary_folder() const;

  /// Answers every request. 0: all answered, errors of single requests included. 130: interrupted by SIGINT or SIGTERM after
  /// a clean flush. Throws Error where it has to stop.
  int run(Engine& engine);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace moegen
