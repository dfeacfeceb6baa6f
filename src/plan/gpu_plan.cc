#include "plan/gpu_plan.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/error.h"
#include "base/size.h"
#include "plan/plan.h"

namespace moegen {
namespace {

constexpr int64_t kLeastPassTokens = 256;
constexpr int64_t kGpuPassTokens = 16384;  // where none are asked for
constexpr int64_t kAttentionWave = 16384;  // tokens of which q, k and v are in memory at a time
constexpr double kLogitBytes = 128 << 20;
constexpr double kRingShare = 0.25;          // of HBM, at most: weights and KV on their way
constexpr double kHostRingShare = 1.0 / 16;  // of host memory, at most
constexpr double kWeightShare = 0.75;        // of host memory, at most, for weights to be all in it where nothing is asked for

// HBM that a pass of `tokens` writes: residual stream, normed, experts' outputs, scores of the router; q, k and v of a wave; logits.
double activation_bytes(const ModelSpec& spec, int64_t tokens) {
  double row = 0;
  double wave_row = 0;
  for (const LayerSpec& layer : spec.layers) {
    const AttentionSpec& a = layer.attention;
    row = std::max(row, 6.0 * spec.hidden + 2.0 * std::max(1, layer.mlp.top_k) * spec.hidden + 4.0 * layer.mlp.num_experts);
    wave_row = std::max(wave_row, a.is_linear() ? 4.0 * (a.delta.projected_width() + a.delta.value_width()) : 8.0 * (a.q_width() + 2 * a.kv_width()));
  }
  return static_cast<double>(tokens) * row + static_cast<double>(std::min(tokens, kAttentionWave)) * wave_row + kLogitBytes;
}

// A layer's weights, so that the next layer's come while this one's are used.
double largest_layer(const ModelWork& work) {
  double most = 0;
  for (const LayerWork& layer : work.layers) most = std::max(most, layer.fixed_bytes + layer.expert_bytes);
  return most;
}

// Two experts of the largest layer: one is used while the other comes.
double least_ring(const ModelSpec& spec, const ModelWork& work) {
  double most = 0;
  for (size_t l = 0; l < work.layers.size(); ++l)
    most = std::max(most, 2 * work.layers[l].expert_bytes / std::max(1, spec.layers[l].mlp.num_experts));
  return most;
}

uint64_t whole(double bytes) { return static_cast<uint64_t>(std::max(0.0, bytes)); }

// `needed_with`: so much memory, of which it may want a part for one thing or another.
[[noreturn]] void too_small(const char* option, double is, const std::function<double(double)>& needed_with, const char* what) {
  double needed = needed_with(is);
  for (int i = 0; i < 100 && needed_with(needed) > needed; ++i) needed = std::ceil(needed_with(needed));
  throw_error(ErrorCode::out_of_memory, "{} {} is too small: at least {} ({} bytes) are needed for {}", option, format_bytes(whole(is)),
              format_bytes(whole(needed)), whole(std::ceil(needed)), what);
}

// HBM: activations, the ring, weights that stay; the rest is for KV pages.
void divide_device(const PlanInput& in, Plan& plan) {
  const GpuInput& g = *in.gpu;
  GpuPlan& out = *plan.gpu;
  const auto memory = static_cast<double>(g.device_memory);
  const double least = least_ring(*in.spec, *in.work);
  double activations = activation_bytes(*in.spec, plan.sizes.pass_tokens);
  while (!in.max_pass_tokens && plan.sizes.pass_tokens > kLeastPassTokens && activations + least > memory / 2) {
    plan.sizes.pass_tokens /= 2;
    activations = activation_bytes(*in.spec, plan.sizes.pass_tokens);
  }
  if (activations + least > memory)
    too_small(
        "--device-memory", memory, [&](double) { return activations + least; }, "a pass and two experts");
  out.ring = std::max(least, std::min({largest_layer(*in.work), kRingShare * memory, memory - activations}));
  const double room = memory - activations - out.ring;
  const double all = in.work->fixed_bytes() + in.work->expert_bytes();
  const double fixed = in.work->fixed_bytes();
  out.device_weights = std::min({all, room, g.device_weights ? static_cast<double>(*g.device_weights) : all <= room ? all : fixed});
  if (g.static_batches) out.device_weights = std::min(out.device_weights, fixed);
  constexpr double kMostPages = 1 << 29;
  if (!g.static_batches)
    out.device_pages = static_cast<int64_t>(std::min(kMostPages, (room - out.device_weights) / static_cast<double>(plan.kv.page_bytes)));
  out.memory = {{"weights", whole(out.device_weights)},
                {"activations", whole(activations)},
                {"ring of weights and KV", whole(out.ring)},
                {"KV pages", static_cast<uint64_t>(out.device_pages) * plan.kv.page_bytes}};
}

// Host memory: the process, requests and answers, weights, the ring of those that come from storage; the rest is for KV pages.
int64_t divide_host(const PlanInput& in, Plan& plan) {
  const GpuInput& g = *in.gpu;
  GpuPlan& out = *plan.gpu;
  const auto memory = static_cast<double>(in.host_memory);
  const auto page = static_cast<double>(page_cost(plan.kv, plan.max_model_len));
  const double asked = std::floor(static_cast<double>(in.kv_memory.value_or(0)) / static_cast<double>(plan.kv.page_bytes));  // pages
  const double least = std::max(static_cast<double>(plan.kv.num_groups()), asked) * page;
  const uint64_t states = plan.kv.state_bytes() * static_cast<uint64_t>(plan.sizes.sequences);
  const auto rest_of = [&](double of) {
    return static_cast<double>(in.process_bytes + choose_answer_bytes(static_cast<uint64_t>(of)) + states) + in.work->embedding_bytes;
  };
  const auto ring_of = [&](double of) { return std::min(kHostRingShare * of, 2 * largest_layer(*in.work)); };
  const double rest = rest_of(memory);
  const double beyond = in.work->fixed_bytes() + in.work->expert_bytes() - out.device_weights;  // HBM
  const double ring = ring_of(memory);
  const double room = memory - rest - least;
  if (room < ring)
    too_small(
        "--host-memory", memory, [&](double of) { return rest_of(of) + least + ring_of(of); },
        "the process, requests, embeddings, KV pages and a ring of weights");
  const bool all_stay =
      beyond <= room &&
      (g.static_batches || (in.weight_memory ? beyond <= static_cast<double>(*in.weight_memory) : g.storage == 0 || beyond <= kWeightShare * memory));
  out.host_ring = all_stay || beyond <= 0 ? 0 : ring;
  out.host_weights = all_stay ? beyond : std::min({beyond, room - ring, in.weight_memory ? static_cast<double>(*in.weight_memory) : room / 2});
  out.storage_weights = beyond - out.host_weights;
  if (out.storage_weights > (g.static_batches ? 0 : static_cast<double>(g.storage)))
    too_small(
        "--host-memory", memory, [&](double of) { return rest_of(of) + least + beyond; }, "all weights: there is no storage for them");
  const double left = memory - rest - out.host_weights - out.host_ring;
  constexpr double kMostPages = 1 << 30;
  const auto count = static_cast<int64_t>(std::min(kMostPages, in.kv_memory ? asked : left / page));
  plan.memory = {{"weights", whole(out.host_weights)},
                 {"weights on their way", whole(out.host_ring)},
                 {"embedding", whole(in.work->embedding_bytes)},
                 {"KV pages", static_cast<uint64_t>(count) * plan.kv.page_bytes},
                 {"tokens and tables", static_cast<uint64_t>(count) * (page_cost(plan.kv, plan.max_model_len) - plan.kv.page_bytes)},
                 {"requests and answers", plan.answer_bytes},
                 {"process", in.process_bytes}};
  if (states > 0) plan.memory.emplace_back("recurrent states", states);
  return count;
}

}  // namespace

Plan make_gpu_plan(const PlanInput& in) {
  Plan plan;
  plan.max_model_len = choose_max_model_len(in);
  plan.swap = in.swap;
  plan.kv = KvLayout(*in.spec, in.kv_dtype);
  plan.answer_bytes = choose_answer_bytes(in.host_memory);
  plan.gpu.emplace();
  plan.gpu->static_batches = in.gpu->static_batches;
  plan.gpu->cpu_attention_share = in.gpu->cpu_attention_share.value_or(0);
  PassSizes& s = plan.sizes;
  s.page_tokens = kPageTokens;
  s.threads = in.threads;
  s.pass_tokens = in.max_pass_tokens.value_or(kGpuPassTokens);
  divide_device(in, plan);
  s.sequences = std::min(in.max_num_seqs ? *in.max_num_seqs : default_sequences(in, s.pass_tokens), s.pass_tokens);
  const int64_t host_pages = divide_host(in, plan);
  plan.kv_pages = static_cast<int32_t>(std::min<int64_t>(host_pages + plan.gpu->device_pages, int64_t{1} << 30));
  s.sequences = std::min(s.sequences, plan.kv_pages / plan.kv.num_groups());
  s.wave_tokens = std::min(s.pass_tokens, kAttentionWave);
  s.attention_micro_batch = s.sequences;
  s.expert_micro_batch = s.pass_tokens;
  if (in.gpu->cpu_experts != nullptr && plan.gpu->host_weights > 0)
    plan.gpu->cpu_experts =
        balanced_cpu_experts(*in.spec, *in.work, *in.gpu->cpu_experts, least_ring(*in.spec, *in.work) / 2, std::min(kCpuRows, s.pass_tokens));
  return plan;
}

}  // namespace moegen
