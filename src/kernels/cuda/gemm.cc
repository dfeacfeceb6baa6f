#include "kernels/cuda/gemm.h"

#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "device/cuda/check.h"

namespace moegen {
namespace {

void check_blas(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS) throw Error(ErrorCode::io, std::string("GPU: ") + what + ": " + cublasLtGetStatusString(status));
}

cudaDataType_t type_of(DType dtype) { return dtype == DType::f32 ? CUDA_R_32F : CUDA_R_16BF; }

/// Gives back what cuBLASLt made.
struct Release {
  void operator()(cublasLtMatrixLayout_t x) const { static_cast<void>(cublasLtMatrixLayoutDestroy(x)); }
  void operator()(cublasLtMatmulDesc_t x) const { static_cast<void>(cublasLtMatmulDescDestroy(x)); }
  void operator()(cublasLtMatmulPreference_t x) const { static_cast<void>(cublasLtMatmulPreferenceDestroy(x)); }
};
template <typename T>
using Owned = std::unique_ptr<std::remove_pointer_t<T>, Release>;
using Layout = Owned<cublasLtMatrixLayout_t>;

Layout layout(DType dtype, int64_t rows, int64_t cols, int64_t stride, int64_t batch, int64_t step) {
  cublasLtMatrixLayout_t raw{};
  check_blas(cublasLtMatrixLayoutCreate(&raw, type_of(dtype), static_cast<uint64_t>(rows), static_cast<uint64_t>(cols), stride), "a matrix");
  Layout out(raw);
  const auto count = static_cast<int32_t>(batch);
  check_blas(cublasLtMatrixLayoutSetAttribute(raw, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof(count)), "a batch");
  check_blas(cublasLtMatrixLayoutSetAttribute(raw, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &step, sizeof(step)), "a batch");
  return out;
}

/// Row-major y = x w^T is column-major y^T = w x^T: w [k, n] turned, x [k, m].
struct Problem {
  Owned<cublasLtMatmulDesc_t> product;
  Layout w, x, y;

  Problem(const GpuGemm& op, int64_t m)
      : w(layout(op.dtype, op.k, op.n, op.w_stride, op.batch, op.w_step)),
        x(layout(op.dtype, op.k, m, op.x_stride, op.batch, op.x_step)),
        y(layout(op.y_dtype, op.n, m, op.y_stride, op.batch, op.y_step)) {
    cublasLtMatmulDesc_t raw{};
    // Pedantic: no variable of the environment makes floats of 10 bits of it.
    const cublasComputeType_t compute = op.dtype == DType::f32 ? CUBLAS_COMPUTE_32F_PEDANTIC : CUBLAS_COMPUTE_32F;
    check_blas(cublasLtMatmulDescCreate(&raw, compute, CUDA_R_32F), "a product");
    product.reset(raw);
    const cublasOperation_t turned = CUBLAS_OP_T;
    check_blas(cublasLtMatmulDescSetAttribute(raw, CUBLASLT_MATMUL_DESC_TRANSA, &turned, sizeof(turned)), "a product");
  }
};

/// What an algorithm is chosen by: all but the rows.
using Key =
    std::tuple<DType, DType, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, bool, uint32_t, uint32_t, uint32_t>;

/// The largest power of two up to 16 that an address is a multiple of: more is of no use, and would differ from row to row.
uint32_t alignment_of(const void* p) {
  const auto at = reinterpret_cast<uintptr_t>(p) | 16U;
  return static_cast<uint32_t>(at & (~at + 1));
}

int64_t size_of(DType dtype) { return dtype == DType::f32 ? 4 : 2; }

class Blas {
 public:
  explicit Blas(int device) {
    check_blas(cublasLtCreate(&handle_), "cuBLASLt");
    check_cuda(cudaDeviceGetAttribute(&capability_, cudaDevAttrComputeCapabilityMajor, device), "properties");
  }

  void multiply(cudaStream_t stream, const GpuGemm& op) {
    constexpr int kReadsBeyond = 12;  // cuBLAS of 12.0 and 12.1 may read behind batches that lie within one another (NVIDIA 6040940)
    if (op.batch > 1 && capability_ == kReadsBeyond) return one_by_one(stream, op);
    const Problem problem(op, op.m);
    const float beta = op.add ? 1 : 0;
    cublasStatus_t status = CUBLAS_STATUS_NOT_SUPPORTED;
    // In the same order for every number of rows. An algorithm that was checked may still refuse to run (cublasLt.h, cublasLtMatmulAlgoCheck).
    for (const cublasLtMatmulAlgo_t& algorithm : choose(op)) {
      status = cublasLtMatmul(handle_, problem.product.get(), &op.scale, op.w, problem.w.get(), op.x, problem.x.get(), &beta, op.y, problem.y.get(),
                              op.y, problem.y.get(), &algorithm, nullptr, 0, stream);
      if (status != CUBLAS_STATUS_NOT_SUPPORTED && status != CUBLAS_STATUS_INVALID_VALUE) break;
      tell(op);
    }
    check_blas(status, "a product");
  }

