// One projection in oneDNN and in moegen's kernels, in turns, on one thread: rates, and how far their outputs are apart.
//   cmake --preset release -DMOEGEN_ONEDNN=ON && cmake --build --preset release --target beside_onednn   (Debian: libdnnl-dev)
//   OMP_NUM_THREADS=1 build/release/beside_onednn [CPU_PATH [OUTPUTSxK [TOKENS..]]]
// oneDNN gets its weights in whatever layout it likes best, made beforehand; moegen reads them as the checkpoint has them.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <dnnl.hpp>
#include <random>
#include <string>
#include <vector>

#include "base/checked.h"
#include "kernels/functions.h"
#include "profile/rate.h"

namespace {

using namespace moegen;

constexpr int kSamples = 7;
constexpr size_t kColdBytes = size_t{256} << 20;  // weights take turns, so that they are cold

std::vector<bf16> random_bf16(size_t count) {
  std::mt19937 rng(1);
  std::uniform_real_distribution<float> numbers(-1, 1);
  std::vector<bf16> out(count);
  for (bf16& x : out) x = to_bf16(numbers(rng));
  return out;
}

class OneDnn {
 public:
  OneDnn(int64_t tokens, int64_t outputs, int64_t k, const std::vector<bf16>& weights, size_t matrices) : x_md_({tokens, k}, kBf16, kAb) {
    const dnnl::memory::desc any({k, outputs}, kBf16, dnnl::memory::format_tag::any);
    y_md_ = {{tokens, outputs}, dnnl::memory::data_type::f32, kAb};
    const dnnl::matmul::primitive_desc pd({x_md_, any, y_md_}, engine_);
    matmul_ = dnnl::matmul(pd);
    implementation = pd.impl_info_str();
    for (size_t i = 0; i < matrices; ++i) {
      dnnl::memory plain({{k, outputs}, kBf16, dnnl::memory::format_tag::ba}, engine_,
                         const_cast<bf16*>(weights.data() + i * static_cast<size_t>(outputs * k)));
      dnnl::memory& packed = weights_.emplace_back(pd.weights_desc(), engine_);
      dnnl::reorder(plain, packed).execute(stream_, plain, packed);
    }
    stream_.wait();
  }
  void run(const std::vector<bf16>& x, size_t matrix, std::vector<float>& y) {
    dnnl::memory from(x_md_, engine_, const_cast<bf16*>(x.data()));
    dnnl::memory to(y_md_, engine_, y.data());
    matmul_.execute(stream_, {{DNNL_ARG_SRC, from}, {DNNL_ARG_WEIGHTS, weights_[matrix]}, {DNNL_ARG_DST, to}});
    stream_.wait();
  }
  std::string implementation;

 private:
  static constexpr auto kBf16 = dnnl::memory::data_type::bf16;
  static constexpr auto kAb = dnnl::memory::format_tag::ab;
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  dnnl::memory::desc x_md_, y_md_;
  dnnl::matmul matmul_;
  std::vector<dnnl::memory> weights_;
};

void run_moegen(const Kernels& kernels, const std::vector<bf16>& x, const bf16* w, int64_t tokens, int64_t outputs, int64_t k, std::vector<float>& y,
                std::vector<std::byte>& scratch) {
  void* aligned = scratch.data();
  size_t room = scratch.size();
  Gemm op{.x = x.data(), .x_dtype = DType::bf16, .x_stride = k, .w = w, .y = y.data(), .y_stride = outputs, .k = k};
  op.scratch = std::align(64, kGemmScratchBytes, aligned, room);
  const int64_t width = tokens <= kGemmStreamedRows ? kGemmStreamedCols : kGemmBlockCols;
  for (int64_t col = 0; col < outputs; col += width) {
    for (int64_t row = 0; row < tokens; row += kGemmBlockRows)
      kernels.gemm(op, {row, std::min(tokens, row + kGemmBlockRows)}, {col, std::min(outputs, col + width)});
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string path = argc > 1 ? argv[1] : "auto";
  const std::string shape = argc > 2 ? argv[2] : "768x2048";
  const int64_t outputs = std::atoll(shape.c_str());
  const int64_t k = std::atoll(shape.c_str() + shape.find('x') + 1);
  const Kernels& kernels = select_kernels(path);
  const auto each = static_cast<size_t>(outputs * k);
  const size_t matrices = std::max<size_t>(1, kColdBytes / (each * sizeof(bf16)));
  const std::vector<bf16> weights = random_bf16(each * matrices);
  std::vector<std::byte> scratch(kGemmScratchBytes + 64);
  std::printf("%-8s%24s%24s%10s%14s  %s (oneDNN), %s\n", "tokens", "oneDNN GFLOP/s", "moegen GFLOP/s", "ratio", "most apart", shape.c_str(),
              std::string(kernels.name).c_str());
  for (int i = 3; i < argc || i == 3; ++i) {
    const int64_t tokens = i < argc ? std::atoll(argv[i]) : 256;
    const std::vector<bf16> x = random_bf16(static_cast<size_t>(tokens * k));
    std::vector<float> theirs(static_cast<size_t>(tokens * outputs));
    std::vector<float> ours(theirs.size());
    OneDnn onednn(tokens, outputs, k, weights, matrices);
    const size_t times = std::clamp<size_t>(static_cast<size_t>(2e9 / (2.0 * static_cast<double>(tokens) * static_cast<double>(each))), 1, matrices);
    const double flops = 2.0 * static_cast<double>(tokens) * static_cast<double>(each) * static_cast<double>(times) / 1e9;
    std::vector<double> rates[2];
    for (int s = 0; s <= kSamples; ++s) {
      const double first = flops / seconds_of([&] {
                             for (size_t m = 0; m < times; ++m) onednn.run(x, m, theirs);
                           });
      const double second = flops / seconds_of([&] {
                              for (size_t m = 0; m < times; ++m) run_moegen(kernels, x, weights.data() + m * each, tokens, outputs, k, ours, scratch);
                            });
      if (s == 0) continue;  // touches memory
      rates[0].push_back(first);
      rates[1].push_back(second);
    }
    double apart = 0;
    for (size_t j = 0; j < ours.size(); ++j) apart = std::max(apart, static_cast<double>(std::abs(ours[j] - theirs[j])));
    const Rate a = rate_of(rates[0]);
    const Rate b = rate_of(rates[1]);
    std::printf("%-8ld%10.1f (%.1f-%.1f)%12.1f (%.1f-%.1f)%10.2f%14.2g  %s\n", static_cast<long>(tokens), a.median, a.low, a.high, b.median, b.low,
                b.high, b.median / a.median, apart, onednn.implementation.c_str());
  }
}
