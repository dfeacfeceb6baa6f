#pragma once

#include "kernels/cuda/expand.cuh"
#include "kernels/cuda/row_ops.cuh"
#include "kernels/cuda/tiles.cuh"

namespace moegen::gpu {

/// GpuGroupedGemm: a block for kRows rows of one expert and kCols rows of its weights, grid (columns, row tiles of all experts). Gated blocks have as
/// many rows of the gate as of up, and a thread both values of an element. Tiles of kDepth go through registers to one of two halves of shared memory
/// while the other is multiplied; weights in another type than bf16 are widened on the way.
template <bool kGated, DType kType>
struct GroupedGemmKernel {
  using Args = GpuGroupedGemm;
  static constexpr bool kCoded = kType != DType::bf16;
  static constexpr int kWarps = 4;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kRows = kGpuGroupRows;
  // Codes are few bytes: more of a row together, and more blocks, since a block waits for memory and not memory for it.
  static constexpr int kCols = kCoded ? 64 : 128;
  static constexpr int kMatrices = kGated ? 2 : 1;
  static constexpr int kMatrixCols = kCols / kMatrices;
  static constexpr int kDepth = kCoded ? 64 : 32;
  static constexpr int kEach = Expand::kEach;     // neighbours of a row that are loaded together
  static constexpr int kPieces = kDepth / kEach;  // of a row of a tile
  static constexpr int kStride = kDepth / 2 + 4;  // words; with 4 more the 8 rows that a load touches lie in different banks
  static constexpr int kRowLoads = kRows * kPieces / kThreads;
  static constexpr int kColLoads = kCols * kPieces / kThreads;
  static constexpr int kTiles = kRows / 16;             // of rows
  static constexpr int kColTiles = kCols / 8 / kWarps;  // of columns, a warp's

  /// What a thread loads of a tile.
  struct Loads {
    Words x[kRowLoads];
    std::conditional_t<kCoded, Expand::Codes<kType>, Words> w[kColLoads];
  };
  /// The block's part of the rows that are sorted by expert.
  struct Part {
    int expert;
    int64_t row;
    int rows;
  };

  [[nodiscard]] static size_t shared_bytes() { return 2 * sizeof(uint32_t) * (kRows + kCols) * kStride; }

  __device__ static int loaded_row(int i) { return (static_cast<int>(threadIdx.x) + kThreads * i) / kPieces; }
  __device__ static int loaded_piece() { return static_cast<int>(threadIdx.x) % kPieces; }

  /// Tile number `tile` of all experts' rows within [first, last), by experts; rows 0: there is none. Each warp looks for itself.
  __device__ static Part part_of(const Args& a, int tile) {
    if (a.table == nullptr) {
      const int64_t row = a.first + int64_t{tile} * kRows;
      return {-1, row, static_cast<int>(min(a.last - row, int64_t{kRows}))};
    }
    const int lane = static_cast<int>(threadIdx.x % 32);
    int before = 0;
    for (int base = 0; base < a.num_experts; base += 32) {
      const int e = base + lane;
      const int64_t begin = e < a.num_experts ? max(int64_t{a.expert_begin[e]}, a.first) : 0;
      const int64_t end = e < a.num_experts ? min(int64_t{a.expert_begin[e + 1]}, a.last) : 0;
      const int tiles = end > begin ? static_cast<int>((end - begin + kRows - 1) / kRows) : 0;
      const int sum = warp_scan(tiles);
      const unsigned has_it = __ballot_sync(kAllLanes, tile >= before + sum - tiles && tile < before + sum);
      if (has_it != 0) {
        const int found = __ffs(static_cast<int>(has_it)) - 1;
        const int64_t row = __shfl_sync(kAllLanes, begin + int64_t{tile - (before + sum - tiles)} * kRows, found);
        return {base + found, row, static_cast<int>(min(__shfl_sync(kAllLanes, end, found) - row, int64_t{kRows}))};
      }
      before += __shfl_sync(kAllLanes, sum, 31);
    }
    return {-1, 0, 0};
  }

  __device__ static Words pack(const float* values) {
    Words out;
    MOEGEN_UNROLL
    for (int i = 0; i < 4; ++i) out.w[i] = pack_bf16(values[2 * i], values[2 * i + 1]);
    return out;
  }
  /// Tile `depth` of rows and weights; what is beyond an end becomes zeros when it is stored.
  __device__ static void load(const bf16* const* x, const GpuExpand* m, int64_t depth, Loads& loads) {
    const int64_t k = depth + loaded_piece() * kEach;
    if (k >= m[0].cols) return;
    MOEGEN_UNROLL
    for (int i = 0; i < kRowLoads; ++i) {
      if (x[i] != nullptr) loads.x[i] = load_as<Words>(x[i] + k);
    }
    MOEGEN_UNROLL
    for (int i = 0; i < kColLoads; ++i) {
      const GpuExpand& of = m[kThreads / kPieces * i / kMatrixCols];
      const int64_t col = column(loaded_row(i));
      if (col >= of.rows) continue;
      const int64_t row = of.first + col * of.step;
      if constexpr (kCoded) {
        loads.w[i] = Expand::load<kType>(of, row, k);
      } else {
        loads.w[i] = load_as<Words>(static_cast<const bf16*>(of.w) + row * of.cols + k);
      }
    }
  }
  /// Of its matrix, row r of the block's weights.
  __device__ static int64_t column(int r) { return static_cast<int64_t>(blockIdx.x) * kMatrixCols + r % kMatrixCols; }

