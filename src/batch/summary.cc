#include "batch/summary.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/size.h"

namespace moegen {
namespace {

double share(double seconds, double of) { return of > 0 ? 100 * std::clamp(seconds / of, 0.0, 1.0) : 0.0; }

std::string labelled(const char* label, const std::string& text) { return fmt::format("  {:<10}{}", label, text); }

std::string tokens_text(const JobStatus& s) {
  const Progress& p = s.engine;
  const auto rate = [&](int64_t tokens) { return static_cast<double>(tokens) / std::max(s.seconds, 1e-9); };
  std::string text = fmt::format("{} prompt tokens ({:.0f}/s), {} generated ({:.0f}/s), in {} passes", p.prompt_tokens, rate(p.prompt_tokens),
                                 p.generated_tokens, rate(p.generated_tokens), p.passes);
  if (p.preemptions > 0) text += fmt::format("; {} preemptions", p.preemptions);
  if (p.swap_seconds > 0) text += fmt::format(", {:.1f} s for the disk that kept them", p.swap_seconds);
  if (p.recomputed > 0) text += fmt::format(", {} of them computed again: more KV memory would save that", p.recomputed);
  return text;
}

std::string slowest_text(const JobStatus& s) {
  const Progress& p = s.engine;
  std::string text = bottleneck_of(p.measured, p.predicted, s.seconds);
  text += p.measured.cpu > 0 ? fmt::format(": the cores computed for {:.0f} % of the time", share(p.measured.cpu, s.seconds))
                             : fmt::format(": passes took {:.0f} % of the time", share(p.measured.passes, s.seconds));
  if (p.weight_bytes_read > 0) {
    text += fmt::format(" and waited {:.0f} % for weights; {:.1f} GB of weights streamed at {:.2f} GB/s (storage idle {:.0f} % of the time)",
                        share(p.weight_wait_seconds, s.seconds), static_cast<double>(p.weight_bytes_read) * 1e-9,
                        static_cast<double>(p.weight_bytes_read) * 1e-9 / std::max(p.weight_read_seconds, 1e-9),
                        100 - share(p.weight_read_seconds, s.seconds));
  }
  const double tail = share(p.tail_seconds, p.seconds);
  if (tail >= 5) text += fmt::format("; {:.0f} % of the time in the tail, with less than half of the sequences", tail);
  return text;
}

// Below ten seconds with two digits that count: "0.036s".
std::string exact_duration(double seconds) {
  if (seconds < 1e-6 || seconds >= 9.95) return duration_text(seconds);
  int decimals = 1;
  for (double rest = seconds; rest < 0.995 && decimals < 6; rest *= 10) ++decimals;
  return fmt::format("{:.{}f}s", seconds, decimals);
}

std::string against(const char* what, double measured, double predicted, const char* predicted_word) {
  std::string text = fmt::format("{} {}, {} {}", what, exact_duration(measured), predicted_word, exact_duration(predicted));
  if (predicted > 0) text += fmt::format(" ({:+.0f} %)", 100 * (measured / predicted - 1));
  return text;
}

std::string time_text(const JobStatus& s, const EngineInfo& info, bool finished) {
  const Progress& p = s.engine;
  std::string text = against("passes took", p.measured.passes, p.predicted.passes, "predicted");
  // The plan takes answers to be as long as they may become.
  if (info.predicted_seconds && finished) text += "; " + against("the job took", s.seconds, *info.predicted_seconds, "planned at most");
  return text;
}

std::string resources_text(const Progress& p) {
  std::string text = against("the cores", p.measured.cpu, p.predicted.cpu, "predicted");
  if (p.predicted.dram > 0) text += fmt::format("; DRAM alone, predicted {}", exact_duration(p.predicted.dram));
  if (p.weight_bytes_read == 0) return text;
  return text + "; " + against("storage", p.measured.storage, p.predicted.storage, "predicted") + "; " +
         against("waits for it", p.measured.wait, p.predicted.wait, "predicted");
}

std::string error_text(const ErrorCount& e) {
  const std::string name = e.first.empty() ? "" : fmt::format("custom_id {}, ", e.first.size() > 80 ? e.first.substr(0, 77) + ".." : e.first);
  return fmt::format("{} x {}, first: {}line {}", e.count, e.code, name, e.first_line);
}

}  // namespace

std::vector<std::string> summary_lines(const JobStatus& s, const EngineInfo& info, bool finished, const std::string& output) {
  std::string first = finished ? "done: " : "interrupted: ";
  first += fmt::format("{} requests answered in {}", s.answered, s.seconds < 100 ? fmt::format("{:.1f} s", s.seconds) : duration_text(s.seconds));
  if (s.failed > 0) first += fmt::format(", {} of them with an error", s.failed);
  if (s.skipped > 0) first += fmt::format(", {} were answered before", s.skipped);
  std::vector<std::string> out{first};
  if (s.engine.passes > 0) {
    out.push_back(labelled("tokens", tokens_text(s)));
    out.push_back(labelled("slowest", slowest_text(s)));
  }
  if (s.engine.predicted.passes > 0) {
    out.push_back(labelled("time", time_text(s, info, finished)));
    if (s.engine.predicted.cpu > 0) out.push_back(labelled("", resources_text(s.engine)));
  }
  if (s.memory > 0)
    out.push_back(labelled("memory", fmt::format("{} at the end, {} planned", format_bytes(s.memory), format_bytes(info.planned_memory))));
  for (const ErrorCount& e : s.errors) out.push_back(labelled(&e == s.errors.data() ? "errors" : "", error_text(e)));
  out.push_back(labelled("answers", output));
  if (!finished) out.push_back("go on with --resume");
  return out;
}

}  // namespace moegen
