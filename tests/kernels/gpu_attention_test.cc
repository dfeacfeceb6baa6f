#include <array>
#include <cstring>

#include "tests/kernels/gpu_kernels_test.h"

namespace moegen {
namespace {

struct Shape {
  int kv_heads, heads, head_dim, latent_dim;
  int window, chunk;
  bool sinks;
};

// Keys and values as place() stores them, against attention of the CPU's reference over the same pages.
TEST_P(GpuKernelsTest, Attention) {
  for (const DType act : {DType::f32, DType::bf16}) {
    for (const Shape& s : std::vector<Shape>{{2, 3, 16, 0, 0, 0, false},
                                             {1, 1, 128, 0, 0, 0, false},
                                             {2, 4, 32, 0, 24, 0, true},
                                             {1, 16, 64, 0, 0, 40, false},
                                             {1, 2, 256, 0, 0, 0, false},
                                             {1, 3, 512, 0, 0, 0, false},
                                             {1, 5, 40, 32, 0, 0, false},
                                             {1, 9, 576, 512, 0, 0, false}}) {
      const auto kv = [&](DType kv_dtype) {
        constexpr int64_t kLength = 300;
        const size_t head_bytes = s.latent_dim > 0 ? latent_page_bytes(kv_dtype, s.head_dim) : kv_head_bytes(kv_dtype, s.head_dim);
        const size_t page_bytes = head_bytes * static_cast<size_t>(s.kv_heads);
        constexpr int64_t kPages = kLength / kPageTokens + 1;
        std::vector<std::byte> pages(page_bytes * kPages);
        std::normal_distribution<float> normal(0, 1);
        std::vector<float> key(static_cast<size_t>(s.head_dim)), value(key);
        for (int64_t p = 0; p < kLength; ++p) {
          for (int h = 0; h < s.kv_heads; ++h) {
            std::byte* at = pages.data() + page_bytes * static_cast<size_t>(p / kPageTokens) + head_bytes * static_cast<size_t>(h);
            for (float& x : key) x = to_float(to_bf16(normal(rng)));
            for (float& x : value) x = to_float(to_bf16(normal(rng)));
            std::vector<bf16> half_key, half_value;
            for (const float x : key) half_key.push_back(to_bf16(x));
            for (const float x : value) half_value.push_back(to_bf16(x));
            if (s.latent_dim > 0) {
              kv_dtype == DType::f32 ? store_latent(key.data(), s.head_dim, p % kPageTokens, at)
                                     : store_latent(half_key.data(), s.head_dim, p % kPageTokens, at);
            } else if (kv_dtype == DType::i8) {
              store_kv<int8_t>(key.data(), value.data(), s.head_dim, p % kPageTokens, at);
            } else {
              kv_dtype == DType::f32 ? store_kv<float>(key.data(), value.data(), s.head_dim, p % kPageTokens, at)
                                     : store_kv<bf16>(half_key.data(), half_value.data(), s.head_dim, p % kPageTokens, at);
            }
          }
        }
        Attention op{.q_stride = s.kv_heads * s.heads * s.head_dim,
                     .dtype = act,
                     .kv_dtype = kv_dtype,
                     .kv_heads = s.kv_heads,
                     .heads = s.heads,
                     .head_dim = s.head_dim,
                     .latent_dim = s.latent_dim,
                     .pages = pages.data(),
                     .page_bytes = page_bytes,
                     .kv_head_bytes = head_bytes,
                     .window = s.window,
                     .chunk = s.chunk,
                     .scale = 0.2F};
        const int out_width = s.kv_heads * s.heads * op.value_dim();
        op.out_stride = out_width;
        // Generated tokens and chunks of prompts, in tiles of several sizes, of one sequence whose pages lie from slot 1 on.
        const std::vector<std::array<int32_t, 2>> chunks{{0, 1}, {3, 2}, {31, 2}, {60, 7}, {120, 40}, {299, 1}};
        std::vector<GpuTile> tiles;
        int32_t rows = 0, most = 1;
        for (const auto& [position, count] : chunks) {
          tiles.push_back({rows, count, position, 1});
          rows += count;
          most = std::max(most, count);
        }
        auto [q, qs] = random(act, static_cast<size_t>(rows * op.q_stride));
        const auto [sinks, host_sinks] = random(DType::f32, static_cast<size_t>(s.kv_heads * s.heads));
        std::vector<std::byte> staged(page_bytes);
        staged.insert(staged.end(), pages.begin(), pages.end());
        const auto want_size = static_cast<size_t>(rows * out_width);
        void* out = room(act, want_size);
        GpuAttention gpu_op{.q = q,
                            .out = out,
                            .act = act,
                            .kv_dtype = kv_dtype,
                            .rows = rows,
                            .tiles = put(tiles),
                            .num_tiles = static_cast<int64_t>(tiles.size()),
                            .max_count = most,
                            .kv_heads = s.kv_heads,
                            .heads = s.heads,
                            .head_dim = s.head_dim,
                            .latent_dim = s.latent_dim,
                            .slots = put(staged),
                            .slot_bytes = page_bytes,
                            .head_bytes = head_bytes,
                            .num_slots = kPages + 1,
                            .window = s.window,
                            .chunk = s.chunk,
                            .scale = 0.2F,
                            .sinks = s.sinks ? static_cast<const float*>(sinks) : nullptr};
        kernels.attention(*device, stream, gpu_op);
        const std::vector<float> have = get_as_float(out, act, want_size);
        // A query alone has the same bits.
        std::vector<GpuTile> singles;
        for (const GpuTile& tile : tiles) {
          for (int32_t i = 0; i < tile.count; ++i) singles.push_back({tile.row + i, 1, tile.position + i, tile.slot});
        }
        gpu_op.tiles = put(singles);
        gpu_op.num_tiles = rows;
        gpu_op.max_count = 1;
        kernels.attention(*device, stream, gpu_op);
        EXPECT_EQ(get_as_float(out, act, want_size), have);
        std::vector<int32_t> table(kPages);
        for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<int32_t>(i);
        std::vector<float> want(want_size);
        std::vector<bf16> half_q, half_out(want.size());
        for (const float x : qs) half_q.push_back(to_bf16(x));
        for (const GpuTile& tile : tiles) {
          op.q = act == DType::f32 ? static_cast<const void*>(qs.data() + tile.row * op.q_stride) : half_q.data() + tile.row * op.q_stride;
          op.out = act == DType::f32 ? static_cast<void*>(want.data() + tile.row * out_width) : half_out.data() + tile.row * out_width;
          op.num_queries = tile.count;
          op.first_position = tile.position;
          op.page_table = table.data();
          op.sinks = s.sinks ? host_sinks.data() : nullptr;
          reference_kernels().attention(op);
        }
        for (size_t i = 0; act == DType::bf16 && i < want.size(); ++i) want[i] = to_float(half_out[i]);
        expect_near(have, want, act == DType::f32 ? 1e-4 : 2 * kBf16, fmt::format("head dim {}", s.head_dim));
      };
      kv(act);
      if (s.latent_dim == 0) kv(DType::i8);
    }
  }
}

struct PlaceCase {
  GpuPlace::Norm norm;
  bool weights, rope_first;
  int rope_dim;
  bool interleaved;
  float clip;
  float tuning = 0;
  bool k_is_v = false, v_norm = false;
  bool gated = false;  // something lies behind each head of q
};

// Norm, clip and rope of q, k and v, and where they are stored: as the CPU's steps do it with its reference kernels.
TEST_P(GpuKernelsTest, Place) {
  using Norm = GpuPlace::Norm;
  constexpr int kQ = 5, kKv = 2, kDim = 16, kRows = 6;
  for (const DType kv_dtype : {DType::f32, DType::i8}) {
    for (const PlaceCase& c : std::vector<PlaceCase>{{Norm::per_head, true, false, 16, false, 0},
                                                     {Norm::none, false, false, 8, true, 0.5F},
                                                     {Norm::none, false, false, 0, false, 0},
                                                     {Norm::whole, true, false, 16, false, 0},
                                                     {Norm::per_head, true, true, 12, false, 0},
                                                     {Norm::per_head, false, true, 16, true, 0},
                                                     {Norm::none, false, false, 0, false, 0, 0.5F},
                                                     {Norm::per_head, true, false, 16, false, 0, 0, true, true},
                                                     {Norm::whole, true, false, 8, false, 0.9F, 0, false, true},
                                                     {Norm::per_head, true, false, 8, false, 0, 0, false, false, true}}) {
      const int q_step = c.gated ? 2 * kDim : kDim, stride = kQ * q_step + 2 * kKv * kDim;
      const auto [qkv, host] = random(DType::f32, static_cast<size_t>(kRows * stride));
      const auto [q_norm, q_norm_host] = random(DType::f32, kQ * kDim);
      const auto [k_norm, k_norm_host] = random(DType::f32, kKv * kDim);
      const auto [cos, cos_host] = random(DType::f32, static_cast<size_t>(kRows * c.rope_dim / 2 + 1));
      const auto [sin, sin_host] = random(DType::f32, static_cast<size_t>(kRows * c.rope_dim / 2 + 1));
      std::vector<GpuRow> rows;
      for (int i = 0; i < kRows; ++i) rows.push_back({30 + i, 1, 36});
      const size_t head_bytes = kv_head_bytes(kv_dtype, kDim), slot_bytes = kKv * head_bytes;
      void* q = room(DType::f32, kRows * kQ * kDim);
      auto* slots = put(std::vector<std::byte>(3 * slot_bytes));
      kernels.place(*device, stream,
                    {.qkv = static_cast<const float*>(qkv),
                     .stride = stride,
                     .q_step = q_step,
                     .rows = kRows,
                     .row = put(rows),
                     .cos = static_cast<const float*>(cos),
                     .sin = static_cast<const float*>(sin),
                     .q_heads = kQ,
                     .kv_heads = kKv,
                     .head_dim = kDim,
                     .rope_dim = c.rope_dim,
                     .interleaved = c.interleaved,
                     .rope_first = c.rope_first,
                     .norm = c.norm,
                     .q_norm = c.weights ? q_norm : nullptr,
                     .k_norm = c.weights ? k_norm : nullptr,
                     .norm_dtype = DType::f32,
                     .eps = 1e-6F,
                     .offset = c.weights ? 0.5F : 0,
                     .k_is_v = c.k_is_v,
                     .v_norm = c.v_norm,
                     .clip = c.clip,
                     .tuning = c.tuning,
                     .tuning_step = 8,
                     .q = q,
                     .act = DType::f32,
                     .slots = slots,
                     .slot_bytes = slot_bytes,
                     .head_bytes = head_bytes,
                     .num_slots = 3,
                     .kv_dtype = kv_dtype});
      std::vector<float> want_q;
      std::vector<std::byte> want(3 * slot_bytes);
      for (int row = 0; row < kRows; ++row) {
        std::vector<float> x(host.begin() + row * stride, host.begin() + (row + 1) * stride);
        for (int h = 1; h < kQ; ++h) std::copy_n(x.begin() + h * q_step, kDim, x.begin() + h * kDim);
        x.erase(x.begin() + kQ * kDim, x.begin() + kQ * q_step);
        float *own_q = x.data(), *k = own_q + kQ * kDim, *v = k + kKv * kDim;
        const auto norm = [&](float* heads, int count, const std::vector<float>& weights) {
          const int width = c.norm == Norm::whole ? count * kDim : kDim;
          for (int at = 0; c.norm != Norm::none && at < count * kDim; at += width)
            reference_kernels().rms_norm({.x = heads + at,
                                          .weight = c.weights ? weights.data() : nullptr,
                                          .weight_dtype = DType::f32,
                                          .y = heads + at,
                                          .width = width,
                                          .eps = 1e-6F,
                                          .offset = c.weights ? 0.5F : 0},
                                         {0, 1});
        };
        const auto norms = [&] {
          norm(own_q, kQ, q_norm_host);
          norm(k, kKv, k_norm_host);
        };
        if (c.k_is_v) std::copy(k, v, v);
        if (!c.rope_first) norms();
        for (float& one : x) one = c.clip > 0 ? std::clamp(one, -c.clip, c.clip) : one;
        for (float* head = own_q; head < v; head += kDim) {
          for (int i = 0; i < c.rope_dim / 2; ++i) {
            float& a = head[c.interleaved ? 2 * i : i];
            float& b = head[c.interleaved ? 2 * i + 1 : i + c.rope_dim / 2];
            const auto at = static_cast<size_t>(row * (c.rope_dim / 2) + i);
            const float a0 = a;
            a = a * cos_host[at] - b * sin_host[at];
            b = b * cos_host[at] + a0 * sin_host[at];
          }
        }
        if (c.rope_first) norms();
        if (c.v_norm) reference_kernels().rms_norm({.x = v, .x_stride = kDim, .y = v, .y_stride = kDim, .width = kDim, .eps = 1e-6F}, {0, kKv});
        for (float* one = own_q; one < k; ++one) *one *= 1 + c.tuning * std::log(1 + std::floor(static_cast<float>(31 + row) / 8));
        want_q.insert(want_q.end(), own_q, k);
        for (int h = 0; h < kKv; ++h) {
          const int position = 30 + row;
          std::byte* at = want.data() + static_cast<size_t>(1 + position / kPageTokens) * slot_bytes + static_cast<size_t>(h) * head_bytes;
          const float *key = k + h * kDim, *value = v + h * kDim;
          kv_dtype == DType::i8 ? store_kv<int8_t>(key, value, kDim, position % kPageTokens, at)
                                : store_kv<float>(key, value, kDim, position % kPageTokens, at);
        }
      }
      expect_near(get<float>(q, want_q.size()), want_q, 1e-5, "q");
      const auto have = get<std::byte>(slots, want.size());
      if (kv_dtype == DType::f32) {
        std::vector<float> have_floats(want.size() / 4), want_floats(have_floats);
        std::memcpy(have_floats.data(), have.data(), want.size());
        std::memcpy(want_floats.data(), want.data(), want.size());
        expect_near(have_floats, want_floats, 1e-5, "K and V");
      } else {
        int off = 0;  // a last bit of a float may round a code the other way
        for (size_t i = 0; i < want.size(); ++i)
          off += std::abs(static_cast<int>(static_cast<int8_t>(have[i])) - static_cast<int>(static_cast<int8_t>(want[i]))) > 1 ? 1 : 0;
        EXPECT_LE(off, 2 * kRows * kKv * 2) << "codes and steps";
      }
    }
  }
}

}  // namespace
}  // namespace moegen