  __device__ static void store(const bf16* const* x, const GpuExpand* m, int64_t depth, int tiles, const Loads& loads, uint32_t* half) {
    const bool there = depth + loaded_piece() * kEach < m[0].cols;
    MOEGEN_UNROLL
    for (int i = 0; i < kRowLoads; ++i) {
      if (kThreads / kPieces * i >= 16 * tiles) break;
      store_as(half + loaded_row(i) * kStride + loaded_piece() * (kEach / 2), there && x[i] != nullptr ? loads.x[i] : Words{});
    }
    MOEGEN_UNROLL
    for (int i = 0; i < kColLoads; ++i) {
      const GpuExpand& of = m[kThreads / kPieces * i / kMatrixCols];
      Words words{};
      if (there && column(loaded_row(i)) < of.rows) {
        if constexpr (kCoded) {
          float values[kEach];
          Expand::widen_codes(loads.w[i], values);
          words = pack(values);
        } else {
          words = loads.w[i];
        }
      }
      store_as(half + (kRows + loaded_row(i)) * kStride + loaded_piece() * (kEach / 2), words);
    }
  }

  /// Row in shared memory of column c of the warp's tile n: of gated ones the first half are the gate's.
  __device__ static int weight_row(int n, int c) {
    const int tile = n % (kColTiles / kMatrices), matrix = n / (kColTiles / kMatrices);
    return matrix * kMatrixCols + (warp() * (kColTiles / kMatrices) + tile) * 8 + c;
  }

  __device__ static void multiply(const uint32_t* half, int tiles, float (*sums)[kColTiles][4]) {
    MOEGEN_UNROLL
    for (int depth = 0; depth < kDepth / 2; depth += 8) {
      uint32_t w[kColTiles][2];
      MOEGEN_UNROLL
      for (int n = 0; n < kColTiles; ++n) {
        MOEGEN_UNROLL
        for (int i = 0; i < 2; ++i) w[n][i] = half[(kRows + weight_row(n, quad())) * kStride + depth + 4 * i + place_in_quad()];
      }
      MOEGEN_UNROLL
      for (int m = 0; m < kTiles; ++m) {
        if (m >= tiles) break;
        uint32_t x[4];
        load_tile(half, kStride, m, depth, x);
        MOEGEN_UNROLL
        for (int n = 0; n < kColTiles; ++n) multiply_tiles(sums[m][n], x, w[n]);
      }
    }
  }

  __device__ static float biased(const Args& a, const void* bias, int64_t col, float sum) {
    return bias != nullptr ? sum + gpu::load(bias, a.bias_dtype, col) : sum;
  }

  __device__ static void finish(const Args& a, const GpuExpertWeights& weights, const Part& part, const float (*sums)[kColTiles][4]) {
    const GpuActivate activate{.kind = a.kind, .clamp = a.clamp};
    MOEGEN_UNROLL
    for (int m = 0; m < kTiles; ++m) {
      MOEGEN_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int r = tile_row(m, half);
        if (r >= part.rows) continue;
        bf16* y = static_cast<bf16*>(a.y) + (part.row + r - a.first) * a.y_stride;
        MOEGEN_UNROLL
        for (int n = 0; n < kColTiles / kMatrices; ++n) {
          const int64_t col = column(weight_row(n, 2 * place_in_quad()));
          if (col >= a.format[0].rows) continue;
          float values[2];
          MOEGEN_UNROLL
          for (int i = 0; i < 2; ++i) {
            values[i] = biased(a, weights.matrix(kGated, 0).bias, col + i, sums[m][n][2 * half + i]);
            if constexpr (kGated)
              values[i] =
                  Activate::value(activate, values[i], biased(a, weights.matrix(kGated, 1).bias, col + i, sums[m][n + kColTiles / 2][2 * half + i]));
          }
          store_as(y + col, pack_bf16(values[0], values[1]));
        }
      }
    }
  }

  __device__ static void run(const Args& a) {
    const Part part = part_of(a, static_cast<int>(blockIdx.y));
    if (part.rows <= 0) return;  // the whole block
    const GpuExpertWeights weights = a.table != nullptr ? a.table[part.expert] : a.one;
    GpuExpand m[kMatrices];
    MOEGEN_UNROLL
    for (int j = 0; j < kMatrices; ++j) m[j] = weights.matrix(kGated, j).in(a.format[j]);
    if (m[0].w == nullptr) return;  // likewise: the expert is not here
    const bf16* x[kRowLoads];
    MOEGEN_UNROLL
    for (int i = 0; i < kRowLoads; ++i) {
      const int64_t row = part.row + loaded_row(i);
      x[i] = loaded_row(i) < part.rows ? static_cast<const bf16*>(a.x) + (a.picked != nullptr ? a.picked[row] : row - a.first) * a.x_stride : nullptr;
    }
    float sums[kTiles][kColTiles][4] = {};
    uint32_t* half = reinterpret_cast<uint32_t*>(MOEGEN_SHARED);
    uint32_t* other = half + (kRows + kCols) * kStride;
    const int tiles = (part.rows + 15) / 16;
    Loads loads;
    load(x, m, 0, loads);
    for (int64_t depth = 0; depth < m[0].cols; depth += kDepth) {
      store(x, m, depth, tiles, loads, half);
      __syncthreads();
      load(x, m, depth + kDepth, loads);
      multiply(half, tiles, sums);
      uint32_t* used = half;  // its next tile comes behind the next barrier
      half = other;
      other = used;
    }
    finish(a, weights, part, sums);
  }
};

}  // namespace moegen::gpu
