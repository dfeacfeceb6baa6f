#include "kernels/cpu/simd_avx512.h"
#include "kernels/cpu/tile_gemm.h"
#include "kernels/cpu/vector_kernels.h"

namespace moegen {
namespace {

// All eight tiles have 16 rows of 64 bytes: sums in 0 to 3, weights in 4 and 5, rows of x in 6 and 7.
struct AmxTiles {
  AmxTiles() {
    struct alignas(64) Config {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t bytes_in_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    };
    const Config config;
    _tile_loadconfig(&config);
  }
  ~AmxTiles() { _tile_release(); }
  AmxTiles(const AmxTiles&) = delete;
  AmxTiles& operator=(const AmxTiles&) = delete;

  template <int kPanels>
  static void multiply(const bf16* weights, const bf16* packed, int64_t panel_stride, int64_t steps, float* total, int64_t total_stride, bool first) {
    const int64_t stride = total_stride * static_cast<int64_t>(sizeof(float));
    float* below = total + kTileRows * total_stride;
    if (first) {
      _tile_zero(0);
      _tile_zero(2);
      if constexpr (kPanels == 2) _tile_zero(1);
      if constexpr (kPanels == 2) _tile_zero(3);
    } else {
      _tile_loadd(0, total, stride);
      _tile_loadd(2, below, stride);
      if constexpr (kPanels == 2) _tile_loadd(1, total + kPanel, stride);
      if constexpr (kPanels == 2) _tile_loadd(3, below + kPanel, stride);
    }
    for (int64_t s = 0; s < steps; ++s, weights += kTileCols * kTileElements, packed += kPanel * kTileElements) {
      _tile_loadd(4, weights, 64);
      _tile_loadd(6, packed, 64);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(5, weights + kTileRows * kTileElements, 64);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (kPanels == 2) {
        _tile_loadd(7, packed + panel_stride, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(3, 5, 7);
      }
    }
    _tile_stored(0, total, stride);
    _tile_stored(2, below, stride);
    if constexpr (kPanels == 2) _tile_stored(1, total + kPanel, stride);
    if constexpr (kPanels == 2) _tile_stored(3, below + kPanel, stride);
  }
};

// Four blocks of sums in turn, as in a GEMM.
double multiply_tiles(DType dtype, int64_t rounds) {
  if (dtype == DType::f32) return multiply_only(dtype, rounds);
  const AmxTiles tiles;
  alignas(64) bf16 numbers[2 * kTileRows * kTileElements];
  for (int64_t i = 0; i < 2 * kTileRows * kTileElements; ++i) numbers[i] = to_bf16(static_cast<float>(i * 7919 % 255 - 127) / 128);
  alignas(64) float sums[kTileRows * kTileRows];
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, numbers, 64);
  _tile_loadd(6, numbers + kTileRows * kTileElements, 64);
  for (int64_t round = 0; round < rounds; ++round) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 6);
    _tile_dpbf16ps(2, 4, 6);
    _tile_dpbf16ps(3, 4, 6);
  }
  _tile_stored(0, sums, 64);
  asm volatile("" : : "r"(sums) : "memory");
  return 2.0 * 4 * kTileRows * kTileRows * kTileElements * static_cast<double>(rounds);
}

constexpr Kernels kTable{"amx",          tile_gemm<AmxTiles>,
                         rms_norm,       rotate,
                         attention,      expand_latents<tile_gemm<AmxTiles>>,
                         delta_tokens,   silu_mul,
                         clamped_swiglu, gelu_mul,
                         axpy,           convert,
                         maximum,        exp_sum,
                         multiply_tiles};

}  // namespace

const Kernels& amx_kernels() { return kTable; }

}  // namespace moegen
