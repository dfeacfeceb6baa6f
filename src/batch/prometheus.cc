#include "batch/prometheus.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <vector>

#include "batch/new_file.h"
#include "tokenizer/unicode.h"

namespace moegen {
namespace {

std::string label_value(const std::string& text) {
  std::string out;
  for (const char c : text::valid_utf8(text)) {
    if (c == '\\') out += "\\\\";
    if (c == '"') out += "\\\"";
    if (c == '\n') out += "\\n";
    if (c != '\\' && c != '"' && c != '\n') out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? ' ' : c;
  }
  return out;
}

class Text {
 public:
  void family(std::string_view name, std::string_view type, std::string_view help) {
    name_ = name;
    text_ += fmt::format("# HELP moegen_{} {}\n# TYPE moegen_{} {}\n", name, help, name, type);
  }
  template <typename Value>
  void sample(Value value, const std::string& labels = "") {
    text_ += fmt::format("moegen_{}{} {}\n", name_, labels.empty() ? "" : "{" + labels + "}", value);
  }
  template <typename Value>
  void gauge(std::string_view name, Value value, std::string_view help) {
    family(name, "gauge", help);
    sample(value);
  }
  template <typename Value>
  void counter(std::string_view name, Value value, std::string_view help) {
    family(name, "counter", help);
    sample(value);
  }
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  std::string name_;
  std::string text_;
};

void add_job(const JobStatus& s, const EngineInfo& info, JobState state, Text& t) {
  t.family("info", "gauge", "The model that runs, and how; always 1.");
  t.sample(1, fmt::format("model=\"{}\",family=\"{}\",dtype=\"{}\",kernels=\"{}\"", label_value(info.model_name), label_value(info.family),
                          label_value(info.dtype), label_value(info.cpu_path)));
  t.gauge("job_running", state == JobState::running ? 1 : 0, "Whether the run goes on.");
  t.gauge("job_finished", state == JobState::finished ? 1 : 0, "Whether all requests are answered.");
  t.gauge("last_update_timestamp_seconds", std::time(nullptr), "When this was written.");
  t.counter("job_seconds_total", s.seconds, "Time since the run began.");
  if (s.total) t.gauge("requests", *s.total, "Lines of the input.");
  t.counter("requests_answered_total", s.answered, "Requests answered by this run, with those that failed.");
  t.counter("requests_failed_total", s.failed, "Requests answered with an error.");
  t.counter("requests_skipped_total", s.skipped, "Requests that a former run had answered.");
  if (!s.errors.empty()) t.family("errors_total", "counter", "Requests answered with an error, by its code.");
  for (const ErrorCount& e : s.errors) t.sample(e.count, fmt::format("code=\"{}\"", label_value(e.code)));
  if (const auto left = s.seconds_left(); left && state != JobState::interrupted)
    t.gauge("seconds_left", state == JobState::running ? *left : 0, "Estimated time until all is answered.");
}

void add_engine(const JobStatus& s, const EngineInfo& info, Text& t) {
  const Progress& p = s.engine;
  t.counter("passes_total", p.passes, "Sweeps through the layers.");
  t.counter("prompt_tokens_total", p.prompt_tokens, "Prompt tokens computed.");
  t.counter("generated_tokens_total", p.generated_tokens, "Tokens generated.");
  t.counter("preemptions_total", p.preemptions, "Sequences that gave their pages back to go on later.");
  t.counter("recomputed_total", p.recomputed, "Of these, those that are computed again.");
  t.counter("swap_seconds_total", p.swap_seconds, "Time for writing and reading the others.");
  t.gauge("swap_bytes", p.swap_bytes, "On disk: keys and values of those that wait.");
  t.gauge("sequences_running", p.sequences_running, "Sequences in flight.");
  t.gauge("sequences_waiting", p.sequences_waiting, "Sequences read and not begun.");
  t.gauge("pass_tokens", p.pass_tokens, "Tokens of the last pass.");
  t.gauge("pass_tokens_per_expert", p.pass_tokens_per_expert, "Tokens of an expert that had any, in the last pass.");
  t.gauge("pass_seconds", p.pass_seconds, "Duration of the last pass.");
  t.gauge("kv_pages_used", p.kv_pages_used, "Pages of keys and values in use.");
  t.gauge("kv_pages", p.kv_pages, "Pages of keys and values.");
  t.gauge("resident_memory_bytes", s.memory, "RAM that the process has.");
  t.gauge("host_memory_limit_bytes", info.host_memory, "RAM that it may have.");
  t.counter("weight_bytes_read_total", p.weight_bytes_read, "Bytes of weights that streamed from storage.");
  t.counter("pass_seconds_total", p.measured.passes, "Time within passes.");
  t.counter("storage_seconds_total", p.measured.storage, "Time in which weights were read.");
  t.counter("weight_wait_seconds_total", p.measured.wait, "Time in which the cores waited for weights.");
  if (p.predicted.passes > 0) t.counter("predicted_pass_seconds_total", p.predicted.passes, "Time that the passes were expected to take.");
}

}  // namespace

std::string prometheus_text(const JobStatus& status, const EngineInfo& info, JobState state) {
  Text text;
  add_job(status, info, state, text);
  add_engine(status, info, text);
  return text.text();
}

void write_prometheus(const std::string& file, const std::string& text) {
  NewFile out(file, "--prometheus " + file);
  out.write(text);
  out.put_in_place(0644, false);  // the collector is another user
}

}  // namespace moegen
