#include "engine/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"

namespace moegen {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

uint64_t layout(Arena& arena, int64_t vocab, int workers, std::vector<std::array<void*, 3>>* out) {
  for (int i = 0; i < workers; ++i) {
    const std::array<void*, 3> p{arena.take<float>(vocab), arena.take<int32_t>(vocab), arena.take<int32_t>(vocab)};
    if (out != nullptr) out->push_back(p);
  }
  return arena.used();
}

// More probable first; the lower id where equal, so that the order is total.
auto better(const float* values) {
  const auto value = [values](int32_t id) { return std::isnan(values[id]) ? kNever : values[id]; };  // NaN has no order of its own
  return [value](int32_t a, int32_t b) { return value(a) > value(b) || (value(a) == value(b) && a < b); };
}

double weight_of(float value, float top) { return std::exp(static_cast<double>(value) - static_cast<double>(top)); }

// Values of the ids whose bits are set are their logits, others become impossible. Most masks are nearly all or nearly none.
void copy_allowed(const std::vector<uint64_t>& bits, const float* logits, float* values, int64_t vocab) {
  for (int64_t begin = 0; begin < vocab; begin += 64) {
    const uint64_t word = bits[static_cast<size_t>(begin) / 64];
    const int64_t n = std::min<int64_t>(64, vocab - begin);
    if (word == 0) {
      std::fill_n(values + begin, n, kNever);
    } else if (word == ~uint64_t{0} && n == 64) {
      std::copy_n(logits + begin, n, values + begin);
    } else {
      for (int64_t i = 0; i < n; ++i) values[begin + i] = (word >> i & 1U) != 0 ? logits[begin + i] : kNever;
    }
  }
}

constexpr int64_t kBlock = 1024;  // ids whose weights are added up before it is known whether one of them is drawn

// In lanes: the order of a sum is its own, and no addition waits for the one before.
double sum_of_block(const float* weights, int64_t n) {
  constexpr int64_t kLanes = 16;
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += static_cast<double>(weights[i + lane]);
  }
  for (; i < n; ++i) lanes[0] += static_cast<double>(weights[i]);
  return std::accumulate(lanes, lanes + kLanes, 0.0);
}

bool ends_with(const std::vector<TokenId>& tokens, int64_t from, const std::vector<TokenId>& word) {
  const auto prefix = static_cast<int64_t>(word.size()) - 1;  // all but the last token of the word
  const auto size = static_cast<int64_t>(tokens.size());
  return size - from >= prefix && std::equal(word.begin(), word.end() - 1, tokens.end() - prefix);
}

// Whether nothing changes the logits of its next token.
bool takes_raw(const Sequence& sequence) {
  const Sampling& s = *sequence.sampling;
  return !sequence.in_grammar() && s.allowed.empty() && s.bad_words.empty() && sequence.num_generated() >= s.min_tokens && s.logit_bias.empty() &&
         s.repetition_penalty == 1 && s.presence_penalty == 0 && s.frequency_penalty == 0;
}

bool keeps_all(const Sampling& s) { return s.min_p == 0 && s.top_k == 0 && s.top_p >= 1; }

double uniform_of(const Sequence& sequence) {
  return uniform(sequence.sampling->seed, static_cast<uint32_t>(sequence.choice), static_cast<uint64_t>(sequence.num_generated()));
}

}  // namespace

double uniform(uint64_t key, uint32_t stream, uint64_t position) {
  std::array<uint32_t, 4> c{static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), stream, 0};
  auto k0 = static_cast<uint32_t>(key);
  auto k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * c[0];
    const uint64_t b = uint64_t{0xCD9E8D57} * c[2];
    c = {static_cast<uint32_t>(b >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(b), static_cast<uint32_t>(a >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(a)};
    k0 += 0x9E3779B9U;
    k1 += 0xBB67AE85U;
  }
  return static_cast<double>((static_cast<uint64_t>(c[0]) << 32 | c[1]) >> 11) * 0x1p-53;
}

uint64_t Sampler::bytes_needed(int64_t vocab, int workers) {
  Arena measure;
  return layout(measure, vocab, workers, nullptr);
}

Sampler::Sampler(const Kernels& kernels, int64_t vocab, int workers)
    : kernels_(kernels), vocab_(vocab), arena_(bytes_needed(vocab, workers), "sampling") {
  std::vector<std::array<void*, 3>> places;
  layout(arena_, vocab, workers, &places);
  for (const auto& p : places) scratch_.push_back({static_cast<float*>(p[0]), static_cast<int32_t*>(p[1]), static_cast<int32_t*>(p[2])});
}

