#include "engine/loop.h"

#include <algorithm>

#include "base/error.h"

namespace moegen {

Loop::PassCounts Loop::step(std::vector<std::unique_ptr<Sequence>>& finished) {
  const Pass pass = scheduler_.schedule();
  PassCounts counts{static_cast<int64_t>(pass.tokens.size()), scheduler_.prefill_tokens(), static_cast<int64_t>(pass.sequences.size()), 0,
                    load_of(pass)};
  for (const LogitTask& task : scheduler_.logit_tasks()) {
    counts.sampled += task.sample ? 1 : 0;
    counts.load.drawn_rows += task.sample && task.sequence->sampling->temperature > 0 ? 1 : 0;
  }
  prepare_masks();
  if (counts.tokens > 0) executor_.run(pass, *this);
  scheduler_.commit(finished);
  return counts;
}

// The masks that this pass will sample with depend on what is there already: they are made beside the model's work.
void Loop::prepare_masks() {
  std::vector<GrammarState> wanted;
  for (const LogitTask& task : scheduler_.logit_tasks()) {
    if (task.sample && task.sequence->in_grammar()) wanted.push_back(*task.sequence->grammar);
  }
  if (wanted.empty()) return;
  if (mask_worker_ == nullptr) mask_worker_ = std::make_unique<MaskWorker>();
  mask_worker_->prepare(std::move(wanted));
}

void Loop::take(int64_t first, int64_t count, const float* logits) {
  const auto& tasks = scheduler_.logit_tasks();
  pool_.parallel_for(count, [&](int64_t i, int worker) { take_row(tasks[static_cast<size_t>(first + i)], logits + i * vocab_, worker); });
}

bool Loop::wants_best_only(int64_t first, int64_t count) const {
  const auto& tasks = scheduler_.logit_tasks();
  return std::all_of(tasks.begin() + first, tasks.begin() + first + count, [](const LogitTask& task) {
    return task.sample && task.sequence->logprobs.per_position == 0 && Sampler::takes_best(*task.sequence);
  });
}

void Loop::take_best(int64_t first, int64_t count, const int32_t* ids) {
  for (int64_t i = 0; i < count; ++i) scheduler_.logit_tasks()[static_cast<size_t>(first + i)].sequence->next_token = ids[i];
}

// Each row writes to a place of its own: a prompt position's entries, or the one new token of a sequence.
void Loop::take_row(const LogitTask& task, const float* logits, int worker) {
  Sequence& s = *task.sequence;
  if (!task.sample) {
    const int n = s.prompt_logprobs.per_position;
    sampler_.logprobs(logits, s.tokens[static_cast<size_t>(task.target)], n, s.prompt_logprobs.entries.data() + (task.target - 1) * n, worker);
    return;
  }
  try {
    s.next_token = sampler_.sample(s, logits, worker);
  } catch (const Error& e) {
    s.error = e.what();
    s.failed_in_grammar = true;
    return;
  }
  if (const int n = s.logprobs.per_position; n > 0 && s.next_token >= 0) {
    auto& entries = s.logprobs.entries;
    entries.resize(entries.size() + static_cast<size_t>(n));
    sampler_.logprobs(logits, s.next_token, n, entries.data() + entries.size() - n, worker);
  }
}

}  // namespace moegen
