#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "kernels/cpu/vectors.h"
#include "kernels/functions.h"

// The roof of a GEMM over the `Products` that the including file chose. All of it has internal linkage: see simd_avx512.h.
namespace moegen {
namespace {

template <typename P, size_t... kChain>
double multiply_chains(int64_t rounds, std::index_sequence<kChain...>) {
  // Numbers as they come: with zeros a processor takes less power and runs faster than with any real work.
  alignas(64) float numbers[kW];
  for (int64_t i = 0; i < kW; ++i) numbers[i] = static_cast<float>(i * 7919 % 255 - 127) / 128;
  alignas(64) float starts[sizeof...(kChain) * kW] = {};
  asm volatile("" : : "r"(numbers), "r"(starts) : "memory");
  const auto a = P::broadcast(reinterpret_cast<const typename P::Scalar*>(numbers + 1));
  const V b = Simd::load(numbers);
  V chains[] = {Simd::load(starts + kChain * kW)...};
  for (int64_t round = 0; round < rounds; ++round) ((chains[kChain] = P::add(chains[kChain], a, b)), ...);
  (Simd::store(starts + kChain * kW, chains[kChain]), ...);
  asm volatile("" : : "r"(starts) : "memory");
  constexpr int64_t kProducts = kW * P::kStep;  // of one multiply-add
  return 2.0 * sizeof...(kChain) * static_cast<double>(kProducts) * static_cast<double>(rounds);
}

// As many chains as hide the latency of the multiply-add; they and the operands stay in registers. Chains start from numbers that the
// compiler cannot see, so none can be dropped or take the place of another.
template <typename T>
double multiply_only_of(int64_t rounds) {
  using Scalar = std::conditional_t<Simd::kMultipliesPairs, T, float>;
  return multiply_chains<Products<Scalar>>(rounds, std::make_index_sequence<12>{});
}

double multiply_only(DType dtype, int64_t rounds) { return dtype == DType::f32 ? multiply_only_of<float>(rounds) : multiply_only_of<bf16>(rounds); }

}  // namespace
}  // namespace moegen
