#include "moegen/engine.h"

#include <atomic>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "api/admission.h"
#include "api/engine_info.h"
#include "api/job_watch.h"
#include "api/model.h"
#include "api/output_text.h"
#include "api/pass_watch.h"
#include "api/read_output.h"
#include "base/clock.h"
#include "base/error.h"
#include "engine/loop.h"
#include "engine/swap_file.h"

namespace moegen {
namespace {

// A request whose sequences are on their way, or still to be made.
struct Pending {
  Request request;
  Admitted admitted;  // its prompts are in the completion
  Completion completion;
  size_t sequences_made = 0;
  size_t sequences_left = 0;  // to finish
};

// What is not read yet is expected to be as these: memory is planned, and jobs may have many millions.
Workload first_of(const Workload& workload) {
  constexpr size_t kMost = 1 << 16;
  const size_t count = std::min(workload.requests.size(), kMost);
  return {workload.name, {workload.requests.begin(), workload.requests.begin() + static_cast<ptrdiff_t>(count)}};
}

}  // namespace

class Engine::Impl {
 public:
  explicit Impl(const EngineOptions& options)
      : model_(options),
        swap_(make_swap(options)),
        scheduler_(model_.plan.sizes, model_.plan.kv.groups, model_.plan.kv_pages, swap_ ? &*swap_ : nullptr),
        sampler_(model_.kernels, model_.spec.vocab, model_.pool.size()),
        loop_(scheduler_, *model_.runner, sampler_, model_.pool),
        admission_(model_, options.seed, scheduler_.capacity(), answer_bytes()),
        workload_(first_of(options.workload)) {
    info_ = engine_info(model_, options);
    if (model_.machine) watch_.emplace(model_, workload_, std::ssize(options.workload.requests));
  }

  [[nodiscard]] Activity activity() const noexcept {
    const int layer = model_.runner->layer();
    return {layer >= 0, layer, model_.stream && model_.stream->waiting()};
  }

  [[nodiscard]] const EngineInfo& info() const { return info_; }
  void request_stop() noexcept { stop_.store(true); }

  bool run(RequestSource& source, CompletionSink& sink) {
    struct Cleanup {  // also where the source or the sink throws
      Impl& impl;
      ~Cleanup() { impl.end_run(); }
    } cleanup{*this};
    sink_ = &sink;
    progress_ = {};
    stream_start_ = model_.stream ? model_.stream->counters() : StreamCounters{};
    progress_.kv_pages = model_.plan.kv_pages;
    link_start_ = model_.runner->link_bytes();
    swap_start_ = swap_seconds_;
    job_.emplace(model_, workload_);
    const auto start = Clock::now();
    std::vector<std::unique_ptr<Sequence>> finished;
    while (!stop_.load()) {
      fill_queue(source);
      if (scheduler_.idle() && !next_) return true;
      const auto pass_start = Clock::now();
      const Loop::PassCounts counts = loop_.step(finished);
      const double swapping = std::exchange(swap_seconds_, swap_ ? swap_->seconds() : 0);
      const double pass_seconds = Clock::seconds_since(pass_start) - (swap_seconds_ - swapping);
      for (auto& sequence : finished) {
        job_->ended(*sequence);
        finish(*sequence);
      }
      finished.clear();
      report(counts, pass_seconds, Clock::seconds_since(start), source);
    }
    return false;
  }

 private:
  void end_run() {
    stop_.store(false);
    source_ended_ = false;
    growing_ = -1;
    most_sequences_ = 0;
    sequences_finished_ = 0;
    next_.reset();
    held_bytes_ = 0;
    scheduler_.clear();
    pending_.clear();
  }

  std::optional<SwapFile> make_swap(const EngineOptions& options) {
    if (!swaps(options)) return std::nullopt;
    return std::optional<SwapFile>(std::in_place, *model_.runner, model_.plan.kv, options.swap_folder, options.swap_space);
  }

