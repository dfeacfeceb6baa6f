#pragma once

#include <sys/stat.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "batch/answer_file.h"
#include "batch/former_runs.h"
#include "batch/held_answers.h"
#include "batch/journal.h"
#include "batch/ledger.h"
#include "batch/line_reader.h"
#include "batch/progress.h"
#include "batch/request_line.h"
#include "batch/waiting_answers.h"
#include "moegen/batch.h"

namespace moegen {

/// A batch file and its answers without the engine between them: BatchJob joins the two, tests put a script in its place.
/// But for stop(), everything is called on one thread.
class Job : public RequestSource, public CompletionSink {
 public:
  /// As BatchJob's. On resume, reads what is there and whether it answers this input. Changes no existing output yet.
  explicit Job(const BatchOptions& options);

  /// As BatchJob's. Before start().
  [[nodiscard]] Workload workload(const std::string& model_name, const PromptCounter* counter) const;
  [[nodiscard]] std::filesystem::path temporary_folder() const;
  /// Makes the outputs ready. `answer_memory`: bytes for requests and answers in flight, of
  /// which the engine takes half, answers that wait for their turn a quarter, and the line that is read a quarter. Throws Error.
  void start(const std::string& model_name, uint64_t answer_memory = uint64_t{1} << 30);
  /// Before start(): what is told about the run, and what the engine does just now.
  void describe(const EngineInfo& info, std::function<Activity()> activity);
  std::optional<Request> next() override;
  std::optional<int64_t> left() override;
  bool ready() override { return ended_ || stopping_ || input_->ready(); }
  void done(Completion completion) override;
  void pass(const Progress& progress) override;
  /// Flushes everything and says how it went. `finished`: what Engine::run returned. Returns the exit status.
  int finish(bool finished);
  /// The job stops for an error: says so to those who watch it.
  void fail();
  /// next() gives nothing more. Any thread, or a signal handler.
  void stop() noexcept { stopping_ = true; }

 private:
  struct Place {
    int64_t turn = 0;  // of its answer, among this run's answers
    Key key{};
    uint64_t request = 0;  // request_hash
    std::optional<std::string> custom_id{};
    int64_t line = 0;  // of the input, from 1
  };
  struct Pending {
    Place place;
    AnswerPlan plan;
  };

  void open_outputs();
  void look_back();
  void check_input();
  [[nodiscard]] bool keeps() const { return options_.resume.value_or(false); }
  bool read_line(Line& line);
  void check_whole(bool half) const;
  std::optional<Request> take(const Line& line);
  void answer(const Place& place, AnswerText text);
  void write(const AnswerText& text);
  void sync();
  void keep_waiting();
  void hold_back();
  void add_metrics(const std::string& line, bool last = false);
  void end_report(bool complete);
  void count_error(const Place& place, const std::string& code);
  void update_status();
  void claim_prometheus() const;
  [[nodiscard]] std::unique_ptr<AnswerFile> open_output(const std::string& path, std::optional<bool> resume);
  void refuse_others(const AnswerFile& file) const;

  BatchOptions options_;
  std::atomic<bool> stopping_{false};   // before source_, which looks at it
  std::unique_ptr<ByteSource> source_;  // the input until start()
  std::string input_name_;
  struct stat input_stat_ {};
  std::unique_ptr<LineReader> input_;
  std::unique_ptr<AnswerFile> output_;
  std::unique_ptr<AnswerFile> errors_;   // null: to output_
  std::unique_ptr<AnswerFile> metrics_;  // null: none
  std::unique_ptr<Journal> journal_;     // null: none, the output is no regular file
  std::vector<AnswerFile*> opened_;      // all of these
  std::unique_ptr<ProgressReport> report_;
  std::vector<std::string> models_;
  std::optional<Ledger> ledger_;                      // from the end of the constructor on
  std::optional<FormerRuns> former_;                  // on resume
  std::string now_;                                   // what templates take for the time: the same in all runs of a job
  std::string checked_input_;                         // identity of an input of which every line was found to be as it was; else empty
  std::unordered_map<std::string, Pending> pending_;  // in the engine, by custom_id
  std::optional<HeldAnswers> held_;                   // where the output is a regular file
  std::unique_ptr<WaitingAnswers> waiting_;           // null: answers go out as they come
  bool metrics_failed_ = false;
  int64_t turns_given_ = 0;
  int64_t lines_taken_ = 0;
  int64_t requests_given_ = 0;
  bool ended_ = false;  // nothing more in the input
  JobStatus status_;
  Clock::time_point start_time_;
  Clock::time_point sync_time_;
  EngineInfo info_;
  std::function<Activity()> activity_;
};

}  // namespace moegen
