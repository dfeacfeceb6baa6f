#include "pipeline/cpu_share.h"

#include <algorithm>
#include <cstring>

#include "model/gpu_linear.h"
#include "model/linear.h"
#include "model/rope.h"
#include "plan/device_plan.h"

namespace moegen {

CpuShare::CpuShare(const GpuContext& gpu, const ModelWeights& host, const Kernels& kernels, ThreadPool& pool, const Plan& plan, KvStager& kv)
    : gpu_(gpu),
      pages_(kv),
      sizes_(cpu_sizes(plan.sizes)),
      arena_(Buffers::bytes_needed(gpu.spec, gpu.act, sizes_), "what the CPU computes beside the GPU"),
      buffers_(arena_, gpu.spec, gpu.act, sizes_),
      pinned_(gpu.device, buffers_.positions, arena_.used()),  // positions lie first
      states_(static_cast<size_t>(gpu.sizes.sequences) * plan.kv.state_bytes(), "recurrent states"),
      frequencies_(rope_frequencies(buffers_.ropes)),
      context_{gpu.spec, host, kernels, pool, plan.kv, kv.pages(), reinterpret_cast<float*>(states_.data()), buffers_, sizes_, frequencies_, gpu.act},
      exchange_(gpu.device.new_stream(true)),
      ready_(gpu.device.new_event()),
      there_(gpu.device.new_event()),
      back_(gpu.device.new_event()),
      linear_there_{gpu.device.new_event(), gpu.device.new_event()},
      host_rows_(gpu.device.new_host_buffer(static_cast<size_t>(gpu.sizes.pass_tokens) * sizeof(int32_t))),
      uploaded_(gpu.device.new_event()),
      no_tokens_(static_cast<size_t>(sizes_.pass_tokens)) {}

CpuShare::~CpuShare() {
  gpu_.device.settle(exchange_);
  gpu_.device.settle(gpu_.stream);
}

void CpuShare::begin_pass(const Pass& pass) {
  chunks_.clear();
  rows_.clear();
  laid_out_ = nullptr;
  if (gpu_.sizes.cpu_linear_rows > 0) add_linear_chunks(pass);
  for (const PassSequence& s : pass.sequences) {
    const int64_t end = s.first_row + s.num_tokens, begin = end - cpu_tokens(s);
    add_tokens(chunks_, gpu_.sizes.cpu_attention_rows, s, begin, end);
    for (int64_t row = begin; row < end; ++row) rows_.push_back(static_cast<int32_t>(row % gpu_.sizes.wave_tokens));
  }
  if (chunks_.empty()) return;
  pages_.await_returned();
  upload_rows();
}

// Rows [begin, end) of a sequence, to chunks of their waves.
void CpuShare::add_tokens(std::vector<Chunk>& chunks, int64_t most_rows, const PassSequence& sequence, int64_t begin, int64_t end) const {
  const int64_t wave_tokens = gpu_.sizes.wave_tokens;
  const bool waits = begin > sequence.first_row;
  while (begin < end) {
    const int64_t wave = begin / wave_tokens * wave_tokens;
    const bool fits = !chunks.empty() && chunks.back().wave_begin == wave && chunks.back().rows < most_rows &&
                      static_cast<int64_t>(chunks.back().sequences.size()) < sizes_.sequences;
    if (!fits) chunks.push_back({.wave_begin = wave, .first = chunks.empty() ? 0 : chunks.back().first + chunks.back().rows});
    Chunk& chunk = chunks.back();
    const int64_t count = std::min({end, wave + wave_tokens, begin + most_rows - chunk.rows}) - begin;
    PassSequence& part = chunk.sequences.emplace_back(sequence);
    part.first_row = static_cast<int32_t>(chunk.rows);
    part.num_tokens = static_cast<int32_t>(count);
    part.first_position += begin - sequence.first_row;
    chunk.rows += count;
    chunk.waits = chunk.waits || waits;
    begin += count;
  }
}

void CpuShare::upload_rows() {
  const size_t bytes = rows_.size() * sizeof(int32_t);
  gpu_.device.synchronize(uploaded_);
  gpu_.device.host_writes(host_rows_.handle(), bytes);
  std::memcpy(host_rows_.handle(), rows_.data(), bytes);
  gpu_.device.copy_to_device(gpu_.stream, gpu_.buffers.handed_rows, host_rows_.handle(), bytes);
  gpu_.device.record(uploaded_, gpu_.stream);
}

void CpuShare::fetch(void* to, const void* from, size_t bytes) {
  gpu_.device.copy_to_host(exchange_, to, from, bytes);
  fetched_.push_back({to, bytes});
}

void CpuShare::await_rows() {
  gpu_.device.synchronize(there_);
  for (const Region& r : fetched_) gpu_.device.host_reads(r.data, r.bytes);
}

void CpuShare::take_attention(size_t layer, Range wave) {
  if (gpu_.spec.layers[layer].attention.is_linear()) return take_linear(layer, wave);
  const auto first = std::find_if(chunks_.begin(), chunks_.end(), [&](const Chunk& c) { return c.wave_begin == wave.begin; });
  if (first != chunks_.end()) hand_over(*first, layer, wave);
}

void CpuShare::give_attention(size_t layer, Range wave) {
  if (gpu_.spec.layers[layer].attention.is_linear()) return give_linear(layer, wave);
  bool handed = true;  // the first of them
  for (const Chunk& chunk : chunks_) {
    if (chunk.wave_begin != wave.begin) continue;
    if (!handed) hand_over(chunk, layer, wave);
    handed = false;
    attend_chunk(chunk, layer, wave);
  }
}

// What place_qkv works on.
void CpuShare::hand_over(const Chunk& chunk, size_t layer, Range wave) {
  const AttentionSpec& a = gpu_.spec.layers[layer].attention;
  const GpuBuffers& b = gpu_.buffers;
  const int64_t stride = a.is_latent() ? a.head_dim : a.q_outputs() + 2 * a.kv_width();
  const auto gather = [&](const void* x, int64_t width, DType dtype, void* y, int64_t y_stride) {
    gpu_.device.kernels().move(gpu_.device, gpu_.stream,
                               {.x = x,
                                .x_stride = width,
                                .picked = b.handed_rows + chunk.first,
                                .y = y,
                                .y_stride = y_stride,
                                .rows = chunk.rows,
                                .width = width,
                                .all_rows = wave.size(),
                                .dtype = dtype});
  };
  const int64_t heads = int64_t{a.num_heads} * (a.latent.plain_dim + a.latent.rope_dim);
  gather(b.qkv, stride, DType::f32, b.handed_qkv, stride);
  if (a.is_latent()) {
    gather(b.q, a.q_width(), gpu_.act, b.handed_q, query_stride(a));
    gather(b.heads, heads, gpu_.act, b.handed_heads, heads);
  }
  gpu_.device.record(ready_, gpu_.stream);
  gpu_.device.wait(exchange_, ready_);
  fetched_.clear();
  const auto rows_of = [&](int64_t width, DType dtype) { return static_cast<size_t>(chunk.rows * width) * bytes_of(dtype); };
  fetch(buffers_.qkv, b.handed_qkv, rows_of(stride, DType::f32));
  if (a.is_latent()) {
    fetch(buffers_.q, b.handed_q, static_cast<size_t>((chunk.rows - 1) * query_stride(a) + a.q_width()) * bytes_of(gpu_.act));
    fetch(buffers_.heads, b.handed_heads, rows_of(heads, gpu_.act));
  }
  gpu_.device.record(there_, exchange_);
}

void CpuShare::attend_chunk(const Chunk& chunk, size_t layer, Range wave) {
  const AttentionSpec& a = gpu_.spec.layers[layer].attention;
  const GpuBuffers& b = gpu_.buffers;
  const Pass pass{.tokens = {no_tokens_.data(), static_cast<size_t>(chunk.rows)}, .sequences = chunk.sequences, .logit_rows = {}};
  if (laid_out_ != &chunk) lay_out_pass(context_, pass);
  laid_out_ = &chunk;
  await_rows();
  if (chunk.waits) pages_.await_returned();
  for (const PassSequence& s : chunk.sequences) claim_pages(s, layer);
  const Wave rows = wave_of(context_, chunk.rows, 0);
  const int64_t stride = attended_stride(a, gpu_.act), width = int64_t{a.num_heads} * a.value_dim();
  const size_t bytes = static_cast<size_t>((chunk.rows - 1) * stride + width) * bytes_of(gpu_.act);
  gpu_.device.host_writes(buffers_.attended, bytes);
  place_qkv(context_, pass, layer, rows);
  attend(context_, pass, layer, rows, 0, static_cast<int64_t>(chunk.sequences.size()));
  gpu_.device.copy_to_device(exchange_, b.handed_attended, buffers_.attended, bytes);
  gpu_.device.record(back_, exchange_);
  gpu_.device.wait(gpu_.stream, back_);
  gpu_.device.kernels().move(gpu_.device, gpu_.stream,
                             {.x = b.handed_attended,
                              .x_stride = stride,
                              .picked = b.handed_rows + chunk.first,
                              .y = b.attended,
                              .y_stride = width,
                              .rows = chunk.rows,
                              .width = width,
                              .all_rows = wave.size(),
                              .scatter = true,
                              .dtype = gpu_.act});
}

// The pages that the sequence's tokens see, and those that they are added to.
void CpuShare::claim_pages(const PassSequence& s, size_t layer) {
  const AttentionSpec& a = gpu_.spec.layers[layer].attention;
  const size_t bytes = layer_page_bytes(a, context_.kv.dtype);
  const int64_t last = (s.first_position + s.num_tokens - 1) / kPageTokens;
  for (int64_t p = first_seen(s.first_position, a.window, a.chunk) / kPageTokens; p <= last; ++p) {
    const auto id = static_cast<size_t>(s.page_table[context_.kv.page_index(layer, p * kPageTokens)]);
    const std::byte* page = context_.kv_pages + id * context_.kv.page_bytes + context_.kv.layer_offset[layer];
    p < s.first_position / kPageTokens ? gpu_.device.host_reads(page, bytes) : gpu_.device.host_writes(page, bytes);
  }
}

void CpuShare::take_experts(size_t layer, const int32_t* begin, std::span<const uint8_t> on_cpu, int64_t num_tokens) {
  parts_.clear();
  first_.clear();
  const int64_t hidden = gpu_.spec.hidden;
  int64_t rows = 0;
  for (size_t e = 0; e < on_cpu.size(); ++e) {
    if (on_cpu[e] == 0) continue;
    const int64_t count = begin[e + 1] - begin[e];
    gpu_gather_normed(gpu_, num_tokens, layer, {begin[e], begin[e + 1]}, gpu_at(gpu_.buffers.handed_normed, gpu_.act, rows * hidden));
    parts_.push_back({.mlp = &context_.weights.layers[layer].experts[e],
                      .first = rows,
                      .count = count,
                      .at = rows,
                      .y = act_at(context_, buffers_.expert_out, rows * hidden)});
    first_.push_back(begin[e]);
    rows += count;
  }
  if (rows == 0) return;
  gpu_.device.record(ready_, gpu_.stream);
  gpu_.device.wait(exchange_, ready_);
  fetched_.clear();
  fetch(buffers_.normed, gpu_.buffers.handed_normed, static_cast<size_t>(rows * hidden) * bytes_of(gpu_.act));
  gpu_.device.record(there_, exchange_);
}

void CpuShare::give_experts() {
  if (parts_.empty()) return;
  const size_t row_bytes = static_cast<size_t>(gpu_.spec.hidden) * bytes_of(gpu_.act);
  await_rows();
  gpu_.device.host_writes(buffers_.expert_out, static_cast<size_t>(parts_.back().at + parts_.back().count) * row_bytes);
  run_experts(context_, parts_);
  for (size_t i = 0; i < parts_.size(); ++i) {
    gpu_.device.copy_to_device(exchange_, gpu_at(gpu_.buffers.expert_out, gpu_.act, first_[i] * gpu_.spec.hidden), parts_[i].y,
                               static_cast<size_t>(parts_[i].count) * row_bytes);
  }
  gpu_.device.record(back_, exchange_);
  gpu_.device.wait(gpu_.stream, back_);
}

}  // namespace moegen