  void fill_queue(RequestSource& source) {
    while (scheduler_.wants_more()) {
      if (growing_ >= 0) {
        add_sequence(pending_.at(growing_));
      } else if (next_) {
        if (!has_room(next_->admitted)) return;
        start(std::move(*next_));
        next_.reset();
      } else if (!source_ended_ && (scheduler_.idle() || source.ready())) {
        std::optional<Request> request = source.next();
        source_ended_ = !request.has_value();
        if (request) job_->taken();
        if (request) admit(std::move(*request));
      } else {
        return;
      }
    }
  }

  // Half of what requests and answers may take: the other half is for those who read lines and keep answers in order.
  [[nodiscard]] uint64_t answer_bytes() const { return model_.plan.answer_bytes / 2; }
  [[nodiscard]] bool has_room(const Admitted& a) const { return pending_.empty() || held_bytes_ + a.held_bytes + a.peak_bytes <= answer_bytes(); }

  void admit(Request request) {
    Pending pending;
    try {
      pending.admitted = admission_.admit(request);
    } catch (const Refused& refused) {
      ++progress_.requests_failed;
      sink_->done({request.id, refused.error, {}, {}});
      return;
    }
    pending.request = std::move(request);
    pending.request.prompts.clear();
    next_ = std::move(pending);
  }

  void start(Pending pending) {
    held_bytes_ += pending.admitted.held_bytes;
    pending.sequences_left = pending.admitted.num_sequences();
    pending.completion.id = pending.request.id;
    pending.completion.prompts = std::move(pending.admitted.prompts);
    pending.completion.choices.resize(pending.sequences_left);
    growing_ = next_key_++;
    pending_.emplace(growing_, std::move(pending));
  }

  // The next sequence of the request whose sequences are being made.
  void add_sequence(Pending& pending) {
    const auto per_prompt = static_cast<size_t>(pending.admitted.choices_per_prompt);
    const size_t choice = pending.sequences_made++;
    auto sequence = admission_.make_sequence(pending.admitted, pending.completion.prompts[choice / per_prompt].token_ids, static_cast<int>(choice));
    sequence->request = growing_;
    if (model_.tokenizer) sequence->stop_rule = make_text(pending, *sequence);
    job_->made(*sequence);
    scheduler_.add(std::move(sequence));
    if (pending.sequences_made == pending.completion.choices.size()) growing_ = -1;
  }

  static const OutputContext& output_context(const Pending& pending, int choice) {
    return pending.admitted.output.at(static_cast<size_t>(choice / pending.admitted.choices_per_prompt));
  }

  std::unique_ptr<OutputText> make_text(const Pending& pending, const Sequence& sequence) {
    const SamplingParams& p = pending.request.sampling;
    StreamDecoder decoder(*model_.tokenizer, p.skip_special_tokens, sequence.tokens);
    auto piece = [this, id = pending.request.id, choice = sequence.choice](std::string_view text) { sink_->text(id, choice, text); };
    const bool parsed = output_context(pending, sequence.choice).format != OutputFormat::none;
    const Tokenizer* hidden = parsed && p.skip_special_tokens ? &*model_.tokenizer : nullptr;
    return std::make_unique<OutputText>(std::move(decoder),
                                        OutputText::Options{p.stop, p.min_tokens, p.include_stop_str_in_output, std::move(piece), hidden});
  }

  void finish(Sequence& s) {
    const auto it = pending_.find(s.request);
    Pending& pending = it->second;
    ++sequences_finished_;
    if (!s.error.empty()) {
      pending.completion.error = failure(s, pending.request);
    } else {
      pending.completion.choices[static_cast<size_t>(s.choice)] = make_choice(pending, s);
    }
    if (s.prompt_logprobs.per_position > 0) {
      PromptResult& prompt = pending.completion.prompts[static_cast<size_t>(s.choice / pending.admitted.choices_per_prompt)];
      prompt.logprobs = prompt_table(s.prompt_logprobs);
      prompt.first_token_text = token_text(s.tokens[0]);
    }
    if (--pending.sequences_left > 0) return;
    ++(pending.completion.error ? progress_.requests_failed : progress_.requests_finished);
    Completion completion = std::move(pending.completion);
    held_bytes_ -= pending.admitted.held_bytes;
    pending_.erase(it);
    sink_->done(std::move(completion));
  }

