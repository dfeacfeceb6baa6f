#include "batch/metrics.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/json.h"

namespace moegen {
namespace {

using Json = nlohmann::ordered_json;

double per_second(int64_t tokens, const JobStatus& status) { return static_cast<double>(tokens) / std::max(status.seconds, 1e-9); }

double share(double seconds, double of) { return of > 0 ? std::clamp(seconds / of, 0.0, 1.0) : 0.0; }

// ", 41.5 GB of weights streamed at 1.80 GB/s (storage idle 3 %, cores waiting 60 % of the time)"
std::string streaming_text(const JobStatus& status) {
  const Progress& p = status.engine;
  if (p.weight_bytes_read == 0) return "";
  return fmt::format("; {:.1f} GB of weights streamed at {:.2f} GB/s (storage idle {:.0f} %, cores waiting {:.0f} % of the time)",
                     static_cast<double>(p.weight_bytes_read) * 1e-9, static_cast<double>(p.weight_bytes_read) * 1e-9 / p.weight_read_seconds,
                     100 * (1 - share(p.weight_read_seconds, p.seconds)), 100 * share(p.weight_wait_seconds, p.seconds));
}

Json or_null(double seconds) { return seconds > 0 ? Json(seconds) : Json(); }

Json by_resource(const ResourceSeconds& seconds) {
  if (seconds.passes <= 0) return {};
  return {{"passes", seconds.passes}, {"cpu", seconds.cpu}, {"ssd", seconds.storage}, {"wait", seconds.wait}};
}

}  // namespace

std::string pass_metrics(const Progress& progress) {
  const Json line = {{"passes", progress.passes},
                     {"seconds", progress.seconds},
                     {"pass_seconds", progress.pass_seconds},
                     {"tail_seconds", progress.tail_seconds},
                     {"pass_tokens", progress.pass_tokens},
                     {"pass_prefill_tokens", progress.pass_prefill_tokens},
                     {"pass_sequences", progress.pass_sequences},
                     {"requests_finished", progress.requests_finished},
                     {"requests_failed", progress.requests_failed},
                     {"sequences_running", progress.sequences_running},
                     {"sequences_waiting", progress.sequences_waiting},
                     {"preemptions", progress.preemptions},
                     {"prompt_tokens", progress.prompt_tokens},
                     {"generated_tokens", progress.generated_tokens},
                     {"kv_pages_used", progress.kv_pages_used},
                     {"kv_pages", progress.kv_pages},
                     {"pass_weight_bytes_read", progress.pass_weight_bytes_read},
                     {"pass_storage_idle_share", 1 - share(progress.pass_read_seconds, progress.pass_seconds)},
                     {"pass_weight_wait_share", share(progress.pass_wait_seconds, progress.pass_seconds)},
                     {"pass_predicted_seconds", or_null(progress.pass_predicted_seconds)}};
  return line.dump() + "\n";
}

std::string summary_metrics(const JobStatus& status, bool finished) {
  const Json line = {{"summary", true},
                     {"finished", finished},
                     {"seconds", status.seconds},
                     {"answered", status.answered},
                     {"failed", status.failed},
                     {"skipped", status.skipped},
                     {"passes", status.engine.passes},
                     {"preemptions", status.engine.preemptions},
                     {"prompt_tokens", status.engine.prompt_tokens},
                     {"generated_tokens", status.engine.generated_tokens},
                     {"prompt_tokens_per_second", per_second(status.engine.prompt_tokens, status)},
                     {"generated_tokens_per_second", per_second(status.engine.generated_tokens, status)},
                     {"tail_share", share(status.engine.tail_seconds, status.engine.seconds)},
                     {"kv_pages", status.engine.kv_pages},
                     {"weight_bytes_read", status.engine.weight_bytes_read},
                     {"weight_read_seconds", status.engine.weight_read_seconds},
                     {"weight_wait_seconds", status.engine.weight_wait_seconds},
                     {"measured", by_resource(status.engine.measured)},
                     {"predicted", by_resource(status.engine.predicted)}};
  return line.dump() + "\n";
}

std::string summary_text(const JobStatus& status, bool finished, const std::string& output) {
  std::string text = finished ? "" : "interrupted: ";
  text += fmt::format("{} requests answered in {:.1f} s", status.answered, status.seconds);
  if (status.failed > 0) text += fmt::format(", {} of them with an error", status.failed);
  if (status.skipped > 0) text += fmt::format(", {} were answered before", status.skipped);
  text += fmt::format("; {} prompt tokens ({:.0f}/s), {} generated ({:.0f}/s); {}", status.engine.prompt_tokens,
                      per_second(status.engine.prompt_tokens, status), status.engine.generated_tokens,
                      per_second(status.engine.generated_tokens, status), output + streaming_text(status));
  const double tail = share(status.engine.tail_seconds, status.engine.seconds);
  if (tail >= 0.05) text += fmt::format("; {:.0f} % of the time in the tail, with less than half of the sequences", 100 * tail);
  if (const Progress& p = status.engine; p.predicted.passes > 0) {
    text += fmt::format("; passes took {:.1f} s, predicted {:.1f} s ({:+.0f} %)", p.measured.passes, p.predicted.passes,
                        100 * (p.measured.passes / p.predicted.passes - 1));
  }
  return finished ? text : text + "; go on with --resume";
}

}  // namespace moegen
