#include "model/expanded_attention.h"

#include <algorithm>
#include <array>

#include "base/checked.h"
#include "model/linear.h"

namespace moegen {
namespace {

constexpr int64_t kLeastPiece = 256;  // queries: fewer would not pay for the keys' expansion
constexpr int64_t kTurnedRows = 16;

// Of one head, but for `pages`, `tokens`, `num_pages` and where it writes.
LatentExpansion expansion_of(const AttentionSpec& a, DType act) {
  const LatentSpec& m = a.latent;
  return {.dtype = act, .kv_rank = m.kv_rank, .plain_dim = m.plain_dim, .rope_dim = m.rope_dim, .v_dim = m.v_dim};
}

int64_t floats_of(size_t bytes) { return round_up(static_cast<int64_t>(bytes / sizeof(float)), int64_t{16}); }

// Rows [first, ..) of what the weights have as [kv_rank, plain_dim] of a head, turned back and rounded.
template <typename T>
void turn_back(const StepContext& c, const TensorView& w, int64_t at, const LatentSpec& m, int64_t first, float* rows, T* out) {
  const int64_t count = std::min(kTurnedRows, m.kv_rank - first);
  const auto* from = static_cast<const std::byte*>(w.data) + static_cast<size_t>(at + first * m.plain_dim) * bytes_of(w.dtype);
  c.kernels.convert(from, w.dtype, rows, DType::f32, count * m.plain_dim);
  for (int64_t d = 0; d < m.plain_dim; ++d) {
    for (int64_t r = 0; r < count; ++r) {
      const float x = rows[r * m.plain_dim + d];
      if constexpr (std::is_same_v<T, float>) {
        out[d * m.kv_rank + first + r] = x;
      } else {
        out[d * m.kv_rank + first + r] = to_bf16(x);
      }
    }
  }
}

// Tokens of one sequence that are together in a range of pages, and the queries that see them.
struct Segment {
  const PromptPart* part;
  int64_t first_page;  // of the range
  Range keys;          // positions
};

// One head over the parts of a group: fills a range of pages, lets their queries see it, and begins the next.
class HeadTask {
 public:
  HeadTask(const StepContext& c, const Pass& pass, size_t layer, const Wave& wave, int64_t head, int worker)
      : c_(c), pass_(pass), layer_(layer), wave_(wave), head_(head), spec_(c.spec.layers[layer].attention), op_(expansion_of(spec_, c.act)) {
    const ExpandedScratch scratch(spec_, c.act);
    float* room = scratch_of(c, worker);
    op_.out = reinterpret_cast<std::byte*>(room);
    op_.scratch = room + scratch.expansion;
    attention_scratch_ = room + scratch.attention;
    op_.w = act_at(c, c.buffers.kv_b, head * (op_.plain_dim + op_.v_dim) * op_.kv_rank);
    op_.pages = pages_.data();
    op_.tokens = tokens_.data();
  }

  void add(const PromptPart& part) {
    const PassSequence& s = sequence(part);
    const int64_t end = s.first_position + part.first + part.count;
    for (int64_t first = 0; first < end; first += kPageTokens) {
      const int64_t count = std::min<int64_t>(kPageTokens, end - first);
      if (op_.num_pages == kExpandedPages || num_tokens_ + count > kExpandedTokens) finish();
      if (num_segments_ == 0 || segments_[num_segments_ - 1].part != &part) segments_[num_segments_++] = {&part, op_.num_pages, {first, first}};
      segments_[num_segments_ - 1].keys.end = first + kPageTokens;
      const auto page = static_cast<size_t>(s.page_table[c_.kv.page_index(layer_, first)]);
      pages_[static_cast<size_t>(op_.num_pages)] = c_.kv_pages + page * c_.kv.page_bytes + c_.kv.head_offset(layer_, 0);
      tokens_[static_cast<size_t>(op_.num_pages++)] = static_cast<int32_t>(count);
      num_tokens_ += count;
    }
  }

  void finish() {
    if (op_.num_pages == 0) return;
    c_.kernels.expand_latents(op_);
    for (size_t i = 0; i < num_segments_; ++i) attend(segments_[i]);
    op_.num_pages = num_tokens_ = 0;
    num_segments_ = 0;
  }

 private:
  [[nodiscard]] const PassSequence& sequence(const PromptPart& part) const { return pass_.sequences[static_cast<size_t>(part.sequence)]; }

  // The queries of a part that are not before the keys.
  void attend(const Segment& segment) const {
    static constexpr std::array<int32_t, kExpandedPages> kInOrder{0, 1, 2, 3, 4, 5, 6, 7};
    static_assert(kExpandedPages == 8);
    const PromptPart& part = *segment.part;
    const PassSequence& s = sequence(part);
    const int64_t position = s.first_position + part.first;
    const int64_t before = std::max<int64_t>(0, segment.keys.begin - position);
    const int64_t row = s.first_row + part.first + before - wave_.rows.begin;
    const int64_t stride = attended_stride(spec_, c_.act);
    const int64_t carry_stride = stride * static_cast<int64_t>(bytes_of(c_.act)) / static_cast<int64_t>(sizeof(float));
    const int64_t carry_room = attention_carry(op_.v_dim);
    c_.kernels.attention({.q = act_at(c_, c_.buffers.q, row * query_stride(spec_) + head_ * op_.key_dim()),
                          .q_stride = query_stride(spec_),
                          .out = act_at(c_, c_.buffers.heads, row * spec_.o_width() + head_ * op_.v_dim),
                          .out_stride = spec_.o_width(),
                          .dtype = c_.act,
                          .kv_dtype = c_.act,
                          .kv_heads = 1,
                          .heads = 1,
                          .head_dim = op_.key_dim(),
                          .num_queries = part.count - before,
                          .first_position = position + before,
                          .pages = op_.out + static_cast<size_t>(segment.first_page) * op_.page_bytes(),
                          .page_bytes = op_.page_bytes(),
                          .page_table = kInOrder.data(),
                          .scale = spec_.scale,
                          .scratch = attention_scratch_,
                          .value_width = op_.v_dim,
                          .first_key = segment.keys.begin,
                          .num_keys = segment.keys.size(),
                          .carry = static_cast<float*>(c_.buffers.attended) + row * carry_stride + head_ * carry_room,
                          .carry_stride = carry_stride});
  }