double Sampler::mass_of(const Scratch& scratch, int64_t n, float top) {
  return std::accumulate(scratch.ids, scratch.ids + n, 0.0, [&](double sum, int32_t id) { return sum + weight_of(scratch.values[id], top); });
}

TokenId Sampler::argmax(const float* values) const {
  const float top = kernels_.maximum(values, vocab_);
  for (int64_t i = 0; i < vocab_ && std::isfinite(top); ++i) {
    if (values[i] == top) return static_cast<TokenId>(i);
  }
  return kNoToken;
}

LogitQuery Sampler::query(const Sequence& sequence) {
  const Sampling& s = *sequence.sampling;
  const int k = sequence.logprobs.per_position - 1;
  if (!takes_raw(sequence) || k > kLogitCandidates || (s.top_k >= kLogitCandidates && s.min_p == 0)) return {.whole = true};
  LogitQuery q{.logprob = k >= 0, .candidates = k > 0};
  if (s.temperature == 0) {
    q.id = LogitQuery::kBest;
    return q;
  }
  if (s.min_p == 0 && s.top_k == 0) q.temperature = static_cast<float>(s.temperature);
  if (keeps_all(s)) {
    q.id = LogitQuery::kDrawn;
    q.u = uniform_of(sequence);
  } else {
    q.candidates = true;
  }
  return q;
}

LogitQuery Sampler::prompt_query(const Sequence& sequence, int64_t position) {
  const int k = sequence.prompt_logprobs.per_position - 1;
  return {.id = sequence.tokens[static_cast<size_t>(position)], .logprob = true, .candidates = k > 0, .whole = k > kLogitCandidates};
}

std::span<const LogitCandidate> Sampler::candidates_of(const LogitRow& row) const {
  return {row.candidates, row.candidates == nullptr ? size_t{0} : static_cast<size_t>(std::min<int64_t>(vocab_, kLogitCandidates))};
}

std::optional<TokenId> Sampler::sample(const Sequence& sequence, const LogitRow& row, int worker) {
  const Sampling& s = *sequence.sampling;
  const Scratch& scratch = scratch_[static_cast<size_t>(worker)];
  if (row.logits == nullptr) return s.temperature == 0 || keeps_all(s) ? row.summary->id : draw(sequence, row, scratch);
  if (s.temperature == 0 && takes_raw(sequence)) return argmax(row.logits);
  const bool in_grammar = sequence.in_grammar();
  if (in_grammar) {
    restrict_to_grammar(sequence, row.logits, scratch.values);
  } else {
    std::copy(row.logits, row.logits + vocab_, scratch.values);
  }
  filter(sequence, scratch.values, scratch);
  if (in_grammar && kernels_.maximum(scratch.values, vocab_) == kNever) restrict_to_grammar(sequence, row.logits, scratch.values);
  if (s.temperature == 0) return argmax(scratch.values);
  return draw(sequence, row, scratch);
}

// Values of what the grammar allows, and of what may open a reasoning before it, are the logits', others become impossible; whatever was there
// before.
void Sampler::restrict_to_grammar(const Sequence& sequence, const float* logits, float* values) const {
  const Sampling& s = *sequence.sampling;
  const auto mask = sequence.grammar->mask();
  if (mask->bits.empty()) {
    std::fill_n(values, vocab_, kNever);
    for (const TokenId id : mask->ids) values[id] = logits[id];
  } else {
    copy_allowed(mask->bits, logits, values, vocab_);
  }
  for (const TokenId id : s.end_ids) values[id] = mask->can_end ? logits[id] : kNever;
  for (const TokenId id : s.stop_ids) values[id] = mask->can_end ? logits[id] : values[id];
  const TokenId opening = sequence.reasoning.opening();
  if (opening >= 0) values[opening] = logits[opening];
  const bool can_go_on = opening >= 0 || !mask->bits.empty() || !mask->ids.empty();
  if (!can_go_on && !mask->can_end) throw_error(ErrorCode::unsupported, "no token of the vocabulary goes on as the grammar asks");
}

