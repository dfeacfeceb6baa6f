#include "report/history.h"

#include <fcntl.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/json.h"
#include "batch/line_reader.h"

namespace moegen {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxLineBytes = 1 << 20;
constexpr size_t kMaxErrors = 100;
constexpr size_t kMaxRuns = 1000;

// One line, with where it stands.
class Fields {
 public:
  Fields(const Json& json, std::string where) : json_(json), where_(std::move(where)) {
    if (!json.is_object()) throw_error(ErrorCode::corrupt, "{}: expected an object", where_);
  }
  [[nodiscard]] std::optional<double> maybe(const char* key) const {
    const auto at = json_.find(key);
    if (at == json_.end() || at->is_null()) return std::nullopt;
    if (!at->is_number()) throw_error(ErrorCode::corrupt, "{}: {}: expected a number, found {}", where_, key, at->type_name());
    const auto value = at->get<double>();
    if (!std::isfinite(value) || std::abs(value) > 1e18) throw_error(ErrorCode::corrupt, "{}: {}: {} is out of range", where_, key, value);
    return value;
  }
  [[nodiscard]] double number(const char* key) const { return maybe(key).value_or(0); }
  [[nodiscard]] std::string text(const char* key) const {
    const auto at = json_.find(key);
    return at != json_.end() && at->is_string() ? at->get<std::string>() : "";
  }
  [[nodiscard]] bool is_true(const char* key) const {
    const auto at = json_.find(key);
    return at != json_.end() && at->is_boolean() && at->get<bool>();
  }
  [[nodiscard]] const Json* member(const char* key, Json::value_t type) const {
    const auto at = json_.find(key);
    return at != json_.end() && at->type() == type ? &*at : nullptr;
  }
  [[nodiscard]] Fields object(const Json& json) const { return {json, where_}; }

 private:
  const Json& json_;
  std::string where_;
};

std::optional<Summary::Resources> resources(const Fields& line, const char* key) {
  const Json* object = line.member(key, Json::value_t::object);
  if (object == nullptr) return std::nullopt;
  const Fields f = line.object(*object);
  return Summary::Resources{f.number("passes"), f.number("cpu"), f.number("ssd"), f.number("wait")};
}

Summary read_summary(const Fields& line) {
  Summary s;
  s.finished = line.is_true("finished");
  s.seconds = line.number("seconds");
  s.answered = line.number("answered");
  s.failed = line.number("failed");
  s.skipped = line.number("skipped");
  s.planned_seconds = line.maybe("planned_seconds");
  s.bottleneck = line.text("bottleneck");
  s.host_memory = line.number("host_memory");
  s.planned_memory = line.number("planned_memory");
  s.max_pass_tokens = line.number("max_pass_tokens");
  s.max_sequences = line.number("max_sequences");
  s.measured = resources(line, "measured");
  s.predicted = resources(line, "predicted");
  if (const Json* run = line.member("run", Json::value_t::object)) {
    for (const auto& [label, text] : run->items()) {
      if (text.is_string() && s.run.size() < kMaxErrors) s.run.emplace_back(label, text.get<std::string>());
    }
  }
  return s;
}

class Reader {
 public:
  void add(const Fields& line) {
    if (line.is_true("summary")) return add_summary(line);
    const double passes = line.number("passes");
    if (passes <= 0 || !line.maybe("seconds")) return;  // none of our lines
    if (passes <= last_passes_) begin_run();
    out_.summary.reset();
    Interval i = interval(line, passes);
    last_passes_ = passes;
    if (const Json* errors = line.member("errors", Json::value_t::object)) {
      run_errors_.clear();
      for (const auto& [code, count] : errors->items()) {
        if (count.is_number() && run_errors_.size() < kMaxErrors) run_errors_.push_back({code, count.get<double>(), "", 0});
      }
    }
    read_former(line);
    answered_ = line.number("answered");
    failed_ = line.number("failed");
    preemptions_ = line.number("preemptions");
    out_.kv_pages = line.number("kv_pages");
    keep(i);
  }

  History finish() {
    end_run();
    return std::move(out_);
  }

 private:
  Interval interval(const Fields& line, double passes) {
    Interval i;
    const double seconds = line.number("seconds");
    i.begin = base_ + last_seconds_;
    i.end = base_ + std::max(seconds, last_seconds_);
    i.passes = passes - last_passes_;
    i.pass_seconds = line.number("pass_seconds");
    i.wait_seconds = line.number("pass_weight_wait_share") * i.pass_seconds;
    i.storage_seconds = (1 - line.maybe("pass_storage_idle_share").value_or(1)) * i.pass_seconds;
    if (const auto predicted = line.maybe("pass_predicted_seconds")) {
      i.predicted_seconds = *predicted;
      i.predicted_of = i.pass_seconds;
    }
    i.prompt_tokens = std::max(0.0, line.number("prompt_tokens") - last_prompt_);
    i.generated_tokens = std::max(0.0, line.number("generated_tokens") - last_generated_);
    i.pass_tokens = line.number("pass_tokens");
    i.pass_sequences = line.number("pass_sequences");
    i.tokens_per_expert = line.number("pass_tokens_per_expert");
    i.experts_used = line.number("pass_experts_used");
    i.most_of_an_expert = line.number("pass_most_of_an_expert");
    i.kv_pages_used = line.number("kv_pages_used");
    i.memory = line.number("resident_memory");
    i.waiting = line.number("sequences_waiting");
    i.failed = line.number("failed");
    i.seconds_left = line.maybe("seconds_left");
    last_seconds_ = std::max(seconds, last_seconds_);
    last_prompt_ = line.number("prompt_tokens");
    last_generated_ = line.number("generated_tokens");
    out_.prompt_tokens += i.prompt_tokens;
    out_.generated_tokens += i.generated_tokens;
    out_.passes += i.passes;
    return i;
  }

