#include "moegen/engine.h"

#include <atomic>
#include <chrono>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "api/admission.h"
#include "api/model.h"
#include "api/output_text.h"
#include "base/error.h"
#include "engine/loop.h"

namespace moegen {
namespace {

// A request whose sequences are on their way.
struct Pending {
  Completion completion;
  size_t sequences_left = 0;
  bool failed = false;
};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

class Engine::Impl {
 public:
  explicit Impl(const EngineOptions& options)
      : model_(options),
        scheduler_(model_.plan.sizes, model_.plan.kv_pages),
        executor_(model_.spec, model_.weights, model_.kernels, model_.pool, model_.plan, model_.act),
        sampler_(model_.kernels, model_.spec.vocab, model_.pool.size()),
        loop_(scheduler_, executor_, sampler_, model_.pool, model_.spec.vocab),
        admission_(model_, options.seed, scheduler_.capacity()) {
    info_.model_name = std::filesystem::weakly_canonical(options.model).filename().string();
    info_.family = model_.spec.family;
    info_.dtype = model_.act == DType::bf16 ? "bfloat16" : "float32";
    info_.cpu_path = model_.kernels.name;
    info_.vocab_size = model_.spec.vocab;
    info_.max_model_len = model_.plan.max_model_len;
    info_.threads = model_.pool.size();
    info_.plan = model_.plan.describe();
  }

  [[nodiscard]] const EngineInfo& info() const { return info_; }
  void request_stop() noexcept { stop_.store(true); }

  bool run(RequestSource& source, CompletionSink& sink) {
    sink_ = &sink;
    progress_ = {};
    progress_.kv_pages = model_.plan.kv_pages;
    const auto start = std::chrono::steady_clock::now();
    bool more = true;
    std::vector<std::unique_ptr<Sequence>> finished;
    while (!stop_.load()) {
      while (more && scheduler_.wants_more()) {
        std::optional<Request> request = source.next();
        more = request.has_value();
        if (more) submit(*request);
      }
      if (scheduler_.idle()) break;
      const auto pass_start = std::chrono::steady_clock::now();
      const Loop::PassCounts counts = loop_.step(finished);
      for (auto& sequence : finished) finish(*sequence);
      finished.clear();
      report(counts, seconds_since(pass_start), seconds_since(start));
    }
    const bool stopped = stop_.exchange(false);
    scheduler_.clear();
    pending_.clear();
    return !stopped;
  }

 private:
  void submit(const Request& request) {
    Admitted admitted;
    try {
      admitted = admission_.admit(request);
    } catch (const Refused& refused) {
      ++progress_.requests_failed;
      sink_->done({request.id, refused.error, {}, {}});
      return;
    }
    const int64_t key = next_key_++;
    Pending& pending = pending_[key];
    pending.completion.id = request.id;
    pending.completion.prompts = std::move(admitted.prompts);
    pending.completion.choices.resize(admitted.sequences.size());
    pending.sequences_left = admitted.sequences.size();
    for (auto& sequence : admitted.sequences) {
      sequence->request = key;
      if (model_.tokenizer) sequence->stop_rule = make_text(request, *sequence);
      scheduler_.add(std::move(sequence));
    }
  }

  std::unique_ptr<OutputText> make_text(const Request& request, const Sequence& sequence) {
    const SamplingParams& p = request.sampling;
    StreamDecoder decoder(*model_.tokenizer, p.skip_special_tokens, sequence.tokens);
    auto piece = [this, id = request.id, choice = sequence.choice](std::string_view text) { sink_->text(id, choice, text); };
    return std::make_unique<OutputText>(std::move(decoder), OutputText::Options{p.stop, p.min_tokens, p.include_stop_str_in_output, std::move(piece)});
  }

  void finish(Sequence& s) {
    const auto it = pending_.find(s.request);
    Pending& pending = it->second;
    if (!s.error.empty()) {
      pending.completion.error = RequestError{"kv_memory_exceeded", s.error, "", 400};
    } else {
      pending.completion.choices[static_cast<size_t>(s.choice)] = make_choice(s);
    }
    if (s.prompt_logprobs.per_position > 0) {
      const size_t prompt = static_cast<size_t>(s.choice) * pending.completion.prompts.size() / pending.completion.choices.size();
      pending.completion.prompts[prompt].logprobs = prompt_table(s.prompt_logprobs);
      pending.completion.prompts[prompt].first_token_text = token_text(s.tokens[0]);
    }
    if (--pending.sequences_left > 0) return;
    ++(pending.completion.error ? progress_.requests_failed : progress_.requests_finished);
    Completion completion = std::move(pending.completion);
    pending_.erase(it);
    sink_->done(std::move(completion));
  }

  Choice make_choice(Sequence& s) {
    Choice c;
    c.index = s.choice;
    c.token_ids.assign(s.tokens.begin() + s.prompt_len, s.tokens.end());
    c.finish_reason = s.finish_reason;
    if (s.stop_id) c.stop_reason = *s.stop_id;
    if (auto* text = dynamic_cast<OutputText*>(s.stop_rule.get())) {
      text->finish();
      c.text = text->text();
      if (text->stopped_by() != nullptr) c.stop_reason = *text->stopped_by();
    }
    const auto per_position = static_cast<size_t>(s.logprobs.per_position);
    for (size_t i = 0; per_position > 0 && i < s.logprobs.entries.size(); i += per_position) c.logprobs.push_back(position(&s.logprobs.entries[i], per_position));
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

  void report(const Loop::PassCounts& counts, double pass_seconds, double seconds) {
    ++progress_.passes;
    progress_.seconds = seconds;
    progress_.pass_seconds = pass_seconds;
    progress_.pass_tokens = counts.tokens;
    progress_.pass_prefill_tokens = counts.prefill_tokens;
    progress_.pass_sequences = counts.sequences;
    progress_.sequences_running = scheduler_.num_running();
    progress_.sequences_waiting = scheduler_.num_waiting();
    progress_.preemptions = scheduler_.num_preemptions();
    progress_.prompt_tokens += counts.prefill_tokens;
    progress_.generated_tokens += counts.sampled;
    progress_.kv_pages_used = scheduler_.pages_used();
    sink_->pass(progress_);
  }

  LoadedModel model_;
  Scheduler scheduler_;
  Executor executor_;
  Sampler sampler_;
  Loop loop_;
  Admission admission_;
  EngineInfo info_;
  std::unordered_map<int64_t, Pending> pending_;
  int64_t next_key_ = 0;
  CompletionSink* sink_ = nullptr;
  Progress progress_;
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

}  // namespace moegen