 private:
  static constexpr std::array<int64_t, 3> kRows{2048, 256, 16};  // that are asked for, one after the other until some do

  void one_by_one(cudaStream_t stream, GpuGemm op) {
    for (int64_t left = std::exchange(op.batch, 1); left > 0; --left) {
      multiply(stream, op);
      op.x = static_cast<const std::byte*>(op.x) + op.x_step * size_of(op.dtype);
      op.w = static_cast<const std::byte*>(op.w) + op.w_step * size_of(op.dtype);
      op.y = static_cast<std::byte*>(op.y) + op.y_step * size_of(op.y_dtype);
    }
  }

  // Once: with another algorithm for some numbers of rows, bits may depend on the pass.
  void tell(const GpuGemm& op) {
    if (std::exchange(told_, true)) return;
    std::fprintf(stderr, "GPU: cuBLASLt's algorithm for products of %lld x %lld does not take %lld rows: another one does, perhaps with other bits\n",
                 static_cast<long long>(op.n), static_cast<long long>(op.k), static_cast<long long>(op.m));
  }

  const std::vector<cublasLtMatmulAlgo_t>& choose(const GpuGemm& op) {
    const uint32_t w = alignment_of(op.w), x = alignment_of(op.x), y = alignment_of(op.y);
    const Key key{op.dtype, op.y_dtype, op.n, op.k, op.x_stride, op.w_stride, op.y_stride, op.batch, op.x_step, op.w_step, op.y_step,
                  op.add,   w,          x,    y};
    if (const auto it = chosen_.find(key); it != chosen_.end()) return it->second;
    cublasLtMatmulPreference_t raw{};
    check_blas(cublasLtMatmulPreferenceCreate(&raw), "a preference");
    const Owned<cublasLtMatmulPreference_t> preference(raw);
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t what, const auto& value) {
      check_blas(cublasLtMatmulPreferenceSetAttribute(raw, what, &value, sizeof(value)), "a preference");
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{0});  // no room for the parts of a split sum
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE});
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, w);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, x);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, y);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, y);
    std::vector<cublasLtMatmulAlgo_t> fitting;
    for (size_t i = 0; i < kRows.size() && fitting.empty(); ++i) add_fitting(op, kRows[i], raw, fitting);
    if (fitting.empty())
      throw Error(ErrorCode::io, "GPU: cuBLASLt has no algorithm for a product of " + std::to_string(op.n) + " x " + std::to_string(op.k) +
                                     " that takes any number of rows");
    return chosen_.emplace(key, std::move(fitting)).first->second;
  }

  // Those that are best for so many rows and take any number.
  void add_fitting(const GpuGemm& op, int64_t rows, cublasLtMatmulPreference_t preference, std::vector<cublasLtMatmulAlgo_t>& out) const {
    const Problem problem(op, rows);
    std::array<cublasLtMatmulHeuristicResult_t, 32> results{};
    int found = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(handle_, problem.product.get(), problem.w.get(), problem.x.get(), problem.y.get(), problem.y.get(), preference,
                                       static_cast<int>(results.size()), results.data(), &found);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED) return;
    check_blas(status, "an algorithm");
    for (int i = 0; i < found; ++i) {
      const cublasLtMatmulHeuristicResult_t& result = results[static_cast<size_t>(i)];
      if (result.state == CUBLAS_STATUS_SUCCESS && takes_any_rows(op, result.algo)) out.push_back(result.algo);
    }
  }

  // It was asked for with one number of rows and runs with all; the head of a model never has as many as would be 2^31 logits.
  bool takes_any_rows(const GpuGemm& op, const cublasLtMatmulAlgo_t& algorithm) const {
    for (const int64_t m : {1, 2, 7, 16, 33, 64, 129, 2048, 16384}) {
      if (m > kRows.front() && m * std::max(op.n, op.k) * std::max<int64_t>(1, op.batch) >= int64_t{1} << 31) continue;
      const Problem problem(op, m);
      cublasLtMatmulHeuristicResult_t checked{};
      const cublasStatus_t status = cublasLtMatmulAlgoCheck(handle_, problem.product.get(), problem.w.get(), problem.x.get(), problem.y.get(),
                                                            problem.y.get(), &algorithm, &checked);
      if (status != CUBLAS_STATUS_SUCCESS || checked.workspaceSize > 0) return false;
    }
    return true;
  }

  cublasLtHandle_t handle_{};  // for as long as the program runs
  int capability_ = 0;
  bool told_ = false;
  std::map<Key, std::vector<cublasLtMatmulAlgo_t>> chosen_;  // best first
};

}  // namespace

void cuda_gemm(Device&, const Stream& stream, const GpuGemm& op) {
  if (op.m == 0) return;
  int device = 0;
  check_cuda(cudaGetDevice(&device), "which it is");
  thread_local std::map<int, Blas> blas;  // algorithms are of a device
  blas.try_emplace(device, device).first->second.multiply(static_cast<cudaStream_t>(stream.handle()), op);
}

}  // namespace moegen
