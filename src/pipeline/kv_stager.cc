#include "pipeline/kv_stager.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/checked.h"
#include "base/log.h"
#include "base/size.h"

namespace moegen {

namespace {

// Pinning touches what is not there yet, with one thread: all of them are faster.
const MappedMemory& touched(const MappedMemory& memory, ThreadPool& pool) {
  constexpr size_t kBlock = size_t{8} << 20, kPage = 4096;
  pool.parallel_for(static_cast<int64_t>(ceil_div(memory.size(), kBlock)), [&](int64_t i, int) {
    const size_t begin = static_cast<size_t>(i) * kBlock;
    for (size_t at = begin; at < std::min(memory.size(), begin + kBlock); at += kPage) *(memory.data() + at) = std::byte{};
  });
  return memory;
}

}  // namespace

KvStager::KvStager(Device& device, const Stream& compute, const ModelSpec& spec, const Plan& plan, const GpuBuffers& buffers, ThreadPool& pool)
    : device_(device),
      compute_(compute),
      spec_(spec),
      kv_(plan.kv),
      sizes_(plan.sizes),
      plan_(*plan.device),
      buffers_(buffers),
      pages_(static_cast<size_t>(plan.kv_pages) * plan.kv.page_bytes, "KV pages"),
      pinned_(device, touched(pages_, pool).data(), pages_.size()),
      to_device_(device.new_stream(true)),
      to_host_(device.new_stream()),
      slots_(device.new_buffer(2 * static_cast<size_t>(plan_.stage_slots) * plan_.stage_slot_bytes)),
      host_rows_(device.new_host_buffer(buffers.reaches.size() * static_cast<size_t>(sizes_.pass_tokens) * sizeof(GpuRow))),
      host_tiles_(device.new_host_buffer(buffers.reaches.size() * static_cast<size_t>(sizes_.pass_tokens) * sizeof(GpuTile))),
      uploaded_(device.new_event()),
      staged_{device.new_event(), device.new_event()},
      attended_{device.new_event(), device.new_event()},
      returned_{device.new_event(), device.new_event()},
      all_returned_(device.new_event()),
      cuts_(buffers.reaches.size()) {
  for (const LayerSpec& layer : spec.layers) layer_reach_.push_back(reach_of(buffers.reaches, layer.attention));
  if (pinned_.pinned_bytes() < pages_.size())
    log_line("{} of KV pages could not be pinned: their copies are slower", format_bytes(pages_.size() - pinned_.pinned_bytes()));
}

KvStager::~KvStager() {
  for (const Stream* stream : {&std::as_const(to_device_), &compute_, &std::as_const(to_host_)}) device_.settle(*stream);
}

void KvStager::begin_pass(const Pass& pass) {
  device_.synchronize(uploaded_);
  steps_.clear();
  staged_steps_ = done_steps_ = 0;
  for (size_t reach = 0; reach < cuts_.size(); ++reach) {
    cut(pass, reach);
    upload(reach);
  }
  device_.record(uploaded_, compute_);
  for (size_t layer = 0; layer < spec_.layers.size(); ++layer) {
    if (layer_bytes(layer) == 0) continue;  // linear attention
    for (size_t b = 0; b < cut_of(layer).batches.size(); ++b) steps_.push_back({layer, b});
  }
  device_.wait(to_device_, all_returned_);
}

void KvStager::cut(const Pass& pass, size_t reach) {
  Cut& cut = cuts_[reach];
  cut.parts.clear();
  cut.batches.clear();
  cut.tiles.clear();
  cut.rows.clear();
  const auto num_tokens = static_cast<int64_t>(pass.tokens.size());
  size_t s = 0;
  for (int64_t wave = 0; wave * sizes_.wave_tokens < num_tokens; ++wave) {
    const int64_t begin = wave * sizes_.wave_tokens, end = std::min(num_tokens, begin + sizes_.wave_tokens);
    for (; s < pass.sequences.size() && pass.sequences[s].first_row < end; ++s) {
      const PassSequence& sequence = pass.sequences[s];
      const int64_t last = sequence.first_row + sequence.num_tokens;
      const int64_t here = std::max<int64_t>(begin, sequence.first_row), here_end = std::min(end, last);
      const int64_t staged_end = std::clamp(last - cpu_tokens(sequence), here, here_end);
      if (here < staged_end) add_part(cut, buffers_.reaches[reach], sequence, wave, here, staged_end);
      skip_rows(cut, here_end - staged_end);
      if (last > end) break;  // goes on in the next wave
    }
  }
}

// Rows [begin, end) of a sequence: to the last micro-batch, or a new one.
void KvStager::add_part(Cut& cut, const KvGroup& reach, const PassSequence& sequence, int64_t wave, int64_t begin, int64_t end) {
  const int64_t position = sequence.first_position + begin - sequence.first_row;
  const int64_t first = reach.first_seen(position);
  Part part{&sequence, static_cast<int32_t>(begin), static_cast<int32_t>(end - begin), position, first / kPageTokens, 0};
  const int64_t pages = part.end_page() - part.first_page;
  MOEGEN_CHECK(pages <= plan_.stage_slots);
  bool fits = !cut.batches.empty() && cut.batches.back().wave == wave;
  if (fits) {
    const MicroBatch& batch = cut.batches.back();
    const Part& before = cut.parts.back();
    part.slot = before.slot + before.end_page() - before.first_page;
    fits = part.slot + pages <= plan_.stage_slots && static_cast<int64_t>(batch.last_part - batch.first_part) < sizes_.attention_micro_batch;
  }
  if (!fits) {
    part.slot = 0;
    const auto tile = static_cast<int64_t>(cut.tiles.size());
    cut.batches.push_back({wave, cut.parts.size(), cut.parts.size(), {begin, begin}, tile, tile});
  }
  cut.parts.push_back(part);
  add_rows(cut, part);
  MicroBatch& batch = cut.batches.back();
  ++batch.last_part;
  batch.rows.end = end;
  batch.last_tile = static_cast<int64_t>(cut.tiles.size());
  batch.reads_own = batch.reads_own || begin > sequence.first_row;
}

void KvStager::skip_rows(Cut& cut, int64_t count) { cut.rows.resize(cut.rows.size() + static_cast<size_t>(count), GpuRow{.position = -1}); }

void KvStager::add_rows(Cut& cut, const Part& part) const {
  const auto slot = static_cast<int32_t>(part.slot - part.first_page);
  const auto end = static_cast<int32_t>(part.position + part.count);
  MicroBatch& batch = cut.batches.back();
  const auto layer = std::find_if(spec_.layers.begin(), spec_.layers.end(), [](const LayerSpec& l) { return !l.attention.is_linear(); });
  const AttentionSpec& a = layer != spec_.layers.end() ? layer->attention : spec_.layers.front().attention;
  const int64_t queries = std::max<int64_t>(1, kGpuTileRows * a.num_kv_heads / a.num_heads);
  for (int32_t i = 0; i < part.count; ++i) cut.rows.push_back({static_cast<int32_t>(part.position) + i, slot, end});
  for (int32_t i = 0; i < part.count; i += static_cast<int32_t>(queries)) {
    const auto count = static_cast<int32_t>(std::min<int64_t>(queries, part.count - i));
    cut.tiles.push_back({part.first_row - static_cast<int32_t>(batch.rows.begin) + i, count, static_cast<int32_t>(part.position) + i, slot});
    batch.max_count = std::max<int64_t>(batch.max_count, count);
  }
}

void KvStager::upload(size_t reach) {
  const Cut& cut = cuts_[reach];
  auto* rows = static_cast<GpuRow*>(host_rows_.handle()) + reach * static_cast<size_t>(sizes_.pass_tokens);
  auto* tiles = static_cast<GpuTile*>(host_tiles_.handle()) + reach * static_cast<size_t>(sizes_.pass_tokens);
  const size_t row_bytes = cut.rows.size() * sizeof(GpuRow), tile_bytes = cut.tiles.size() * sizeof(GpuTile);
  device_.host_writes(rows, row_bytes);
  device_.host_writes(tiles, tile_bytes);
  std::memcpy(rows, cut.rows.data(), row_bytes);
  std::memcpy(tiles, cut.tiles.data(), tile_bytes);
  device_.copy_to_device(compute_, buffers_.rows[reach], rows, row_bytes);
  device_.copy_to_device(compute_, buffers_.tiles[reach], tiles, tile_bytes);
}

int64_t KvStager::micro_batches(size_t layer, int64_t wave) const {
  if (layer_bytes(layer) == 0) return 0;
  const auto& batches = cut_of(layer).batches;
  return std::count_if(batches.begin(), batches.end(), [&](const MicroBatch& b) { return b.wave == wave; });
}

std::byte* KvStager::page(size_t layer, const Part& part, int64_t page_idx) const {
  const auto id = static_cast<size_t>(part.sequence->page_table[kv_.page_index(layer, page_idx * kPageTokens)]);
  return pages_.data() + id * kv_.page_bytes + kv_.layer_offset[layer];
}

size_t KvStager::layer_bytes(size_t layer) const { return layer_page_bytes(spec_.layers[layer].attention, kv_.dtype); }

std::byte* KvStager::half(size_t step) const {
  return static_cast<std::byte*>(slots_.handle()) + step % 2 * static_cast<size_t>(plan_.stage_slots) * plan_.stage_slot_bytes;
}

// Pages with tokens of earlier passes, or of an earlier wave. The half is free when what was added to it is back.
void KvStager::stage(size_t step) {
  const auto& [layer, b] = steps_[step];
  const Cut& cut = cut_of(layer);
  const MicroBatch& batch = cut.batches[b];
  const size_t bytes = layer_bytes(layer);
  device_.wait(to_device_, returned_[step % 2]);
  if (batch.reads_own) device_.wait(to_device_, returned_[(step + 1) % 2]);
  copies_.clear();
  for (size_t i = batch.first_part; i < batch.last_part; ++i) {
    const Part& part = cut.parts[i];
    for (int64_t p = part.first_page; p < ceil_div<int64_t>(part.position, kPageTokens); ++p) {
      std::byte* slot = half(step) + static_cast<size_t>(part.slot + p - part.first_page) * bytes;
      copies_.push_back({slot, page(layer, part, p), bytes});
    }
  }
  staged_bytes_ += copies_.size() * bytes;
  device_.copy_to_device(to_device_, copies_);
  device_.record(staged_[step % 2], to_device_);
}

GpuMicroBatch KvStager::begin() {
  const size_t step = done_steps_;
  if (staged_steps_ == step) stage(staged_steps_++);
  device_.wait(compute_, staged_[step % 2]);
  const auto& [layer, b] = steps_[step];
  const MicroBatch& batch = cut_of(layer).batches[b];
  const size_t reach = layer_reach_[layer];
  return {.rows = batch.rows,
          .row = buffers_.rows[reach] + batch.rows.begin,
          .tiles = buffers_.tiles[reach] + batch.first_tile,
          .num_tiles = batch.last_tile - batch.first_tile,
          .max_count = batch.max_count,
          .slots = half(step),
          .slot_bytes = layer_bytes(layer),
          .head_bytes = kv_.head_bytes[layer],
          .num_slots = plan_.stage_slots,
          .kv_dtype = kv_.dtype};
}

void KvStager::end() {
  const size_t step = done_steps_++;
  const auto& [layer, b] = steps_[step];
  const Cut& cut = cut_of(layer);
  const MicroBatch& batch = cut.batches[b];
  const size_t bytes = layer_bytes(layer);
  device_.record(attended_[step % 2], compute_);
  device_.wait(to_host_, attended_[step % 2]);
  copies_.clear();
  for (size_t i = batch.first_part; i < batch.last_part; ++i) {
    const Part& part = cut.parts[i];
    for (int64_t p = part.position / kPageTokens; p < part.end_page(); ++p) {
      const std::byte* slot = half(step) + static_cast<size_t>(part.slot + p - part.first_page) * bytes;
      copies_.push_back({page(layer, part, p), slot, bytes});
    }
  }
  device_.copy_to_host(to_host_, copies_);
  device_.record(returned_[step % 2], to_host_);
  if (staged_steps_ < steps_.size()) stage(staged_steps_++);
}

void KvStager::await_returned() {
  device_.record(all_returned_, to_host_);
  device_.synchronize(all_returned_);
}

// What was staged has been seen when what attention added behind it is back.
std::span<std::byte> KvStager::page(int32_t id) {
  await_returned();
  std::byte* data = pages_.data() + static_cast<size_t>(id) * kv_.page_bytes;
  device_.host_reads(data, kv_.page_bytes);
  device_.host_writes(data, kv_.page_bytes);
  return {data, kv_.page_bytes};
}

void KvStager::end_pass() {
  MOEGEN_CHECK(done_steps_ == steps_.size());
  device_.record(all_returned_, to_host_);
}

}  // namespace moegen
