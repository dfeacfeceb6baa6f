#include "engine/loop.h"

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

LogitQuery Loop::query(int64_t row) const {
  const LogitTask& task = scheduler_.logit_tasks()[static_cast<size_t>(row)];
  return task.sample ? Sampler::query(*task.sequence) : Sampler::prompt_query(*task.sequence, task.target);
}

void Loop::take(int64_t first, std::span<LogitRow> rows) {
  const auto& tasks = scheduler_.logit_tasks();
  pool_.parallel_for(static_cast<int64_t>(rows.size()), [&](int64_t i, int worker) {
    LogitRow& row = rows[static_cast<size_t>(i)];
    if (row.logits != nullptr || row.summary != nullptr) take_row(tasks[static_cast<size_t>(first + i)], row, worker);
  });
}

// Each row writes to a place of its own: a prompt position's entries, or the one new token of a sequence.
void Loop::take_row(const LogitTask& task, LogitRow& row, int worker) {
  Sequence& s = *task.sequence;
  if (!task.sample) {
    const int n = s.prompt_logprobs.per_position;
    sampler_.logprobs(row, s.tokens[static_cast<size_t>(task.target)], n, s.prompt_logprobs.entries.data() + (task.target - 1) * n, worker);
    return;
  }
  try {
    const std::optional<TokenId> token = sampler_.sample(s, row, worker);
    row.needs_logits = !token;
    if (!token) return;
    s.next_token = *token;
  } catch (const Error& e) {
    s.error = e.what();
    s.failed_in_grammar = true;
    return;
  }
  if (const int n = s.logprobs.per_position; n > 0 && s.next_token >= 0) {
    auto& entries = s.logprobs.entries;
    entries.resize(entries.size() + static_cast<size_t>(n));
    sampler_.logprobs(row, s.next_token, n, entries.data() + entries.size() - n, worker);
  }
}

}  // namespace moegen
