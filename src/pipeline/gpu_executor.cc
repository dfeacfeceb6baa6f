#include "pipeline/gpu_executor.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "base/checked.h"
#include "base/log.h"
#include "base/size.h"
#include "model/gpu_grouped_experts.h"
#include "model/gpu_linear.h"
#include "model/rope.h"

namespace moegen {
namespace {

template <typename F>
void in_steps(int64_t begin, int64_t end, int64_t step, const F& f) {
  for (int64_t i = begin; i < end; i += step) f(i, std::min(end, i + step));
}

int64_t pairs_of(const std::vector<RopeSpec>& ropes) {
  int64_t sum = 0;
  for (const RopeSpec& rope : ropes) sum += rope.dim / 2;
  return sum;
}

int most_experts(const ModelSpec& spec) {
  int most = 0;
  for (const LayerSpec& layer : spec.layers) most = std::max(most, layer.mlp.num_experts);
  return most;
}

}  // namespace

int64_t expanded_elements(std::span<const TensorSpec> table, std::span<const TensorView> views, DType act) {
  int64_t most = 0;
  for (size_t i = 0; i < table.size(); ++i) {
    const TensorView& v = views[i];
    if (table[i].part != Part::values) continue;
    if (gpu_expands(v.dtype, act)) most = std::max(most, v.rows * v.cols);
  }
  return most;
}

GpuExecutor::GpuExecutor(Device& device, const ModelSpec& spec, const HostWeights& weights, const Plan& plan, DType act, const Kernels& kernels,
                         ThreadPool& pool)
    : device_(device),
      spec_(spec),
      sizes_(plan.sizes),
      pool_(pool),
      host_weights_(weights.weights),
      storage_(weights.storage),
      pinned_weights_(device, weights.memory, weights.bytes),
      compute_(device.new_stream()),
      memory_(device.new_buffer(plan.device->buffer_bytes)),
      arena_(memory_.handle()),
      buffers_(arena_, spec, act, sizes_, weights.expanded_elements),
      weights_(device, compute_, spec, weights.table, weights.views, weights.units, plan),
      kv_(device, compute_, spec, plan, buffers_, pool),
      context_{spec, weights_.weights(), device, compute_, buffers_, sizes_, act},
      cpu_experts_(plan.gpu->cpu_experts),
      frequencies_(rope_frequencies(buffers_.ropes)),
      host_embedded_(device.new_host_buffer(static_cast<size_t>(sizes_.pass_tokens * spec.hidden) * bytes_of(weights_.weights().embedding.dtype))),
      host_positions_(device.new_host_buffer(spec.positions > 0 ? static_cast<size_t>(sizes_.pass_tokens) * sizeof(int32_t) : 0)),
      host_angles_(device.new_host_buffer(2 * static_cast<size_t>(sizes_.pass_tokens * pairs_of(buffers_.ropes)) * sizeof(float))),
      host_logit_rows_(device.new_host_buffer(static_cast<size_t>(sizes_.pass_tokens) * sizeof(int32_t))),
      host_expert_begin_(device.new_host_buffer(static_cast<size_t>(most_experts(spec) + 1) * sizeof(int32_t))),
      host_logits_(device.new_host_buffer(static_cast<size_t>(sizes_.logit_rows * spec.vocab) * sizeof(float))),
      host_queries_(device.new_host_buffer(static_cast<size_t>(sizes_.logit_rows) * sizeof(LogitQuery))),
      host_summaries_(device.new_host_buffer(static_cast<size_t>(sizes_.logit_rows) * sizeof(LogitSummary))),
      host_candidates_(device.new_host_buffer(static_cast<size_t>(sizes_.logit_rows * kLogitCandidates) * sizeof(LogitCandidate))),
      given_(device.new_event()),
      fetched_(device.new_event()) {
  MOEGEN_CHECK(arena_.used() == plan.device->buffer_bytes);
  place_tables();
  if (storage_ != nullptr) pinned_slots_ = PinnedBlocks(device, storage_->memory().data(), storage_->memory().size());
  if (cpu_sizes(sizes_).pass_tokens > 0) cpu_share_.emplace(context_, weights.weights, kernels, pool, plan, kv_);
  if (pinned_weights_.pinned_bytes() < weights.bytes)
    log_line("{} of weights could not be pinned: their copies are slower", format_bytes(weights.bytes - pinned_weights_.pinned_bytes()));
}

// Where the experts that stay lie, for launches that run several.
void GpuExecutor::place_tables() {
  for (size_t layer = 0; layer < spec_.layers.size(); ++layer) {
    const std::vector<MlpWeights>& experts = weights_.weights().layers[layer].experts;
    grouped_.push_back(!experts.empty() && gpu_groups(context_.act, spec_.layers[layer].mlp, experts.front()) &&
                       std::all_of(experts.begin(), experts.end(), [&](const MlpWeights& e) { return same_format(e, experts.front()); }));
    if (grouped_.back() == 0) continue;
    const size_t bytes = experts.size() * sizeof(GpuExpertWeights);
    const HostBuffer host = device_.new_host_buffer(bytes);
    device_.host_writes(host.handle(), bytes);
    std::transform(experts.begin(), experts.end(), static_cast<GpuExpertWeights*>(host.handle()), gpu_expert_weights);
    device_.copy_to_device(compute_, buffers_.expert_tables[layer], host.handle(), bytes);
    device_.synchronize(compute_);
  }
}

GpuExecutor::~GpuExecutor() { device_.settle(compute_); }

void GpuExecutor::run(const Pass& pass, LogitsConsumer& consumer) {
  const auto num_tokens = static_cast<int64_t>(pass.tokens.size());
  MOEGEN_CHECK(num_tokens > 0 && num_tokens <= sizes_.pass_tokens);
  device_.use_here();
  weights_.begin_pass(num_tokens);
  if (storage_ != nullptr) storage_->begin_pass(num_tokens);
  begin_pass(pass);
  if (cpu_share_) cpu_share_->begin_pass(pass);
  expert_load_ = {};
  for (size_t layer = 0; layer < spec_.layers.size(); ++layer) {
    layer_.store(static_cast<int>(layer), std::memory_order_relaxed);
    run_attention(layer, num_tokens);
    run_mlp(layer, num_tokens);
  }
  kv_.end_pass();
  run_logits(pass, consumer);
  layer_.store(-1, std::memory_order_relaxed);
}

// Rows of the embedding, positions, angles and rows whose logits are wanted, to the device.
void GpuExecutor::begin_pass(const Pass& pass) {
  const auto num_tokens = static_cast<int64_t>(pass.tokens.size());
  const TensorView& e = weights_.weights().embedding;
  const size_t row_bytes = static_cast<size_t>(e.cols) * bytes_of(e.dtype);
  device_.synchronize(given_);
  const auto give = [&](const HostBuffer& from, size_t at, void* to, size_t bytes, const auto& write) {
    std::byte* host = static_cast<std::byte*>(from.handle()) + at;
    device_.host_writes(host, bytes);
    write(host);
    device_.copy_to_device(compute_, to, host, bytes);
  };
  give(host_embedded_, 0, buffers_.embedded, static_cast<size_t>(num_tokens) * row_bytes, [&](std::byte* to) {
    pool_.parallel_for(num_tokens, [&](int64_t t, int) {
      const auto token = static_cast<size_t>(pass.tokens[static_cast<size_t>(t)]);
      std::memcpy(to + static_cast<size_t>(t) * row_bytes, static_cast<const std::byte*>(e.data) + token * row_bytes, row_bytes);
    });
  });
  std::vector<int64_t> positions(static_cast<size_t>(num_tokens));
  for (const PassSequence& s : pass.sequences) {
    for (int32_t t = 0; t < s.num_tokens; ++t) positions[static_cast<size_t>(s.first_row + t)] = s.first_position + t;
  }
  if (spec_.positions > 0) {
    give(host_positions_, 0, buffers_.positions, static_cast<size_t>(num_tokens) * sizeof(int32_t), [&](std::byte* to) {
      std::transform(positions.begin(), positions.end(), reinterpret_cast<int32_t*>(to),
                     [&](int64_t position) { return static_cast<int32_t>(spec_.first_position + position); });
    });
  }
  size_t at = 0;
  for (size_t r = 0; r < buffers_.ropes.size(); ++r) {
    const std::vector<float>& f = frequencies_[r];
    const auto pairs = static_cast<int64_t>(f.size());
    const size_t bytes = static_cast<size_t>(num_tokens * pairs) * sizeof(float);
    for (const bool sine : {false, true}) {
      give(host_angles_, at, sine ? buffers_.rope_sin[r] : buffers_.rope_cos[r], bytes, [&](std::byte* to) {
        pool_.parallel_for(num_tokens, [&](int64_t t, int) {
          for (int64_t i = 0; i < pairs; ++i) {  // as fill_angles of the CPU
            const double angle = static_cast<float>(positions[static_cast<size_t>(t)]) * f[static_cast<size_t>(i)];
            reinterpret_cast<float*>(to)[t * pairs + i] =
                static_cast<float>((sine ? std::sin(angle) : std::cos(angle)) * buffers_.ropes[r].amplitude);
          }
        });
      });
      at += bytes;
    }
  }
  const size_t logit_bytes = pass.logit_rows.size() * sizeof(int32_t);
  give(host_logit_rows_, 0, buffers_.logit_rows, logit_bytes, [&](std::byte* to) { std::memcpy(to, pass.logit_rows.data(), logit_bytes); });
  device_.record(given_, compute_);
  gpu_embed(context_, num_tokens);
  kv_.begin_pass(pass);
}

void GpuExecutor::run_attention(size_t layer, int64_t num_tokens) {
  for (int64_t wave = 0; wave * sizes_.wave_tokens < num_tokens; ++wave) {
    const Range rows{wave * sizes_.wave_tokens, std::min(num_tokens, (wave + 1) * sizes_.wave_tokens)};
    gpu_project_qkv(context_, layer, rows);
    if (cpu_share_) cpu_share_->take_attention(layer, rows);
    for (int64_t i = kv_.micro_batches(layer, wave); i > 0; --i) {
      gpu_attend(context_, layer, rows, kv_.begin());
      kv_.end();
    }
    if (cpu_share_) cpu_share_->give_attention(layer, rows);
    gpu_project_out(context_, layer, rows);
  }
}

void GpuExecutor::run_mlp(size_t layer, int64_t num_tokens) {
  const MlpSpec& mlp = spec_.layers[layer].mlp;
  const LayerWeights& weights = weights_.weights().layers[layer];
  const int64_t step = sizes_.expert_micro_batch;
  if (mlp.dense()) {
    weights_.routed(layer, {});
    if (storage_ != nullptr) storage_->routed(layer, nullptr);
    const bool stored = !host_weights_.layers[layer].dense.gate, streams = !weights.dense.gate && !stored;
    const MlpWeights& dense = stored ? bring(layer, -1) : streams ? weights_.take(layer, -1) : weights.dense;
    in_steps(0, num_tokens, step, [&](int64_t first, int64_t last) { gpu_run_dense(context_, dense, first, last); });
    if (streams) weights_.release();
    if (stored) weights_.release_brought();
    return;
  }
  gpu_route(context_, num_tokens, layer);
  run_experts(layer, num_tokens);
  gpu_combine_experts(context_, num_tokens, layer);
  if (mlp.shared_width > 0) in_steps(0, num_tokens, step, [&](int64_t first, int64_t last) { gpu_run_shared(context_, weights, first, last); });
  if (spec_.layers[layer].branch_norms) gpu_finish_branches(context_, num_tokens, layer);
}

// What comes from storage, to the device. The slot it was read into is free again.
const MlpWeights& GpuExecutor::bring(size_t layer, int expert) {
  static_cast<void>(storage_->take(layer, expert));
  const WeightStream::Taken taken = storage_->taken();
  const MlpWeights& weights = weights_.bring(taken.number, taken.unit, taken.data);
  storage_->release();
  return weights;
}

// Experts that come from storage, one by one: it is slower than the link, and reads on meanwhile.
void GpuExecutor::run_stored(size_t layer, const int32_t* begin, int64_t num_tokens) {
  for (size_t e = 0; storage_ != nullptr && e < host_weights_.layers[layer].experts.size(); ++e) {
    if (!is_stored(layer, e) || begin[e] == begin[e + 1]) continue;
    run_expert(bring(layer, static_cast<int>(e)), layer, {begin[e], begin[e + 1]}, num_tokens);
    weights_.release_brought();
  }
}

void GpuExecutor::run_expert(const MlpWeights& mlp, size_t layer, Range rows, int64_t num_tokens) {
  in_steps(rows.begin, rows.end, sizes_.expert_micro_batch, [&](int64_t first, int64_t last) {
    gpu_run_expert(context_, mlp, num_tokens, layer, {first, last});
  });
}

// Experts that stay, as many at once as an expert micro-batch holds; what lies between them is of experts that do not.
void GpuExecutor::run_resident(size_t layer, const int32_t* begin, int64_t num_tokens) {
  const std::vector<MlpWeights>& experts = weights_.weights().layers[layer].experts;
  Range rows;
  const auto run = [&] {
    if (rows.size() > 0) gpu_run_grouped_experts(context_, layer, num_tokens, rows, {begin, experts.size() + 1}, weights_.resident());
  };
  for (size_t e = 0; e < experts.size(); ++e) {
    if (!experts[e].gate) continue;
    if (grouped_[layer] == 0) {
      run_expert(experts[e], layer, {begin[e], begin[e + 1]}, num_tokens);
      continue;
    }
    in_steps(begin[e], begin[e + 1], sizes_.expert_micro_batch, [&](int64_t first, int64_t last) {
      if (rows.size() == 0 || last - rows.begin > sizes_.expert_micro_batch) {
        run();
        rows.begin = first;
      }
      rows.end = last;
    });
  }
  run();
}

// Who has the experts of a layer that have tokens and whose weights are in host memory: the CPU, or a slot.
void GpuExecutor::share_experts(size_t layer, const int32_t* begin) {
  const auto& experts = weights_.weights().layers[layer].experts;
  streams_.assign(experts.size(), 0);
  for (size_t e = 0; e < experts.size(); ++e) streams_[e] = experts[e].gate || is_stored(layer, e) ? 0 : 1;
  choose_cpu_experts(cpu_experts_, {begin, experts.size() + 1}, streams_, on_cpu_);
  copied_ = streams_;
  for (size_t e = 0; e < experts.size(); ++e) {
    if (on_cpu_[e] != 0 || begin[e] == begin[e + 1]) copied_[e] = 0;
  }
}

// Those that stream and are on their way already, those that stay, then the others, as their slots become free; beside them, the CPU's; at last those
// from storage.
void GpuExecutor::run_experts(size_t layer, int64_t num_tokens) {
  const auto& experts = weights_.weights().layers[layer].experts;
  auto* begin = static_cast<int32_t*>(host_expert_begin_.handle());
  const size_t bytes = (experts.size() + 1) * sizeof(int32_t);
  device_.copy_to_host(compute_, begin, buffers_.expert_begin, bytes);
  device_.record(fetched_, compute_);
  device_.synchronize(fetched_);
  device_.host_reads(begin, bytes);
  share_experts(layer, begin);
  weights_.routed(layer, copied_);  // first: the link is not to wait
  if (storage_ != nullptr) storage_->routed(layer, begin);
  if (cpu_share_) cpu_share_->take_experts(layer, begin, on_cpu_, num_tokens);
  count_experts(begin, experts.size());
  const auto run = [&](size_t e, const MlpWeights& mlp) { run_expert(mlp, layer, {begin[e], begin[e + 1]}, num_tokens); };
  size_t next = 0;
  const auto run_streamed = [&](int64_t most) {
    for (; next < experts.size() && most > 0; ++next) {
      if (copied_[next] == 0) continue;
      run(next, weights_.take(layer, static_cast<int>(next)));
      weights_.release();
      --most;
    }
  };
  run_streamed(weights_.begun());
  run_resident(layer, begin, num_tokens);
  run_streamed(static_cast<int64_t>(experts.size()));
  if (cpu_share_) cpu_share_->give_experts();
  run_stored(layer, begin, num_tokens);
}

// What the consumer asks about each row is found out here; logits cross the link for rows that need them, alone.
void GpuExecutor::run_logits(const Pass& pass, LogitsConsumer& consumer) {
  const auto num_tokens = static_cast<int64_t>(pass.tokens.size());
  in_steps(0, static_cast<int64_t>(pass.logit_rows.size()), sizes_.logit_rows, [&](int64_t first, int64_t last) {
    gpu_compute_logits(context_, num_tokens, first, last - first);
    rows_.assign(static_cast<size_t>(last - first), {});
    summarize(first, consumer);
    const auto needs_logits = [](const LogitRow& row) { return row.needs_logits; };
    do {
      fetch_logits();
      consumer.take(first, rows_);
      for (LogitRow& row : rows_) row = {.needs_logits = row.needs_logits};
    } while (std::any_of(rows_.begin(), rows_.end(), needs_logits));
  });
}

void GpuExecutor::summarize(int64_t first, const LogitsConsumer& consumer) {
  const size_t count = rows_.size();
  auto* queries = static_cast<LogitQuery*>(host_queries_.handle());
  const auto* summaries = static_cast<const LogitSummary*>(host_summaries_.handle());
  const auto* candidates = static_cast<const LogitCandidate*>(host_candidates_.handle());
  device_.host_writes(queries, count * sizeof(LogitQuery));
  bool some = false, some_candidates = false;
  for (size_t i = 0; i < count; ++i) {
    queries[i] = consumer.query(first + static_cast<int64_t>(i));
    rows_[i].needs_logits = queries[i].whole;
    if (queries[i].whole) continue;
    rows_[i].summary = summaries + i;
    rows_[i].candidates = queries[i].candidates ? candidates + i * kLogitCandidates : nullptr;
    some = true;
    some_candidates = some_candidates || queries[i].candidates;
  }
  if (!some) return;
  device_.copy_to_device(compute_, buffers_.queries, queries, count * sizeof(LogitQuery));
  device_.kernels().summarize(device_, compute_,
                              {.logits = buffers_.logits,
                               .rows = static_cast<int64_t>(count),
                               .width = spec_.vocab,
                               .queries = buffers_.queries,
                               .segments = buffers_.segments,
                               .summaries = buffers_.summaries,
                               .candidates = buffers_.candidates});
  fetches_.push_back({host_summaries_.handle(), buffers_.summaries, count * sizeof(LogitSummary)});
  if (some_candidates) fetches_.push_back({host_candidates_.handle(), buffers_.candidates, count * kLogitCandidates * sizeof(LogitCandidate)});
}

// And whatever else is to be fetched. The host waits for it.
void GpuExecutor::fetch_logits() {
  const auto vocab = static_cast<size_t>(spec_.vocab);
  for (size_t i = 0; i < rows_.size(); ++i) {
    if (!rows_[i].needs_logits) continue;
    float* logits = static_cast<float*>(host_logits_.handle()) + i * vocab;
    rows_[i] = {.logits = logits};
    fetches_.push_back({logits, buffers_.logits + i * vocab, vocab * sizeof(float)});
  }
  device_.copy_to_host(compute_, fetches_);
  device_.record(fetched_, compute_);
  device_.synchronize(fetched_);
  for (const Copy& fetch : fetches_) device_.host_reads(fetch.to, fetch.bytes);
  fetches_.clear();
}

}  // namespace moegen
