#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "plan/pass_cost.h"

namespace moegen {

/// A task of a pass on a virtual clock: `bytes` over a link or from the storage, 0 where something computes. Seconds since the pass began.
struct PassTask {
  enum class Resource { gpu, cpu, h2d, d2h, ssd };
  Resource resource = Resource::gpu;
  std::string_view name;
  int64_t layer = -1;
  double bytes = 0;
  double begin = 0;
  double end = 0;
};

/// How long passes of a plan take on a machine with a GPU: a graph of copies and computations in the order of src/model, each on its
/// own resource, run on a virtual clock.
///   SSD -> DRAM -> h2d -> GPU, each copy as soon as there is room in its ring; experts of small passes only behind their router;
///   attention of the CPU's share beside the GPU's, linear attention all on the CPU; experts of a layer when both are done; those of the CPU beside
///   the GPU's.
/// Rates are the machine's own: products take max(FLOPs at the GPU's rate for their rows, or its peak, weights at HBM's bandwidth), copies their
/// link's rate, KV on the CPU what the link leaves of DRAM. Pure.
class GpuPassCosts {
 public:
  /// All must outlive it. The plan is one for a GPU. Throws Error(unsupported) where weights stream from storage whose rate is not known.
  GpuPassCosts(const ModelSpec& spec, const ModelWork& work, const Machine& machine, const Plan& plan);

  [[nodiscard]] PassCost of(const PassLoad& load, const std::function<void(const PassTask&)>& look = {}) const;

 private:
  /// What is copied and then computed with.
  struct Piece {
    std::string_view name;
    int64_t layer = -1;
    double parts = 1;       ///< equal ones, one after the other; the rest of the fields is of all together
    double read_bytes = 0;  ///< from storage
    double copy_bytes = 0;  ///< over the link, those of storage too
    double gpu_seconds = 0;
    double cpu_bytes = 0;    ///< of KV or weights that the CPU reads, and
    double cpu_seconds = 0;  ///< for so long, behind the GPU; as is
    double back_bytes = 0;   ///< what goes to the host
    bool joins = false;      ///< begins when that is done
    bool beside = false;     ///< the CPU begins with the GPU
    bool routed = false;     ///< is not copied before the experts of its layer can begin
  };
  struct Clock;

  [[nodiscard]] double keys_seen(size_t l, double count, double keys) const;
  [[nodiscard]] double share_in_host(const PassLoad& load) const;
  [[nodiscard]] Piece projections(size_t l, const PassLoad& load, PassCost& cost) const;
  void add_linear_attention(size_t l, const PassLoad& load, std::vector<Piece>& pieces, PassCost& cost) const;
  void add_attention(size_t l, const PassLoad& load, double in_host, std::vector<Piece>& pieces, PassCost& cost) const;
  void add_experts(size_t l, const PassLoad& load, std::vector<Piece>& pieces, PassCost& cost) const;
  void add_head(const PassLoad& load, std::vector<Piece>& pieces, PassCost& cost) const;
  [[nodiscard]] double parts_of(const Piece& piece) const;
  [[nodiscard]] double product_seconds(const Curve& rates, double flops, double bytes, double rows) const;

  const ModelSpec& spec_;
  const ModelWork& work_;
  const Machine& machine_;
  const GpuPlan& plan_;
  double fixed_on_device_ = 1, fixed_stored_ = 0;      ///< shares of the weights that every token meets
  double experts_on_device_ = 1, experts_stored_ = 0;  ///< and of routed experts
  double cpu_bandwidth_ = 0;                           ///< of DRAM, for attention
  double device_kv_bytes_ = 0;                         ///< of KV that HBM holds
  double ssd_rate_ = 0;
};

}  // namespace moegen
