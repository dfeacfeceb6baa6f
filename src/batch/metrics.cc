#include "batch/metrics.h"

#include <algorithm>
#include <chrono>

#include "base/clock.h"
#include "base/json.h"

namespace moegen {
namespace {

using Json = nlohmann::ordered_json;

double per_second(int64_t tokens, const JobStatus& status) { return static_cast<double>(tokens) / std::max(status.seconds, 1e-9); }

double share(double seconds, double of) { return of > 0 ? std::clamp(seconds / of, 0.0, 1.0) : 0.0; }

Json or_null(double seconds) { return seconds > 0 ? Json(seconds) : Json(); }

Json by_resource(const ResourceSeconds& seconds) {
  if (seconds.passes <= 0) return {};
  return {{"passes", seconds.passes}, {"cpu", seconds.cpu}, {"ssd", seconds.storage}, {"wait", seconds.wait}};
}

double unix_time() { return std::chrono::duration<double>(Clock::wall().time_since_epoch()).count(); }

// What a model's directory is called need not be UTF-8.
std::string text_of(const Json& line) { return line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"; }

Json counts_of(const std::vector<ErrorCount>& errors) {
  Json out = Json::object();
  for (const ErrorCount& e : errors) out[e.code] = e.count;
  return out;
}

Json details_of(const std::vector<ErrorCount>& errors) {
  Json out = Json::array();
  for (const ErrorCount& e : errors)
    out.push_back(
        {{"code", e.code}, {"count", e.count}, {"first_custom_id", e.first.empty() ? Json() : Json(e.first)}, {"first_line", e.first_line}});
  return out;
}

}  // namespace

std::string pass_metrics(const JobStatus& status) {
  const Progress& p = status.engine;
  const auto left = status.seconds_left();
  Json line = {{"passes", p.passes},
               {"time", unix_time()},
               {"seconds", p.seconds},
               {"pass_seconds", p.pass_seconds},
               {"tail_seconds", p.tail_seconds},
               {"pass_tokens", p.pass_tokens},
               {"pass_prefill_tokens", p.pass_prefill_tokens},
               {"pass_sequences", p.pass_sequences},
               {"pass_tokens_per_expert", p.pass_tokens_per_expert},
               {"pass_experts_used", p.pass_experts_used},
               {"pass_most_of_an_expert", p.pass_most_of_an_expert},
               {"requests_finished", p.requests_finished},
               {"requests_failed", p.requests_failed},
               {"answered", status.answered},
               {"failed", status.failed},
               {"former_answers", status.former_answers},
               {"former_failed", status.former_failed},
               {"sequences_running", p.sequences_running},
               {"sequences_waiting", p.sequences_waiting},
               {"preemptions", p.preemptions},
               {"recomputed", p.recomputed},
               {"swap_bytes", p.swap_bytes},
               {"swap_seconds", p.swap_seconds},
               {"prompt_tokens", p.prompt_tokens},
               {"generated_tokens", p.generated_tokens},
               {"kv_pages_used", p.kv_pages_used},
               {"kv_pages", p.kv_pages},
               {"resident_memory", status.memory},
               {"pass_weight_bytes_read", p.pass_weight_bytes_read},
               {"pass_storage_idle_share", 1 - share(p.pass_read_seconds, p.pass_seconds)},
               {"pass_weight_wait_share", share(p.pass_wait_seconds, p.pass_seconds)},
               {"pass_predicted_seconds", or_null(p.pass_predicted_seconds)},
               {"seconds_left", left ? Json(*left) : Json()}};
  if (!status.errors.empty()) line["errors"] = counts_of(status.errors);
  return text_of(line);
}

std::string summary_metrics(const JobStatus& status, const EngineInfo& info, bool finished) {
  const Progress& p = status.engine;
  Json screen = Json::object();
  for (const auto& [label, text] : info.screen) screen[label] = text;
  const Json line = {{"summary", true},
                     {"finished", finished},
                     {"time", unix_time()},
                     {"seconds", status.seconds},
                     {"answered", status.answered},
                     {"failed", status.failed},
                     {"skipped", status.skipped},
                     {"former_answers", status.former_answers},
                     {"former_failed", status.former_failed},
                     {"passes", p.passes},
                     {"preemptions", p.preemptions},
                     {"recomputed", p.recomputed},
                     {"swap_seconds", p.swap_seconds},
                     {"prompt_tokens", p.prompt_tokens},
                     {"generated_tokens", p.generated_tokens},
                     {"prompt_tokens_per_second", per_second(p.prompt_tokens, status)},
                     {"generated_tokens_per_second", per_second(p.generated_tokens, status)},
                     {"tail_share", share(p.tail_seconds, p.seconds)},
                     {"kv_pages", p.kv_pages},
                     {"weight_bytes_read", p.weight_bytes_read},
                     {"weight_read_seconds", p.weight_read_seconds},
                     {"weight_wait_seconds", p.weight_wait_seconds},
                     {"measured", by_resource(p.measured)},
                     {"predicted", by_resource(p.predicted)},
                     {"planned_seconds", info.predicted_seconds ? Json(*info.predicted_seconds) : Json()},
                     {"bottleneck", bottleneck_of(p.measured, p.predicted, status.seconds)},
                     {"resident_memory", status.memory},
                     {"host_memory", info.host_memory},
                     {"planned_memory", info.planned_memory},
                     {"max_pass_tokens", info.pass_tokens},
                     {"max_sequences", info.sequences},
                     {"errors", details_of(status.errors)},
                     {"run", screen}};
  return text_of(line);
}

}  // namespace moegen