  static RequestError failure(const Sequence& s, const Request& request) {
    if (!s.failed_in_grammar) return {s.next_token < 0 ? "no_token" : "kv_memory_exceeded", s.error, "", 400};
    const std::string& param = request.sampling.structured_output->param;
    return {"unsupported_value", fmt::format("'{}': {}", param, s.error), param, 400};
  }

  Choice make_choice(const Pending& pending, Sequence& s) {
    Choice c;
    c.index = s.choice;
    c.token_ids.assign(s.tokens.begin() + s.prompt_len, s.tokens.end());
    c.finish_reason = s.finish_reason;
    if (s.stop_id) c.stop_reason = *s.stop_id;
    if (auto* text = dynamic_cast<OutputText*>(s.stop_rule.get())) {
      text->finish();
      c.text = text->text();
      if (text->stopped_by() != nullptr) {
        c.finish_reason = FinishReason::stop;
        c.stop_reason = *text->stopped_by();
      }
      const OutputContext& context = output_context(pending, s.choice);
      if (context.format != OutputFormat::none) read_output(context, *text, s.sampling->seed, c);
    }
    const auto per_position = static_cast<size_t>(s.logprobs.per_position);
    for (size_t i = 0; per_position > 0 && i < s.logprobs.entries.size(); i += per_position)
      c.logprobs.push_back(position(&s.logprobs.entries[i], per_position));
    return c;
  }

  std::vector<std::optional<PositionLogprobs>> prompt_table(const LogprobTable& table) const {
    std::vector<std::optional<PositionLogprobs>> out(1);
    const auto per_position = static_cast<size_t>(table.per_position);
    for (size_t i = 0; i < table.entries.size(); i += per_position) out.emplace_back(position(&table.entries[i], per_position));
    return out;
  }

  PositionLogprobs position(const LogprobTable::Entry* entries, size_t count) const {
    const auto named = [&](const LogprobTable::Entry& e) { return TokenLogprob{e.id, e.logprob, e.rank, token_text(e.id)}; };
    PositionLogprobs out{named(entries[0]), {}};
    for (size_t i = 1; i < count; ++i) out.top.push_back(named(entries[i]));
    return out;
  }

  std::string token_text(TokenId id) const { return model_.tokenizer ? model_.tokenizer->token_bytes(id) : "token_id:" + std::to_string(id); }

  void report(const Loop::PassCounts& counts, double pass_seconds, double seconds, RequestSource& source) {
    ++progress_.passes;
    progress_.seconds = seconds;
    progress_.pass_seconds = pass_seconds;
    progress_.pass_tokens = counts.tokens;
    progress_.pass_prefill_tokens = counts.prefill_tokens;
    progress_.pass_sequences = counts.sequences;
    most_sequences_ = std::max(most_sequences_, counts.sequences);
    if (source_ended_ && scheduler_.num_waiting() == 0 && 2 * counts.sequences < most_sequences_) progress_.tail_seconds += pass_seconds;
    progress_.sequences_running = scheduler_.num_running();
    progress_.sequences_waiting = scheduler_.num_waiting();
    progress_.preemptions = scheduler_.num_preemptions();
    progress_.recomputed = scheduler_.num_recomputed();
    progress_.swap_seconds = swap_seconds_ - swap_start_;
    progress_.swap_bytes = swap_ ? static_cast<int64_t>(swap_->bytes()) : 0;
    progress_.prompt_tokens += counts.prefill_tokens;
    progress_.generated_tokens += counts.sampled;
    progress_.kv_pages_used = scheduler_.pages_used();
    progress_.link_bytes = static_cast<int64_t>(model_.runner->link_bytes() - link_start_);
    if (swap_ && counts.tokens > 0) {
      constexpr double kLate = 1.0 / 16;
      token_seconds_ += (token_seconds_ > 0 ? kLate : 1) * (pass_seconds / static_cast<double>(counts.tokens) - token_seconds_);
      swap_->set_token_seconds(token_seconds_);
    }
    if (model_.stream) report_stream(model_.stream->counters());
    const double computed = model_.gpu ? 0 : pass_seconds - progress_.pass_wait_seconds;  // a GPU and its link are not measured apart
    const ResourceSeconds measured{pass_seconds, computed, progress_.pass_read_seconds, progress_.pass_wait_seconds, 0};
    progress_.measured += measured;
    if (watch_) {
      const ResourceSeconds predicted = watch_->predict(counts.load);
      progress_.pass_predicted_seconds = predicted.passes;
      progress_.predicted += predicted;
      const auto sizes = watch_->compare({counts.load, measured, sequences_finished_}, [this] { return job_->lengths(scheduler_); });
      if (sizes) scheduler_.limit(sizes->pass_tokens, sizes->sequences);
    }
    const PassRunner::ExpertLoad& experts = model_.runner->expert_load();
    progress_.pass_tokens_per_expert = experts.used > 0 ? static_cast<double>(experts.tokens) / static_cast<double>(experts.used) : 0;
    progress_.pass_experts_used = experts.experts > 0 ? static_cast<double>(experts.used) / static_cast<double>(experts.experts) : 0;
    progress_.pass_most_of_an_expert = experts.most;
    job_->passed(counts.load, pass_seconds);
    if (job_->due(seconds)) {
      progress_.seconds_left = job_->seconds_left(scheduler_, source_ended_ ? 0 : source.left(), seconds);
      progress_.seconds_left_at = seconds;
    }
    sink_->pass(progress_);
  }