  const StepContext& c_;
  const Pass& pass_;
  size_t layer_;
  const Wave& wave_;
  int64_t head_;
  const AttentionSpec& spec_;
  LatentExpansion op_;
  float* attention_scratch_;
  std::array<const std::byte*, kExpandedPages> pages_{};
  std::array<int32_t, kExpandedPages> tokens_{};
  int64_t num_tokens_ = 0;
  std::array<Segment, kExpandedPages> segments_{};
  size_t num_segments_ = 0;
};

// The tokens of prompts in these blocks as parts, each of at most `most` tokens, and which of them go together: short ones, whose keys are one
// range. Returns how many parts there are.
int64_t make_parts(const StepContext& c, const Pass& pass, Range blocks, int64_t most) {
  PromptPart* parts = c.buffers.prompt_parts;
  int64_t count = 0;
  int64_t group_keys = 0;
  for (int64_t i = blocks.begin; i < blocks.end; ++i) {
    const QueryBlock& block = c.buffers.query_blocks[i];
    if (!block.prompt) continue;
    PromptPart* last = count > 0 ? &parts[count - 1] : nullptr;
    if (last != nullptr && last->sequence == block.sequence && last->count + block.count <= most) {
      last->count += block.count;
    } else {
      parts[count++] = {block.sequence, block.first, block.count, 0};
    }
  }
  for (int64_t i = 0; i < count; ++i) {
    const int64_t keys = pass.sequences[static_cast<size_t>(parts[i].sequence)].first_position + parts[i].first + parts[i].count;
    const bool joins = i > 0 && group_keys + keys <= kExpandedTokens;
    if (i > 0) parts[i].group = parts[i - 1].group + (joins ? 0 : 1);
    group_keys = joins ? group_keys + keys : keys;
  }
  return count;
}

}  // namespace

ExpandedScratch::ExpandedScratch(const AttentionSpec& spec, DType act) {
  const LatentExpansion op = expansion_of(spec, act);
  attention = floats_of(kExpandedPages * op.page_bytes());
  expansion = attention + round_up<int64_t>(attention_scratch(std::max(op.key_dim(), op.v_dim)), 16);
  end = expansion + floats_of(op.scratch_bytes());
}

void prepare_expansion(const StepContext& c, size_t layer) {
  const AttentionSpec& a = c.spec.layers[layer].attention;
  const LatentSpec& m = a.latent;
  const TensorView& w = c.weights.layers[layer].kv_b;
  const int64_t parts = ceil_div<int64_t>(m.kv_rank, kTurnedRows);
  c.pool.parallel_for(a.num_heads * (parts + 1), [&](int64_t i, int worker) {
    const int64_t at = i / (parts + 1) * (m.plain_dim + m.v_dim) * m.kv_rank;
    const int64_t part = i % (parts + 1);
    void* out = act_at(c, c.buffers.kv_b, at);
    if (part == parts) {
      const int64_t values = at + int64_t{m.plain_dim} * m.kv_rank;
      const auto* from = static_cast<const std::byte*>(w.data) + static_cast<size_t>(values) * bytes_of(w.dtype);
      c.kernels.convert(from, w.dtype, act_at(c, c.buffers.kv_b, values), c.act, int64_t{m.v_dim} * m.kv_rank);
    } else if (c.act == DType::f32) {
      turn_back(c, w, at, m, part * kTurnedRows, scratch_of(c, worker), static_cast<float*>(out));
    } else {
      turn_back(c, w, at, m, part * kTurnedRows, scratch_of(c, worker), static_cast<bf16*>(out));
    }
  });
}

void attend_prompts(const StepContext& c, const Pass& pass, size_t layer, const Wave& wave, Range blocks) {
  const AttentionSpec& a = c.spec.layers[layer].attention;
  const int64_t tasks = int64_t{kPiecesPerThread} * c.pool.size();
  const int64_t most = std::max(kLeastPiece, round_up<int64_t>(ceil_div(wave.rows.size() * a.num_heads, tasks), kPageTokens));
  const int64_t count = make_parts(c, pass, blocks, most);
  const PromptPart* parts = c.buffers.prompt_parts;
  const int64_t groups = parts[count - 1].group + 1;
  c.pool.parallel_for(groups * a.num_heads, [&](int64_t i, int worker) {
    const auto group = static_cast<int32_t>(i % groups);
    HeadTask task(c, pass, layer, wave, i / groups, worker);
    const PromptPart* part = std::lower_bound(parts, parts + count, group, [](const PromptPart& p, int32_t g) { return p.group < g; });
    for (; part != parts + count && part->group == group; ++part) task.add(*part);
    task.finish();
  });
}

}  // namespace moegen
