#include "engine/scheduler.h"

#include <algorithm>

#include "base/checked.h"
#include "base/error.h"
#include "base/size.h"

namespace moegen {
namespace {

bool contains(const std::vector<TokenId>& ids, TokenId id) { return std::find(ids.begin(), ids.end(), id) != ids.end(); }

// Tokens that it may still generate.
int64_t longest_left(const Sequence& s) {
  return std::min(s.sampling->max_tokens - s.num_generated(), s.sampling->max_len - static_cast<int64_t>(s.tokens.size()));
}

// True if the text is complete and the grammar lets nothing follow.
bool follow_grammar(Sequence& s, TokenId token) {
  if (s.grammar == nullptr || s.ended_by_id) return false;
  try {
    if (!s.reasoning.accept(token)) return false;
    s.grammar->accept(token);
    return s.grammar->ended();
  } catch (const Error& e) {
    s.error = e.what();
    s.failed_in_grammar = true;
    return true;
  }
}

// Appends the sampled token; true if the sequence ends with it.
bool append_token(Sequence& s) {
  const TokenId token = s.next_token;
  s.tokens.push_back(token);
  const Sampling& sampling = *s.sampling;
  if (contains(sampling.end_ids, token)) {
    s.ended_by_id = true;
  } else if (contains(sampling.stop_ids, token)) {
    s.ended_by_id = true;
    s.stop_id = token;
  }
  const bool full = s.num_generated() >= sampling.max_tokens || static_cast<int64_t>(s.tokens.size()) >= sampling.max_len;
  const bool ended = follow_grammar(s, token);
  const bool complete = (s.stop_rule != nullptr && s.stop_rule->complete(token, s.ended_by_id)) || ended;
  s.finish_reason = s.ended_by_id || complete ? FinishReason::stop : FinishReason::length;
  return s.ended_by_id || complete || full;
}

}  // namespace

Scheduler::Scheduler(const PassSizes& sizes, const std::vector<KvGroup>& groups, int32_t kv_pages, SequenceStore* store)
    : sizes_(sizes), most_(sizes), kv_(groups, sizes.page_tokens, kv_pages), store_(store), states_(static_cast<int32_t>(sizes.sequences)) {
  const auto tokens = static_cast<size_t>(sizes.pass_tokens);
  const auto sequences = static_cast<size_t>(sizes.sequences);
  tokens_.reserve(tokens);
  logit_rows_.reserve(tokens);
  tasks_.reserve(tokens);
  sequences_.reserve(sequences);
  parts_.reserve(sequences);
  running_.reserve(sequences);
}

void Scheduler::add(std::unique_ptr<Sequence> sequence) {
  const auto longer = [](int64_t left, const std::unique_ptr<Sequence>& other) { return left > longest_left(*other); };
  const auto at = std::upper_bound(waiting_.begin(), waiting_.end(), longest_left(*sequence), longer);
  waiting_.insert(at, std::move(sequence));
}

void Scheduler::limit(int64_t pass_tokens, int64_t sequences) {
  sizes_.pass_tokens = std::clamp<int64_t>(pass_tokens, 1, most_.pass_tokens);
  sizes_.sequences = std::clamp<int64_t>(sequences, 1, std::min(most_.sequences, sizes_.pass_tokens));
}

Pass Scheduler::schedule() {
  tokens_.clear();
  sequences_.clear();
  parts_.clear();
  logit_rows_.clear();
  tasks_.clear();
  prefill_tokens_ = 0;
  schedule_decodes();
  if (schedule_prefill()) admit();
  return {tokens_, sequences_, logit_rows_};
}

// Every generated token first: it needs one row, and its sequence holds the most pages.
void Scheduler::schedule_decodes() {
  for (size_t i = 0; i < running_.size() && room() > 0; ++i) {
    if (decoding(*running_[i]) && grow(i)) place(*running_[i], 1);
  }
}

// Only the youngest can have a prompt that is not yet computed, for none is admitted behind it. False if there is still some left.
bool Scheduler::schedule_prefill() { return running_.empty() || decoding(*running_.back()) || schedule_youngest(); }

bool Scheduler::schedule_youngest() {
  Sequence& s = *running_.back();
  const int64_t left = static_cast<int64_t>(s.tokens.size()) - s.computed;
  const int64_t n = kv_.reserve(s.pages, s.computed, std::min(room(), left));
  if (n > 0) {
    prefill_tokens_ += decoding(s) ? 0 : n;
    place(s, n);
  } else if (room() > 0 && running_.size() == 1) {
    fail(std::move(running_.back()));
    running_.pop_back();
    return true;
  }
  return n == left;
}

void Scheduler::admit() {
  while (num_waiting() > 0 && room() > 0 && num_running() < sizes_.sequences) {
    auto& queue = preempted_.empty() ? waiting_ : preempted_;
    Sequence& s = *queue.front();
    const auto length = static_cast<int64_t>(s.tokens.size());
    if (length > capacity()) {  // it would wait for ever
      forget(s);
      fail(std::move(queue.front()));
      queue.pop_front();
      continue;
    }
    // A row of pages for each running sequence stays free, so that admission does not lead to preemption at once.
    if (!kv_.holds(length, sizes_.pass_tokens, num_running())) return;
    s.state = states_.reserve();
    running_.push_back(std::move(queue.front()));
    queue.pop_front();
    bring_back(s);
    if (!schedule_youngest()) return;
  }
}

// Makes sure that the next token of running_[idx] has its pages. False if the sequence itself had to go.
bool Scheduler::grow(size_t idx) {
  Sequence& s = *running_[idx];
  while (kv_.reserve(s.pages, s.computed, 1) == 0) {
    const bool last = running_.size() == idx + 1;
    if (last && idx == 0) {
      fail(std::move(running_[idx]));
      running_.pop_back();
      return false;
    }
    preempt_last();
    if (last) return false;
  }
  return true;
}

void Scheduler::fail(std::unique_ptr<Sequence> sequence) {
  sequence->error =
      fmt::format("the KV pages hold {} tokens, and this sequence alone needs more: give the run more --kv-memory or --host-memory", capacity());
  release_memory(*sequence);
  failed_.push_back(std::move(sequence));
}

void Scheduler::preempt_last() {
  running_.back()->kept = store_ != nullptr && store_->keep(*running_.back());
  std::unique_ptr<Sequence> victim = std::move(running_.back());
  running_.pop_back();
  if (victim->kept) {
    kv_.lend(victim->pages);
    release_state(*victim);
  } else {
    release_memory(*victim);
    victim->computed = 0;
    ++recomputed_;
  }
  preempted_.push_front(std::move(victim));
  ++preemptions_;
}

void Scheduler::bring_back(Sequence& s) {
  if (!s.kept) return;
  s.kept = false;
  kv_.take_again(s.pages);
  if (store_->bring_back(s)) return;
  kv_.release(s.pages);
  s.computed = 0;
  ++recomputed_;
}

// Of one that waits.
void Scheduler::forget(Sequence& s) {
  if (s.kept) store_->drop();
  s.kept = false;
}

void Scheduler::release_memory(Sequence& sequence) {
  kv_.release(sequence.pages);
  release_state(sequence);
}

void Scheduler::release_state(Sequence& sequence) {
  if (sequence.state >= 0) states_.release(sequence.state);
  sequence.state = -1;
}

void Scheduler::place(Sequence& s, int64_t num_tokens) {
  const auto row = static_cast<int32_t>(tokens_.size());
  sequences_.push_back({row, static_cast<int32_t>(num_tokens), s.computed, s.pages.data(), s.prompt_len, s.state, s.on_cpu});
  parts_.push_back({&s, static_cast<int32_t>(num_tokens)});
  tokens_.insert(tokens_.end(), s.tokens.begin() + s.computed, s.tokens.begin() + s.computed + num_tokens);
  add_logit_rows(s, row, num_tokens);
}

void Scheduler::add_logit_rows(Sequence& s, int64_t first_row, int64_t num_tokens) {
  const auto add = [&](int64_t position, bool sample) {
    logit_rows_.push_back(static_cast<int32_t>(first_row + position - s.computed));
    tasks_.push_back({&s, position + 1, sample});
  };
  const int64_t end = s.computed + num_tokens;
  if (s.prompt_logprobs.per_position > 0) {
    for (int64_t p = std::max(s.computed, s.prompt_logprobs_done); p < std::min(end, s.prompt_len - 1); ++p) add(p, false);
  }
  if (end == static_cast<int64_t>(s.tokens.size()) && s.sampling->max_tokens > 0) add(end - 1, true);
}

void Scheduler::commit(std::vector<std::unique_ptr<Sequence>>& finished) {
  for (const Part& part : parts_) {
    Sequence& s = *part.sequence;
    s.computed += part.num_tokens;
    s.prompt_logprobs_done = std::max(s.prompt_logprobs_done, std::min(s.computed, s.prompt_len - 1));
    kv_.release_unseen(s.pages, s.computed - part.num_tokens, s.computed);
    if (s.computed < static_cast<int64_t>(s.tokens.size())) continue;
    if (s.sampling->max_tokens > 0 && s.next_token < 0) {
      s.error = "no token can be sampled: the request allows none, or the model's logits are not numbers";
    }
    if (!s.error.empty() || s.sampling->max_tokens == 0 || append_token(s)) {
      release_memory(s);
      s.computed = -1;  // marks it as finished
    }
  }
  const auto done = [](const std::unique_ptr<Sequence>& s) { return s->computed < 0; };
  for (auto& s : running_) {
    if (done(s)) finished.push_back(std::move(s));
  }
  std::erase(running_, nullptr);
  for (auto& s : failed_) finished.push_back(std::move(s));
  failed_.clear();
}

void Scheduler::clear() {
  for (auto& s : running_) release_memory(*s);
  running_.clear();
  for (auto& s : preempted_) forget(*s);
  preempted_.clear();
  waiting_.clear();
  failed_.clear();
  preemptions_ = recomputed_ = 0;
}

}  // namespace moegen
