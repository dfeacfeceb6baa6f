#pragma once

// The ops of a GPU against the plain reference, over random and awkward shapes: on the emulation, whose threads run in three orders, and on a GPU
// where there is one. Tolerances as in kernels_test.h: sums are floats in some order, what is stored as bfloat16 adds half a unit of its eight bits.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kernels/functions.h"
#include "kernels/gpu_functions.h"
#include "tests/support/devices.h"

namespace moegen {

class GpuKernelsTest : public ::testing::TestWithParam<testing::TestDevice> {
 protected:
  ~GpuKernelsTest() override {
    device->synchronize(stream);
    buffers_.clear();
  }

  /// The elements, in device memory.
  template <typename T>
  T* put(const std::vector<T>& values) {
    const size_t bytes = std::max<size_t>(1, values.size() * sizeof(T));
    buffers_.push_back(device->new_buffer(bytes));
    void* to = buffers_.back().handle();
    if (!values.empty()) device->copy_to_device(stream, to, values.data(), values.size() * sizeof(T));
    device->synchronize(stream);
    return static_cast<T*>(to);
  }
  template <typename T>
  std::vector<T> get(const void* from, size_t count) {
    std::vector<T> out(count);
    device->copy_to_host(stream, out.data(), from, count * sizeof(T));
    device->synchronize(stream);
    return out;
  }
  std::vector<float> get_as_float(const void* from, DType dtype, size_t count) {
    if (dtype == DType::f32) return get<float>(from, count);
    std::vector<float> out;
    for (const bf16 x : get<bf16>(from, count)) out.push_back(to_float(x));
    return out;
  }
  /// Random values of that type, in device memory and as floats.
  std::pair<const void*, std::vector<float>> random(DType dtype, size_t count, float deviation = 1) {
    std::normal_distribution<float> normal(0, deviation);
    std::vector<float> values(count);
    for (float& x : values) x = normal(rng);
    if (dtype == DType::f32) return {put(values), values};
    std::vector<bf16> halves;
    for (float& x : values) {
      halves.push_back(to_bf16(x));
      x = to_float(halves.back());
    }
    return {put(halves), values};
  }
  void* room(DType dtype, size_t count) {
    return dtype == DType::f32 ? static_cast<void*>(put(std::vector<float>(count))) : put(std::vector<bf16>(count));
  }

  static void expect_near(const std::vector<float>& have, const std::vector<float>& want, double tolerance, const std::string& what) {
    ASSERT_EQ(have.size(), want.size());
    for (size_t i = 0; i < have.size(); ++i) {
      const auto w = static_cast<double>(want[i]);
      ASSERT_NEAR(static_cast<double>(have[i]), w, tolerance * std::max(1.0, std::abs(w))) << what << ", element " << i;
    }
  }

  std::mt19937 rng{7};
  const std::unique_ptr<Device> device = GetParam().open();
  const Stream stream = device->new_stream(false);
  const GpuKernels& kernels = device->kernels();

 private:
  std::vector<DeviceBuffer> buffers_;
};

constexpr double kBf16 = 0x1p-8;
inline double tolerance(DType dtype) { return dtype == DType::f32 ? 3e-5 : kBf16; }

}  // namespace moegen