  // As many passes in every interval, and twice as many where there would be too many intervals.
  void keep(const Interval& next) {
    if (in_last_ == each_ || out_.intervals.empty() || new_run_) {
      if (out_.intervals.size() == History::kMost) halve();
      out_.intervals.push_back(next);
      in_last_ = 1;
      new_run_ = false;
      return;
    }
    out_.intervals.back().add(next);
    ++in_last_;
  }

  void halve() {
    auto& all = out_.intervals;
    for (size_t i = 0; i < all.size() / 2; ++i) {
      all[i] = all[2 * i];
      all[i].add(all[2 * i + 1]);
    }
    all.resize(all.size() / 2);
    each_ *= 2;
  }

  void begin_run() {
    end_run();
    base_ += last_seconds_;
    if (out_.resumed.size() < kMaxRuns) out_.resumed.push_back(base_);
    last_seconds_ = last_passes_ = last_prompt_ = last_generated_ = 0;
    new_run_ = true;
  }

  // What was there when the run began: answers of killed runs and failed ones that are asked again are in no sum of runs.
  void read_former(const Fields& line) {
    former_answers_ = line.maybe("former_answers");
    former_failed_ = line.maybe("former_failed");
  }

  void end_run() {
    out_.answered = std::exchange(former_answers_, std::nullopt).value_or(out_.answered) + std::exchange(answered_, 0);
    if (former_failed_ == 0) out_.errors.clear();
    out_.failed = std::exchange(former_failed_, std::nullopt).value_or(out_.failed) + std::exchange(failed_, 0);
    out_.preemptions += std::exchange(preemptions_, 0);
    for (ErrorKind& e : run_errors_) {
      const auto at = std::find_if(out_.errors.begin(), out_.errors.end(), [&](const ErrorKind& other) { return other.code == e.code; });
      if (at != out_.errors.end()) {
        at->count += e.count;
        if (at->first.empty() && at->first_line == 0) {
          at->first = std::move(e.first);
          at->first_line = e.first_line;
        }
      } else if (out_.errors.size() < kMaxErrors) {
        out_.errors.push_back(std::move(e));
      }
    }
    run_errors_.clear();
  }

  // A run in which nothing was left to do has no passes, and counts only where it is the first.
  void add_summary(const Fields& line) {
    if (line.number("passes") > 0 && line.number("passes") < last_passes_) begin_run();
    out_.summary = read_summary(line);
    read_former(line);
    answered_ = line.number("answered");
    failed_ = line.number("failed");
    if (const Json* errors = line.member("errors", Json::value_t::array)) {
      run_errors_.clear();
      for (const Json& e : *errors) {
        if (!e.is_object() || run_errors_.size() == kMaxErrors) continue;
        const Fields f = line.object(e);
        run_errors_.push_back({f.text("code"), f.number("count"), f.text("first_custom_id"), f.number("first_line")});
      }
    }
    end_run();
  }

  History out_;
  double base_ = 0;  // seconds of the runs before
  double last_seconds_ = 0, last_passes_ = 0, last_prompt_ = 0, last_generated_ = 0;
  double answered_ = 0, failed_ = 0, preemptions_ = 0;    // of this run
  std::optional<double> former_answers_, former_failed_;  // when it began
  std::vector<ErrorKind> run_errors_;
  int64_t each_ = 1;     // lines of an interval
  int64_t in_last_ = 0;  // lines of the last one
  bool new_run_ = false;
};

}  // namespace

void Interval::add(const Interval& next) {
  end = next.end;
  for (double Interval::*sum :
       {&Interval::passes, &Interval::pass_seconds, &Interval::wait_seconds, &Interval::storage_seconds, &Interval::predicted_seconds,
        &Interval::predicted_of, &Interval::prompt_tokens, &Interval::generated_tokens, &Interval::pass_tokens, &Interval::pass_sequences,
        &Interval::tokens_per_expert, &Interval::experts_used, &Interval::waiting})
    this->*sum += next.*sum;
  for (double Interval::*most : {&Interval::most_of_an_expert, &Interval::kv_pages_used, &Interval::memory})
    this->*most = std::max(this->*most, next.*most);
  failed = next.failed;
  seconds_left = next.seconds_left;
}

History read_history(const std::filesystem::path& file) {
  const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw_error(errno == ENOENT ? ErrorCode::not_found : ErrorCode::io, "{}: cannot open: {}", file.string(), std::strerror(errno));
  const std::atomic<bool> never{false};
  LineReader lines(decompressed(descriptor_source(fd, file.string(), never), file.string()), kMaxLineBytes);
  Reader reader;
  bool any = false;
  for (Line line; lines.next(line); any = true) {
    const std::string where = fmt::format("{}: line {}", file.string(), line.number);
    if (line.too_long) throw_error(ErrorCode::corrupt, "{}: longer than {} bytes: is it a metrics file?", where, kMaxLineBytes);
    Json json;
    try {
      json = parse_ordered_json(line.text, where);
    } catch (const Error&) {
      if (!line.complete && any) break;
      throw;
    }
    reader.add(Fields(json, where));
  }
  History out = reader.finish();
  if (out.intervals.empty() && !out.summary)
    throw_error(ErrorCode::corrupt, "{}: no passes in it: is it what run-batch --metrics wrote?", file.string());
  out.name = file.filename().string();
  return out;
}

}  // namespace moegen
