// Linear attention of a pass on a GPU, which the CPU has: rows as projected come in chunks, one while another is computed.
#include <algorithm>

#include "model/gpu_linear.h"
#include "model/linear.h"
#include "pipeline/cpu_share.h"

namespace moegen {

std::span<std::byte> CpuShare::state(int32_t number) {
  const size_t bytes = context_.kv.state_bytes();
  return {states_.data() + static_cast<size_t>(number) * bytes, bytes};
}

// Their sequences have rows of the half of the buffers that the chunk has.
void CpuShare::add_linear_chunks(const Pass& pass) {
  linear_chunks_.clear();
  for (const PassSequence& s : pass.sequences) add_tokens(linear_chunks_, gpu_.sizes.cpu_linear_rows / 2, s, s.first_row, s.first_row + s.num_tokens);
  for (size_t i = 0; i < linear_chunks_.size(); ++i) {
    for (PassSequence& s : linear_chunks_[i].sequences) s.first_row += static_cast<int32_t>(linear_row(i));
  }
}

size_t CpuShare::first_linear(Range wave) const {
  const auto first = std::find_if(linear_chunks_.begin(), linear_chunks_.end(), [&](const Chunk& c) { return c.wave_begin == wave.begin; });
  return static_cast<size_t>(first - linear_chunks_.begin());
}

int64_t CpuShare::linear_row(size_t chunk) const { return chunk % 2 == 0 ? 0 : gpu_.sizes.cpu_linear_rows / 2; }

void CpuShare::take_linear(size_t layer, Range wave) {
  gpu_.device.record(ready_, gpu_.stream);
  gpu_.device.wait(exchange_, ready_);
  fetch_linear(first_linear(wave), layer, wave);
}

void CpuShare::give_linear(size_t layer, Range wave) {
  for (size_t i = first_linear(wave); i < linear_chunks_.size() && linear_chunks_[i].wave_begin == wave.begin; ++i) {
    if (i + 1 < linear_chunks_.size() && linear_chunks_[i + 1].wave_begin == wave.begin) fetch_linear(i + 1, layer, wave);
    run_linear(i, layer, wave);
  }
  gpu_.device.record(back_, exchange_);
  gpu_.device.wait(gpu_.stream, back_);
}

void CpuShare::fetch_linear(size_t chunk, size_t layer, Range wave) {
  const Chunk& c = linear_chunks_[chunk];
  const int64_t width = gpu_.spec.layers[layer].attention.delta.projected_width();
  gpu_.device.copy_to_host(exchange_, buffers_.qkv + linear_row(chunk) * width, gpu_.buffers.qkv + (c.first - wave.begin) * width,
                           static_cast<size_t>(c.rows * width) * sizeof(float));
  gpu_.device.record(linear_there_[chunk % 2], exchange_);
}

// What was in this half of `attended` has gone back: that copy lies before the one which is waited for.
void CpuShare::run_linear(size_t chunk, size_t layer, Range wave) {
  const Chunk& c = linear_chunks_[chunk];
  const DeltaSpec& d = gpu_.spec.layers[layer].attention.delta;
  const int64_t row = linear_row(chunk), width = d.value_width();
  const size_t bytes = static_cast<size_t>(c.rows * width) * bytes_of(gpu_.act);
  void* attended = act_at(context_, buffers_.attended, row * width);
  gpu_.device.synchronize(linear_there_[chunk % 2]);
  gpu_.device.host_reads(buffers_.qkv + row * d.projected_width(), static_cast<size_t>(c.rows * d.projected_width()) * sizeof(float));
  gpu_.device.host_writes(attended, bytes);
  laid_out_ = nullptr;
  for (const PassSequence& s : c.sequences) {
    for (int32_t t = 0; t < s.num_tokens; ++t) buffers_.positions[s.first_row + t] = s.first_position + t;
  }
  const Pass pass{.tokens = {}, .sequences = c.sequences, .logit_rows = {}};
  attend(context_, pass, layer, {.rows = {0, sizes_.pass_tokens}, .blocks = {}}, 0, static_cast<int64_t>(c.sequences.size()));
  gpu_.device.copy_to_device(exchange_, gpu_at(gpu_.buffers.attended, gpu_.act, (c.first - wave.begin) * width), attended, bytes);
}

}  // namespace moegen