  void report_stream(const StreamCounters& now) {
    const Progress before = progress_;
    progress_.weight_bytes_read = static_cast<int64_t>(now.bytes_read - stream_start_.bytes_read);
    progress_.weight_read_seconds = now.read_seconds - stream_start_.read_seconds;
    progress_.weight_wait_seconds = now.wait_seconds - stream_start_.wait_seconds;
    progress_.pass_weight_bytes_read = progress_.weight_bytes_read - before.weight_bytes_read;
    progress_.pass_read_seconds = progress_.weight_read_seconds - before.weight_read_seconds;
    progress_.pass_wait_seconds = progress_.weight_wait_seconds - before.weight_wait_seconds;
  }

  LoadedModel model_;
  std::optional<SwapFile> swap_;
  Scheduler scheduler_;
  Sampler sampler_;
  Loop loop_;
  Admission admission_;
  std::optional<PassWatch> watch_;  // where rates of the machine are known
  std::optional<JobWatch> job_;     // of the run
  Workload workload_;               // what is expected, from its begin
  EngineInfo info_;
  std::unordered_map<int64_t, Pending> pending_;
  int64_t next_key_ = 0;
  int64_t most_sequences_ = 0;  // of a pass
  int64_t sequences_finished_ = 0;
  int64_t growing_ = -1;  // key of the request whose sequences are being made, or -1
  bool source_ended_ = false;
  std::optional<Pending> next_;  // admitted, waits until answers in flight leave room
  uint64_t held_bytes_ = 0;      // of all in pending_
  CompletionSink* sink_ = nullptr;
  Progress progress_;
  StreamCounters stream_start_;  // when the run began
  uint64_t link_start_ = 0;      // likewise
  double swap_start_ = 0;        // likewise
  double swap_seconds_ = 0;
  double token_seconds_ = 0;  // of late
  std::atomic<bool> stop_{false};
};

std::string user_message(const std::string& text) {
  // Not every byte string is JSON: what is no UTF-8 becomes U+FFFD.
  return nlohmann::json::array({{{"role", "user"}, {"content", text}}}).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

Engine::Engine(const EngineOptions& options) : impl_(std::make_unique<Impl>(options)) {}
Engine::~Engine() = default;
const EngineInfo& Engine::info() const { return impl_->info(); }
bool Engine::run(RequestSource& source, CompletionSink& sink) { return impl_->run(source, sink); }
void Engine::request_stop() noexcept { impl_->request_stop(); }
Activity Engine::activity() const noexcept { return impl_->activity(); }

}  // namespace moegen
