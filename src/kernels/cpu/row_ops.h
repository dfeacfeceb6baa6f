#pragma once

#include <cstdint>
#include <limits>

#include "kernels/cpu/vectors.h"
#include "kernels/functions.h"

// The ops that go over rows once. All of it has internal linkage: see simd_avx512.h.
namespace moegen {
namespace {

template <typename X, typename W, typename Y>
void rms_norm_row(const X* x, const W* weight, Y* y, int64_t width, float eps, float offset) {
  V squares = Simd::zero();
  for (int64_t k = 0; k < width; k += kW) {
    const V v = load_some(x + k, width - k);
    squares = Simd::fma(v, v, squares);
  }
  const float mean = Simd::sum(squares) / static_cast<float>(width);
  const V factor = Simd::set(1.0F / __builtin_sqrtf(mean + eps));
  for (int64_t k = 0; k < width; k += kW) {
    const V v = Simd::mul(load_some(x + k, width - k), factor);
    store_some(y + k, weight == nullptr ? v : Simd::mul(v, Simd::add(load_some(weight + k, width - k), Simd::set(offset))), width - k);
  }
}

void rms_norm(const RmsNorm& op, Range rows) {
  with_activation_type(op.x_dtype, [&](auto* x_type) {
    with_activation_type(op.y_dtype, [&](auto* y_type) {
      with_weight_type(op.weight_dtype, [&](auto* w_type) {
        for (int64_t i = rows.begin; i < rows.end; ++i) {
          rms_norm_row(static_cast<const std::remove_pointer_t<decltype(x_type)>*>(op.x) + i * op.x_stride, static_cast<decltype(w_type)>(op.weight),
                       static_cast<decltype(y_type)>(op.y) + i * op.y_stride, op.width, op.eps, op.offset);
        }
      });
    });
  });
}

void rotate(float* head, const float* cos, const float* sin, int64_t dim) {
  const int64_t half = dim / 2;
  for (int64_t i = 0; i < half; i += kW) {
    const int64_t n = half - i;
    const V a = load_some(head + i, n);
    const V b = load_some(head + half + i, n);
    const V c = load_some(cos + i, n);
    const V s = load_some(sin + i, n);
    store_some(head + i, Simd::sub(Simd::mul(a, c), Simd::mul(b, s)), n);
    store_some(head + half + i, Simd::fma(b, c, Simd::mul(a, s)), n);
  }
}

void silu_mul(void* gate, const void* up, DType dtype, int64_t count) {
  with_activation_type(dtype, [&](auto* type) {
    auto* g = static_cast<decltype(type)>(gate);
    const auto* u = static_cast<const std::remove_pointer_t<decltype(type)>*>(up);
    for (int64_t i = 0; i < count; i += kW) {
      const V x = load_some(g + i, count - i);
      const V sigmoid = Simd::div(Simd::set(1.0F), Simd::add(Simd::set(1.0F), exp(Simd::sub(Simd::zero(), x))));
      const V silu = Simd::mul(x, sigmoid);
      store_some(g + i, u == nullptr ? silu : Simd::mul(silu, load_some(u + i, count - i)), count - i);
    }
  });
}

// The first operand of min and max is the one that is not taken for a NaN.
void clamped_swiglu(float* gate, const float* up, float limit, int64_t count) {
  const V one = Simd::set(1.0F);
  const V high = Simd::set(limit);
  for (int64_t i = 0; i < count; i += kW) {
    const V g = Simd::min(high, load_some(gate + i, count - i));
    const V u = Simd::max(Simd::set(-limit), Simd::min(high, load_some(up + i, count - i)));
    const V sigmoid = Simd::div(one, Simd::add(one, exp(Simd::mul(Simd::set(-kSwigluSlope), g))));
    store_some(gate + i, Simd::mul(Simd::mul(g, sigmoid), Simd::add(u, one)), count - i);
  }
}

void gelu_mul(float* gate, const float* up, int64_t count) {
  const V one = Simd::set(1.0F);
  for (int64_t i = 0; i < count; i += kW) {
    const V x = load_some(gate + i, count - i);
    const V inner = Simd::fma(Simd::mul(Simd::set(kGeluCubic), Simd::mul(x, x)), x, x);
    const V sigmoid = Simd::div(one, Simd::add(one, exp(Simd::mul(Simd::set(-kGeluSlope), inner))));
    store_some(gate + i, Simd::mul(Simd::mul(x, sigmoid), load_some(up + i, count - i)), count - i);
  }
}

void axpy(float* y, float a, const void* x, DType x_dtype, int64_t count) {
  with_activation_type(x_dtype, [&](auto* type) {
    const auto* p = static_cast<const std::remove_pointer_t<decltype(type)>*>(x);
    for (int64_t i = 0; i < count; i += kW)
      store_some(y + i, Simd::fma(Simd::set(a), load_some(p + i, count - i), load_some(y + i, count - i)), count - i);
  });
}

void convert(const void* x, DType x_dtype, void* y, DType y_dtype, int64_t count) {
  with_weight_type(x_dtype, [&](auto* x_type) {
    with_activation_type(y_dtype, [&](auto* y_type) {
      for (int64_t i = 0; i < count; i += kW) {
        store_some(static_cast<decltype(y_type)>(y) + i, load_some(static_cast<decltype(x_type)>(x) + i, count - i), count - i);
      }
    });
  });
}

float maximum(const float* x, int64_t count) {
  const V least = Simd::set(-std::numeric_limits<float>::infinity());
  V top = least;
  for (int64_t i = 0; i < count; i += kW)
    top = Simd::max(top, count - i >= kW ? Simd::load(x + i) : Simd::keep(Simd::load(x + i, count - i), count - i, least));
  return Simd::largest(top);
}

// What a mask forbids is -inf, of which the exponential would underflow on its way to 0: some processors do that in microcode.
float exp_sum(const float* x, float shift, float* y, int64_t count) {
  const V low = Simd::set(-104.0F);  // e^-104 rounds to 0
  V total = Simd::zero();
  for (int64_t i = 0; i < count; i += kW) {
    const V exponent = Simd::sub(load_some(x + i, count - i), Simd::set(shift));
    V e = Simd::zero_below(exponent, low, exp(Simd::zero_below(exponent, low, exponent)));
    if (count - i < kW) e = Simd::keep(e, count - i, Simd::zero());
    if (y != nullptr) store_some(y + i, e, count - i);
    total = Simd::add(total, e);
  }
  return Simd::sum(total);
}

}  // namespace
}  // namespace moegen