void Sampler::filter(const Sequence& sequence, float* values, const Scratch& scratch) const {
  const Sampling& s = *sequence.sampling;
  if (!s.allowed.empty()) {
    std::fill_n(scratch.counts, vocab_, 1);
    for (const TokenId id : s.allowed) scratch.counts[id] = 0;
    for (int64_t i = 0; i < vocab_; ++i) {
      if (scratch.counts[i] != 0) values[i] = kNever;
      scratch.counts[i] = 0;
    }
  }
  for (const auto& word : s.bad_words) {
    if (ends_with(sequence.tokens, sequence.prompt_len, word)) values[word.back()] = kNever;
  }
  if (sequence.num_generated() < s.min_tokens) {
    for (const TokenId id : s.end_ids) values[id] = kNever;
    for (const TokenId id : s.stop_ids) values[id] = kNever;
  }
  for (const auto& [id, bias] : s.logit_bias) values[id] += bias;
  penalize(sequence, values, scratch.counts);
}

void Sampler::penalize(const Sequence& sequence, float* values, int32_t* counts) const {
  const Sampling& s = *sequence.sampling;
  const auto& tokens = sequence.tokens;
  const auto prompt_end = tokens.begin() + sequence.prompt_len;
  if (s.repetition_penalty != 1) {
    const auto penalty = static_cast<float>(s.repetition_penalty);
    for (const TokenId id : tokens) {
      if (counts[id]++ == 0) values[id] = values[id] > 0 ? values[id] / penalty : values[id] * penalty;
    }
    for (const TokenId id : tokens) counts[id] = 0;
  }
  if (s.presence_penalty == 0 && s.frequency_penalty == 0) return;
  std::for_each(prompt_end, tokens.end(), [&](TokenId id) { ++counts[id]; });
  std::for_each(prompt_end, tokens.end(), [&](TokenId id) {
    if (counts[id] == 0) return;  // done already
    values[id] -= static_cast<float>(s.frequency_penalty * counts[id] + s.presence_penalty);
    counts[id] = 0;
  });
}

// Candidates that min-p, top-k and top-p leave, best first, in scratch.ids; their number. values are logits over temperature: all, or those of the
// row's candidates. Nothing where ids that are not among these might belong to them.
std::optional<int64_t> Sampler::keep_candidates(const Sampling& s, const LogitRow& row, const Scratch& scratch, float top) const {
  const float* values = scratch.values;
  const std::span<const LogitCandidate> best = candidates_of(row);
  const bool all_are_seen = row.logits != nullptr || vocab_ <= kLogitCandidates;
  const float unseen = all_are_seen ? kNever : values[best.back().id];  // have so much at most
  const bool nucleus_of_all = s.min_p == 0 && s.top_k == 0;
  double total = 0;
  float least = s.min_p > 0 ? top + static_cast<float>(std::log(s.min_p)) : kNever;
  if (nucleus_of_all) {
    // Ids less probable than (1 - p) / vocab weigh less than 1 - p together: none of them is in the nucleus. This leaves few to sort.
    total = static_cast<double>(row.logits == nullptr ? row.summary->heated_sum : kernels_.exp_sum(values, top, nullptr, vocab_));
    least = static_cast<float>(top + std::log(total * (1 - s.top_p) / static_cast<double>(vocab_)) - 1e-3);
  }
  int64_t n = 0;
  const auto consider = [&](int32_t id) {
    if (values[id] >= least && values[id] != kNever) scratch.ids[n++] = id;
  };
  for (int64_t i = 0; row.logits != nullptr && i < vocab_; ++i) consider(static_cast<int32_t>(i));
  for (const LogitCandidate& c : best) consider(c.id);
  if (s.top_k > 0 && s.top_k < n) {
    std::nth_element(scratch.ids, scratch.ids + s.top_k - 1, scratch.ids + n, better(values));
    n = s.top_k;
  }
  std::sort(scratch.ids, scratch.ids + n, better(values));
  const auto is_before_unseen = [&](int64_t count) { return unseen == kNever || (count > 0 && values[scratch.ids[count - 1]] > unseen); };
  const bool is_complete = is_before_unseen(0) || least > unseen || (n == s.top_k && is_before_unseen(n));
  if (!is_complete && !nucleus_of_all) return std::nullopt;
  if (s.top_p >= 1) return n;
  if (!nucleus_of_all) total = mass_of(scratch, n, top);
  double mass = 0;
  int64_t kept = 0;
  while (kept < n && mass < s.top_p * total) mass += weight_of(values[scratch.ids[kept++]], top);
  if (!is_complete && (mass < s.top_p * total || !is_before_unseen(kept))) return std::nullopt;
  return kept;
}

