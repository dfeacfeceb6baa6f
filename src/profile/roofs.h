#pragma once

#include <cstdint>
#include <vector>

#include "profile/rate.h"
#include "profile/workbench.h"

namespace moegen {

/// FLOP/s of `kernels` in registers, on all threads of the pool, over some 15 ms.
[[nodiscard]] double multiply_rate(const Kernels& kernels, DType dtype, ThreadPool& pool);
/// Bytes/s at which all threads of the pool read `memory` once, line by line.
[[nodiscard]] double read_rate(const MappedMemory& memory, ThreadPool& pool);

/// 1, 2, 4 .. and `most`.
[[nodiscard]] std::vector<int> thread_counts(int most);

/// Bytes that no cache holds: 4 times the last one, 512 MiB at least.
[[nodiscard]] uint64_t cold_bytes();
/// Memory in huge pages, touched, full of numbers from -1 to 1, be it read as bf16, as float or as the parts of int8 pages.
[[nodiscard]] MappedMemory random_memory(size_t bytes, ThreadPool& pool);
/// Turns the bytes of random_memory() into such that may be scales of `weights` too, which lie between codes; what is plain can be
/// made of them in FP8, not in MXFP4.
void make_scales(MappedMemory& memory, DType weights, ThreadPool& pool);
/// `dtype`: f32 or bf16.
void fill_random(void* to, DType dtype, int64_t count, ThreadPool& pool);

/// What work costs at least.
struct Work {
  double flops = 0;
  double bytes = 0;  ///< from DRAM
};

/// Rates of some work and of the machine, sampled in turns, so that what disturbs one disturbs the other.
struct Measured {
  Rate flops;             ///< FLOP/s
  Rate bandwidth;         ///< bytes/s
  Rate peak_flops;        ///< of the machine
  Rate peak_bandwidth;    ///< of the machine
  Rate share;             ///< of what the roof allows: 1 at the roof
  bool computes = false;  ///< the roof is the peak, not DRAM
};

/// The two roofs of a machine: multiply-adds of one path and dtype, and reads of DRAM.
class Roofs {
 public:
  explicit Roofs(const Workbench& bench) : bench_(bench) {}

  /// `run` does some work and says how much; it is called again until a sample has taken 50 ms.
  template <typename Run>
  [[nodiscard]] Measured measure(int samples, const Run& run) const {
    Samples all;
    for (int i = 0; i < samples; ++i) {
      const double flops = multiply_rate(bench_.kernels, bench_.product_dtype(), bench_.pool);
      const double bandwidth = read_rate(bench_.memory, bench_.pool);
      Work work;
      double seconds = 0;
      while (seconds < 0.05) {
        Work more;
        seconds += seconds_of([&] { more = run(); });
        work.flops += more.flops;
        work.bytes += more.bytes;
      }
      all.add(work, seconds, flops, bandwidth);
    }
    return all.result();
  }

 private:
  struct Samples {
    std::vector<double> flops, bandwidth, peak_flops, peak_bandwidth, share;
    int compute_bound = 0;
    void add(const Work& work, double seconds, double peak, double dram);
    [[nodiscard]] Measured result() const;
  };

  Workbench bench_;
};

}  // namespace moegen
