#include "checkpoint/weight_store.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <exception>
#include <mutex>

#include "base/checked.h"
#include "base/clock.h"
#include "checkpoint/arrange.h"

namespace moegen {
namespace {

constexpr uint64_t kAlignment = 64;
constexpr std::chrono::seconds kTellInterval{10};
constexpr uint64_t kPieceBytes = 16 << 20;  // of one read: large enough for the device's full rate

TensorView view_of(const TensorSpec& spec, const void* data, DType dtype) {
  return {.data = data, .dtype = dtype, .rows = spec.shape.size() > 1 ? spec.shape[0] : 1, .cols = spec.shape.back()};
}

struct Piece {
  const TensorInfo* tensor;
  uint64_t offset;  // within the tensor
  std::byte* to;
};

// splitmix64: a counter in, 64 well mixed bits out.
uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

constexpr float kDummyScale = 0x1p-12F;  // of what is quantised: the largest value is 0.07

// Of codes from -8 to 7, or from -128 to 127: a deviation of 0.018.
float dummy_scale(const std::vector<TensorSpec>& table, size_t i) { return table[i - 1].code_bits == 8 ? 0x1p-12F : 0x1p-8F; }

// Of a power of two that is a normal number there.
f16 to_f16_power(float x) { return {static_cast<uint16_t>((std::bit_cast<uint32_t>(x) >> 13) - (112U << 10))}; }

constexpr f8_e8m0 kDummyBlockScale{120};  // 2^-7: with any code as likely as any other the deviation is 0.023

// The sum of four 16-bit uniforms is close enough to a normal variable.
float dummy_value(uint64_t index) {
  const uint64_t bits = mix(index);
  const auto sum = static_cast<float>((bits & 0xffffU) + ((bits >> 16) & 0xffffU) + ((bits >> 32) & 0xffffU) + (bits >> 48));
  return (sum / 65535.0F - 2.0F) * 0.02F * 1.7320508F;
}

// Of a tensor in f8_e4m3.
uint64_t scale_count(const TensorSpec& spec) {
  return static_cast<uint64_t>(ceil_div(spec.shape[0], spec.block_rows)) * static_cast<uint64_t>(ceil_div(spec.shape[1], spec.group));
}

uint64_t scale_bytes(const TensorSpec& spec) { return WeightStore::bytes_of_tensor(scale_count(spec) * sizeof(float)); }

// Absorbed attention wants kv_b turned (model/latent_attention.h), which groups with a scale do not survive: it becomes what activations are.
bool is_expanded(const TensorSpec& spec, DType dtype) {
  return spec.role == Role::kv_b && spec.part == Part::values && (dtype == DType::f8_e4m3 || dtype == DType::i4 || dtype == DType::u8);
}

TensorView planned_view(const TensorSpec& spec, DType dtype, DType act) {
  TensorView view = view_of(spec, nullptr, is_expanded(spec, dtype) ? act : dtype);
  if (view.dtype != DType::f8_e4m3) return view;
  view.block_rows = spec.block_rows;
  view.group = spec.group;
  return view;
}

uint64_t room_for(const TensorSpec& spec, DType dtype, DType act, uint64_t file_bytes) {
  if (is_expanded(spec, dtype)) return bytes_of(act, elements_of(spec));
  return std::max(file_bytes, bytes_of(dtype, elements_of(spec)));
}

float plain_value(const void* data, DType dtype, int64_t i) {
  if (dtype == DType::f32) return static_cast<const float*>(data)[i];
  return dtype == DType::f16 ? to_float(static_cast<const f16*>(data)[i]) : to_float(static_cast<const bf16*>(data)[i]);
}

// Element i of a matrix whose codes lie apart.
float coded_value(const TensorView& w, const std::vector<std::byte>& codes, int64_t i) {
  const int64_t row = i / w.cols, group = i % w.cols / w.group;
  if (w.dtype == DType::f8_e4m3) {
    const float scale = static_cast<const float*>(w.scales)[row / w.block_rows * ceil_div(w.cols, w.group) + group];
    return to_float(std::bit_cast<f8_e4m3>(codes[static_cast<size_t>(i)])) * scale;
  }
  const int64_t at = row * (w.cols / w.group) + group;
  const bool half = w.dtype == DType::i4;
  const auto byte = std::to_integer<int>(codes[static_cast<size_t>(half ? i / 2 : i)]);
  const int code = half ? byte >> (i % 2 * 4) & 15 : byte;
  const int zero = w.zeros != nullptr ? w.zeros[at] : half ? 8 : 128;
  return static_cast<float>(code - zero) * plain_value(w.scales, w.scale_dtype, at);
}

// What `w` has as codes, at the begin of the room of its values.
void expand_in_place(TensorView& w, DType act) {
  const auto* data = static_cast<const std::byte*>(w.data);
  const std::vector<std::byte> codes(data, data + bytes_of(w.dtype, static_cast<uint64_t>(w.rows * w.cols)));
  void* out = const_cast<void*>(w.data);
  for (int64_t i = 0; i < w.rows * w.cols; ++i) {
    const float x = coded_value(w, codes, i);
    act == DType::f32 ? void(static_cast<float*>(out)[i] = x) : void(static_cast<bf16*>(out)[i] = to_bf16(x));
  }
  w.dtype = act;
  w.scales = nullptr;
}

struct Scales {
  DType dtype;  // in the file
  float* room;
  uint64_t count;
  bool one;  // it has one for all
};

// Widens what lies in the upper half of the room for its floats.
template <typename Half>
void widen_in_place(float* room, uint64_t count) {
  const auto* halves = reinterpret_cast<const Half*>(room) + count;
  for (uint64_t i = 0; i < count; ++i) room[i] = to_float(halves[i]);
}

// What lies otherwise in its room, through a copy of one tensor after the other.
void arrange_all(const Binding& binding, const std::vector<TensorView>& views, ThreadPool& pool) {
  std::vector<std::byte> copy;
  for (size_t i = 0; i < views.size(); ++i) {
    if (views[i].data == nullptr) continue;
    auto* data = static_cast<std::byte*>(const_cast<void*>(views[i].data));
    Arrangement op = arrangement_of(binding.table[i], views[i].dtype);
    if (op.form == Form::rows) continue;
    op.from = op.to = data;
    if (!is_in_place(op.form)) {
      copy.assign(data, data + binding.tensors[i]->bytes);
      op.from = copy.data();
    }
    constexpr int64_t kRows = 64;
    pool.parallel_for(ceil_div(op.rows, kRows), [&](int64_t block, int) { arrange(op, block * kRows, std::min(op.rows, (block + 1) * kRows)); });
  }
}

// Of what is expanded, which has its scales and zero points behind it in the table.
void expand_all(const Binding& binding, DType act, std::vector<TensorView>& views, ThreadPool& pool) {
  pool.parallel_for(static_cast<int64_t>(views.size()), [&](int64_t i, int) {
    const auto idx = static_cast<size_t>(i);
    TensorView& view = views[idx];
    if (view.data == nullptr || !is_expanded(binding.table[idx], view.dtype)) return;
    for (size_t j = idx + 1; j < views.size() && binding.table[j].part != Part::values; ++j) {
      if (binding.table[j].part == Part::zeros) {
        view.zeros = static_cast<const uint8_t*>(views[j].data);
      } else {
        view.scales = views[j].data;
        view.scale_dtype = views[j].dtype;
        view.group = view.cols / views[j].cols;
      }
    }
    expand_in_place(view, act);
  });
}

uint64_t kept_bytes(const Binding& binding, DType act, const std::vector<bool>& left_out) {
  uint64_t sum = 0;
  for (size_t i = 0; i < left_out.size(); ++i)
    sum += left_out[i] ? WeightStore::bytes_of_tensor(room_for(binding.table[i], binding.tensors[i]->dtype, act, binding.tensors[i]->bytes)) : 0;
  return WeightStore::bytes_needed(binding, act) - sum;
}

bool is_norm(Role role) {
  constexpr Role kNorms[] = {Role::final_norm,   Role::attention_norm,     Role::mlp_norm,        Role::q_norm,          Role::k_norm,
                             Role::q_a_norm,     Role::kv_a_norm,          Role::delta_norm,      Role::router_norm,     Role::expert_norm,
                             Role::mlp_out_norm, Role::attention_out_norm, Role::expert_out_norm, Role::shared_out_norm, Role::layer_scale};
  return std::find(std::begin(kNorms), std::end(kNorms), role) != std::end(kNorms);
}

}  // namespace

uint64_t WeightStore::bytes_of_tensor(uint64_t bytes) { return round_up(bytes, kAlignment); }

uint64_t WeightStore::bytes_needed(const Binding& binding, DType act) {
  uint64_t sum = 0;
  for (size_t i = 0; i < binding.table.size(); ++i) {
    const std::optional<TensorInfo>& tensor = binding.tensors[i];
    if (tensor) sum += bytes_of_tensor(room_for(binding.table[i], tensor->dtype, act, tensor->bytes));
    if (binding.scales[i] != nullptr) sum += scale_bytes(binding.table[i]);
  }
  return sum;
}

uint64_t WeightStore::bytes_needed(const std::vector<TensorSpec>& table, DType dtype, DType act) {
  uint64_t sum = 0;
  for (const TensorSpec& spec : table) {
    const DType stored = expected_dtype(spec, dtype);
    sum += bytes_of_tensor(room_for(spec, stored, act, bytes_of(stored, elements_of(spec))));
    if (stored == DType::f8_e4m3) sum += scale_bytes(spec);
  }
  return sum;
}

std::vector<TensorView> WeightStore::planned_views(const Binding& binding, DType act) {
  std::vector<TensorView> views;
  for (size_t i = 0; i < binding.table.size(); ++i) views.push_back(planned_view(binding.table[i], binding.tensors[i]->dtype, act));
  return views;
}

std::vector<TensorView> WeightStore::planned_views(const std::vector<TensorSpec>& table, DType dtype, DType act) {
  std::vector<TensorView> views;
  for (const TensorSpec& spec : table) views.push_back(planned_view(spec, expected_dtype(spec, dtype), act));
  return views;
}

WeightStore::WeightStore(const Binding& binding, DType act, const Checkpoint& checkpoint, ThreadPool& pool, const std::vector<bool>& left_out,
                         const Loading& loading)
    : memory_(kept_bytes(binding, act, left_out), "weights") {
  std::byte* at = memory_.data();
  std::vector<Piece> pieces;
  std::vector<Scales> scales;
  const auto place = [&](const TensorInfo* tensor, std::byte* to) {
    for (uint64_t offset = 0; offset < tensor->bytes; offset += kPieceBytes) pieces.push_back({tensor, offset, to + offset});
  };
  for (size_t i = 0; i < binding.table.size(); ++i) {
    const TensorInfo* tensor = &*binding.tensors[i];
    const bool stays = left_out.empty() || !left_out[i];
    TensorView& view = views_.emplace_back(view_of(binding.table[i], stays ? at : nullptr, tensor->dtype));
    if (stays) {
      const uint64_t room = room_for(binding.table[i], tensor->dtype, act, tensor->bytes);
      place(tensor, at);
      at += bytes_of_tensor(room);
    }
    if (const TensorInfo* own = binding.scales[i]; own != nullptr) {
      const uint64_t count = scale_count(binding.table[i]);
      scales.push_back({own->dtype, reinterpret_cast<float*>(at), count, own->bytes == bytes_of(own->dtype)});
      view.scales = scales.back().room;
      view.block_rows = binding.table[i].block_rows;
      view.group = binding.table[i].group;
      place(own, scales.back().one ? at : at + count * sizeof(float) - own->bytes);
      at += scale_bytes(binding.table[i]);
    }
  }
  std::mutex mutex;
  std::exception_ptr failure;  // of one piece; tasks of the pool must not throw
  uint64_t done = 0;
  auto told = Clock::now();
  pool.parallel_for(static_cast<int64_t>(pieces.size()), [&](int64_t i, int) {
    const Piece& piece = pieces[static_cast<size_t>(i)];
    try {
      const uint64_t bytes = std::min(kPieceBytes, piece.tensor->bytes - piece.offset);
      checkpoint.files()[piece.tensor->file_idx].read(piece.tensor->offset + piece.offset, piece.to, bytes);
      const std::lock_guard lock(mutex);
      done += bytes;
      if (!loading || Clock::now() - told < kTellInterval) return;
      told = Clock::now();
      loading(done, memory_.size());
    } catch (...) {
      const std::lock_guard lock(mutex);
      failure = std::current_exception();
    }
  });
  if (failure) std::rethrow_exception(failure);
  for (const Scales& s : scales) {
    if (s.one) std::fill_n(s.room, s.count, plain_value(s.room, s.dtype, 0));
    if (!s.one && s.dtype == DType::bf16) widen_in_place<bf16>(s.room, s.count);
    if (!s.one && s.dtype == DType::f16) widen_in_place<f16>(s.room, s.count);
  }
  arrange_all(binding, views_, pool);
  expand_all(binding, act, views_, pool);
}

WeightStore::WeightStore(const std::vector<TensorSpec>& table, DType dtype, DType act, ThreadPool& pool)
    : memory_(bytes_needed(table, dtype, act), "weights") {
  std::byte* at = memory_.data();
  for (size_t i = 0; i < table.size(); ++i) {
    const DType expected = expected_dtype(table[i], dtype);
    const DType stored = is_expanded(table[i], expected) ? act : expected;
    TensorView& view = views_.emplace_back(view_of(table[i], at, stored));
    const auto count = static_cast<int64_t>(elements_of(table[i]));
    constexpr int64_t kBlock = 1 << 16;
    pool.parallel_for(ceil_div(count, kBlock), [&](int64_t block, int) {
      for (int64_t j = block * kBlock; j < std::min(count, (block + 1) * kBlock); ++j) {
        if (stored == DType::f4) {
          if (j % 2 == 0) reinterpret_cast<f4_pair*>(at)[j / 2].bits = static_cast<uint8_t>(mix(i << 40 | static_cast<uint64_t>(j)));
          continue;
        }
        if (stored == DType::i4) {
          if (j % 2 == 0) reinterpret_cast<i4_pair*>(at)[j / 2].bits = static_cast<uint8_t>(mix(i << 40 | static_cast<uint64_t>(j)));
          continue;
        }
        if (stored == DType::u8) {
          const int half = 1 << (table[i].code_bits - 1);
          const auto any = static_cast<uint8_t>(mix(i << 40 | static_cast<uint64_t>(j)));
          reinterpret_cast<uint8_t*>(at)[j] = table[i].part == Part::zeros ? static_cast<uint8_t>(half) : any;
          continue;
        }
        if (stored == DType::f8_e8m0) {
          reinterpret_cast<f8_e8m0*>(at)[j] = kDummyBlockScale;
          continue;
        }
        const float x = is_norm(table[i].role)          ? 1.0F
                        : table[i].part == Part::scales ? dummy_scale(table, i)
                                                        : dummy_value(i << 40 | static_cast<uint64_t>(j));
        if (stored == DType::f32) {
          reinterpret_cast<float*>(at)[j] = x;
        } else if (stored == DType::f16) {
          reinterpret_cast<f16*>(at)[j] = to_f16_power(x);
        } else if (stored == DType::f8_e4m3) {
          reinterpret_cast<f8_e4m3*>(at)[j] = to_f8_e4m3(x / kDummyScale);
        } else {
          reinterpret_cast<bf16*>(at)[j] = to_bf16(x);
        }
      }
    });
    at += bytes_of_tensor(bytes_of(stored, elements_of(table[i])));
    if (stored != DType::f8_e4m3) continue;
    view.scales = reinterpret_cast<const float*>(at);
    view.block_rows = table[i].block_rows;
    view.group = table[i].group;
    std::fill_n(reinterpret_cast<float*>(at), scale_count(table[i]), kDummyScale);
    at += scale_bytes(table[i]);
  }
}

}  // namespace moegen