// Inverse of the cumulative weights, in the order of ids: finds the block, and the id within it.
TokenId Sampler::draw_any(float* values, float top, double u) const {
  kernels_.exp_sum(values, top, values, vocab_);
  const auto block_sum = [&](int64_t begin) { return sum_of_block(values + begin, std::min(kBlock, vocab_ - begin)); };
  double left = 0;
  for (int64_t begin = 0; begin < vocab_; begin += kBlock) left += block_sum(begin);
  left *= u;
  int64_t drawn_from = 0;
  for (int64_t begin = 0; begin < vocab_; begin += kBlock) {
    const double sum = block_sum(begin);
    if (sum > 0) drawn_from = begin;
    if (left < sum) break;
    left = begin + kBlock < vocab_ ? left - sum : std::numeric_limits<double>::infinity();  // roundings may leave more than there is: the last one
  }
  int64_t last = drawn_from;
  for (int64_t i = drawn_from; i < std::min(drawn_from + kBlock, vocab_) && left >= 0; ++i) {
    if (!(values[i] > 0)) continue;
    last = i;
    left -= static_cast<double>(values[i]);
  }
  return static_cast<TokenId>(last);
}

// scratch.values are the logits, where the row has them.
std::optional<TokenId> Sampler::draw(const Sequence& sequence, const LogitRow& row, const Scratch& scratch) const {
  const Sampling& s = *sequence.sampling;
  float* values = scratch.values;
  const auto heat = static_cast<float>(s.temperature);
  for (int64_t i = 0; row.logits != nullptr && i < vocab_; ++i) values[i] /= heat;
  const std::span<const LogitCandidate> best = candidates_of(row);
  for (const LogitCandidate& c : best) values[c.id] = c.value / heat;
  const float top = row.logits != nullptr ? kernels_.maximum(values, vocab_) : values[best[0].id];
  if (!std::isfinite(top)) return kNoToken;
  const double u = uniform_of(sequence);
  if (keeps_all(s)) return draw_any(values, top, u);
  const std::optional<int64_t> n = keep_candidates(s, row, scratch, top);
  if (!n) return std::nullopt;
  if (*n == 0) return kNoToken;
  double left = u * mass_of(scratch, *n, top);
  int64_t i = 0;
  while (i < *n - 1 && (left -= weight_of(values[scratch.ids[i]], top)) >= 0) ++i;
  return scratch.ids[i];
}

void Sampler::logprobs(const LogitRow& row, TokenId token, int count, LogprobTable::Entry* out, int worker) {
  const float* logits = row.logits;
  const int64_t k = count - 1;
  if (logits == nullptr) return logprobs_of_summary(row, token, k, out);
  const float top = kernels_.maximum(logits, vocab_);
  const float log_sum = top + std::log(kernels_.exp_sum(logits, top, nullptr, vocab_));
  int32_t rank = 1;
  for (int64_t i = 0; i < vocab_; ++i) rank += logits[i] > logits[token] ? 1 : 0;
  out[0] = {token, logits[token] - log_sum, rank};
  if (k == 0) return;
  int32_t* ids = scratch_[static_cast<size_t>(worker)].ids;
  for (int64_t i = 0; i < vocab_; ++i) ids[i] = static_cast<int32_t>(i);
  std::partial_sort(ids, ids + k, ids + vocab_, better(logits));
  for (int64_t j = 0; j < k; ++j) out[j + 1] = {ids[j], logits[ids[j]] - log_sum, static_cast<int32_t>(j + 1)};
}

void Sampler::logprobs_of_summary(const LogitRow& row, TokenId token, int64_t k, LogprobTable::Entry* out) const {
  const LogitSummary& summary = *row.summary;
  const std::span<const LogitCandidate> best = candidates_of(row);
  const float log_sum = summary.top + std::log(summary.sum);
  out[0] = {token, summary.value - log_sum, summary.rank};
  if (token != summary.id) {  // drawn from the best
    const float value = std::find_if(best.begin(), best.end(), [&](const LogitCandidate& c) { return c.id == token; })->value;
    const auto larger = std::count_if(best.begin(), best.end(), [&](const LogitCandidate& c) { return c.value > value; });
    out[0] = {token, value - log_sum, static_cast<int32_t>(1 + larger)};
  }
  for (int64_t j = 0; j < k; ++j) {
    const LogitCandidate& c = best[static_cast<size_t>(j)];
    out[j + 1] = {c.id, c.value - log_sum, static_cast<int32_t>(j + 1)};
  }
}

}  // namespace moegen
