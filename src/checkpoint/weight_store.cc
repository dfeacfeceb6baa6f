#include "checkpoint/weight_store.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <mutex>

#include "base/checked.h"
#include "checkpoint/turn.h"

namespace moegen {
namespace {

constexpr uint64_t kAlignment = 64;
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

constexpr float kDummyGroupScale = 0x1p-8F;  // of int4: a deviation of 0.018
constexpr f8_e8m0 kDummyBlockScale{120};     // 2^-7: with any code as likely as any other the deviation is 0.023

// The sum of four 16-bit uniforms is close enough to a normal variable.
float dummy_value(uint64_t index) {
  const uint64_t bits = mix(index);
  const auto sum = static_cast<float>((bits & 0xffffU) + ((bits >> 16) & 0xffffU) + ((bits >> 32) & 0xffffU) + (bits >> 48));
  return (sum / 65535.0F - 2.0F) * 0.02F * 1.7320508F;
}

uint64_t scale_count(const TensorSpec& spec) {
  return static_cast<uint64_t>(ceil_div(spec.shape[0], kF8Block)) * static_cast<uint64_t>(ceil_div(spec.shape[1], kF8Block));
}

uint64_t scale_bytes(const TensorSpec& spec) { return WeightStore::bytes_of_tensor(scale_count(spec) * sizeof(float)); }

// Absorbed attention wants kv_b turned (model/latent_attention.h), which blocks of scales do not survive: it is kept in float32.
bool is_expanded(const TensorSpec& spec, DType dtype) { return dtype == DType::f8_e4m3 && spec.role == Role::kv_b; }

uint64_t room_for(const TensorSpec& spec, DType dtype, uint64_t bytes) {
  return is_expanded(spec, dtype) ? elements_of(spec) * sizeof(float) : bytes;
}

// Codes lie in the last quarter of the room.
void expand_in_place(const TensorSpec& spec, const float* scales, void* room) {
  const auto rows = spec.shape[0];
  const auto cols = spec.shape[1];
  const auto* codes = static_cast<const f8_e4m3*>(room) + 3 * rows * cols;
  auto* out = static_cast<float*>(room);
  for (int64_t r = 0; r < rows; ++r) {
    const float* scale = scales + r / kF8Block * ceil_div(cols, kF8Block);
    for (int64_t c = 0; c < cols; ++c) out[r * cols + c] = to_float(codes[r * cols + c]) * scale[c / kF8Block];
  }
}

struct Scales {
  DType dtype;  // in the file
  float* room;
  uint64_t count;
};

// Widens what lies in the upper half of the room for its floats.
template <typename Half>
void widen_in_place(float* room, uint64_t count) {
  const auto* halves = reinterpret_cast<const Half*>(room) + count;
  for (uint64_t i = 0; i < count; ++i) room[i] = to_float(halves[i]);
}

// What lies turned in its room, through a copy of one tensor after the other.
void turn_in_place(const Binding& binding, const std::vector<TensorView>& views, ThreadPool& pool) {
  std::vector<std::byte> copy;
  for (size_t i = 0; i < views.size(); ++i) {
    if (!binding.table[i].turned || views[i].data == nullptr) continue;
    auto* data = static_cast<std::byte*>(const_cast<void*>(views[i].data));
    copy.assign(data, data + binding.tensors[i]->bytes);
    const Turn op{copy.data(), data, views[i].rows, views[i].cols, bytes_of(views[i].dtype)};
    constexpr int64_t kRows = 64;
    pool.parallel_for(ceil_div(op.rows, kRows), [&](int64_t block, int) { turn(op, block * kRows, std::min(op.rows, (block + 1) * kRows)); });
  }
}

uint64_t kept_bytes(const Binding& binding, const std::vector<bool>& left_out) {
  uint64_t sum = 0;
  for (size_t i = 0; i < left_out.size(); ++i) sum += left_out[i] ? WeightStore::bytes_of_tensor(binding.tensors[i]->bytes) : 0;
  return WeightStore::bytes_needed(binding) - sum;
}

bool is_norm(Role role) {
  return role == Role::final_norm || role == Role::attention_norm || role == Role::mlp_norm || role == Role::q_norm || role == Role::k_norm ||
         role == Role::q_a_norm || role == Role::kv_a_norm || role == Role::delta_norm;
}

}  // namespace

uint64_t WeightStore::bytes_of_tensor(uint64_t bytes) { return round_up(bytes, kAlignment); }

uint64_t WeightStore::bytes_needed(const Binding& binding) {
  uint64_t sum = 0;
  for (size_t i = 0; i < binding.table.size(); ++i) {
    const std::optional<TensorInfo>& tensor = binding.tensors[i];
    if (tensor) sum += bytes_of_tensor(room_for(binding.table[i], tensor->dtype, tensor->bytes));
    if (binding.scales[i] != nullptr) sum += scale_bytes(binding.table[i]);
  }
  return sum;
}

uint64_t WeightStore::bytes_needed(const std::vector<TensorSpec>& table, DType dtype) {
  uint64_t sum = 0;
  for (const TensorSpec& spec : table) {
    const DType stored = expected_dtype(spec, dtype);
    sum += bytes_of_tensor(room_for(spec, stored, bytes_of(stored, elements_of(spec))));
    if (stored == DType::f8_e4m3) sum += scale_bytes(spec);
  }
  return sum;
}

WeightStore::WeightStore(const Binding& binding, const Checkpoint& checkpoint, ThreadPool& pool, const std::vector<bool>& left_out)
    : memory_(kept_bytes(binding, left_out), "weights") {
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
      const uint64_t room = room_for(binding.table[i], tensor->dtype, tensor->bytes);
      place(tensor, at + room - tensor->bytes);
      at += bytes_of_tensor(room);
    }
    if (const TensorInfo* own = binding.scales[i]; own != nullptr) {
      const uint64_t count = scale_count(binding.table[i]);
      scales.push_back({own->dtype, reinterpret_cast<float*>(at), count});
      view.scales = scales.back().room;
      place(own, at + count * sizeof(float) - own->bytes);
      at += scale_bytes(binding.table[i]);
    }
  }
  std::mutex mutex;
  std::exception_ptr failure;  // of one piece; tasks of the pool must not throw
  pool.parallel_for(static_cast<int64_t>(pieces.size()), [&](int64_t i, int) {
    const Piece& piece = pieces[static_cast<size_t>(i)];
    try {
      const uint64_t bytes = std::min(kPieceBytes, piece.tensor->bytes - piece.offset);
      checkpoint.files()[piece.tensor->file_idx].read(piece.tensor->offset + piece.offset, piece.to, bytes);
    } catch (...) {
      const std::lock_guard lock(mutex);
      failure = std::current_exception();
    }
  });
  if (failure) std::rethrow_exception(failure);
  for (const Scales& s : scales) {
    if (s.dtype == DType::bf16) widen_in_place<bf16>(s.room, s.count);
    if (s.dtype == DType::f16) widen_in_place<f16>(s.room, s.count);
  }
  turn_in_place(binding, views_, pool);
  pool.parallel_for(static_cast<int64_t>(views_.size()), [&](int64_t i, int) {
    const auto idx = static_cast<size_t>(i);
    TensorView& view = views_[idx];
    if (view.data == nullptr || !is_expanded(binding.table[idx], view.dtype)) return;
    expand_in_place(binding.table[idx], static_cast<const float*>(view.scales), const_cast<void*>(view.data));
    view.dtype = DType::f32;
    view.scales = nullptr;
  });
}

WeightStore::WeightStore(const std::vector<TensorSpec>& table, DType dtype, ThreadPool& pool) : memory_(bytes_needed(table, dtype), "weights") {
  std::byte* at = memory_.data();
  for (size_t i = 0; i < table.size(); ++i) {
    const DType expected = expected_dtype(table[i], dtype);
    const DType stored = is_expanded(table[i], expected) ? DType::f32 : expected;
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
        if (stored == DType::f8_e8m0) {
          reinterpret_cast<f8_e8m0*>(at)[j] = kDummyBlockScale;
          continue;
        }
        const float x = is_norm(table[i].role) ? 1.0F : is_scales(table[i].role) ? kDummyGroupScale : dummy_value(i << 40 | static_cast<uint64_t>(j));
        if (stored == DType::f32) {
          reinterpret_cast<float*>(at)[j] = x;
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
    std::fill_n(reinterpret_cast<float*>(at), scale_count(table[i]), kDummyScale);
    at += scale_bytes(table[i]);
  }
}

}  // namespace moegen
