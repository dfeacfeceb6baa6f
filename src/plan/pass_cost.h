#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "model/pass.h"
#include "plan/machine.h"
#include "plan/model_work.h"
#include "plan/plan.h"

namespace moegen {

/// What a pass carries, in the sums that its time depends on.
struct PassLoad {
  double decodes = 0;        ///< generated tokens, one a sequence
  double decode_keys = 0;    ///< that they attend to, together
  double prompt_tokens = 0;  ///< in chunks of prompts
  double prompt_keys = 0;    ///< that they attend to, together
  double logit_rows = 0;
  double drawn_rows = 0;  ///< of these, where a token is drawn, not the best one taken
  double chunk_ends = 0;  ///< positions up to the end of each chunk of a prompt, together

  [[nodiscard]] PassLoad times(double n) const {
    return {decodes * n, decode_keys * n, prompt_tokens * n, prompt_keys * n, logit_rows * n, drawn_rows * n, chunk_ends * n};
  }
};
/// Nothing is drawn as far as this knows.
[[nodiscard]] PassLoad load_of(const Pass& pass);

/// Seconds of a pass. What the computing processor (the cores, or the GPU if there is one) does adds up to its seconds; `seconds` is that
/// and `wait`.
struct PassCost {
  double seconds = 0;
  double cpu = 0;
  double gpu = 0;
  double link = 0;     ///< copies are under way, in the direction that takes longer
  double storage = 0;  ///< reads are under way
  double wait = 0;     ///< the computing processor has nothing to compute with
  double dram = 0;     ///< that its bytes would take alone
  double flops = 0;    ///< that its products would take alone at the peak
  /// Parts of what the computing processor does.
  double projections = 0, attention = 0, experts = 0, logits = 0, rows = 0;
  double bytes_read = 0;  ///< from storage

  /// += other x times.
  void add(const PassCost& other, double times = 1);
};

/// Experts that so many tokens reach, if they spread evenly: E (1 - (1 - k/E)^tokens).
[[nodiscard]] double touched_experts(const MlpSpec& mlp, double tokens);
/// Keys that a query with so many before it sees through a window (0: none).
[[nodiscard]] double keys_within(double window, double keys);

/// How long passes of a plan take on a machine. Pure: the steps of src/model, each at its own measured rate, and a ring of slots that is
/// filled at the storage's rate while they run.
class PassCosts {
 public:
  /// All must outlive it. `units`: those the plan was made with.
  PassCosts(const ModelSpec& spec, const ModelWork& work, const Machine& machine, const Plan& plan, std::span<const WeightUnit> units);

  /// Of a layer: seconds by part, waiting in front of its experts, bytes read.
  using LookAtLayer = std::function<void(int64_t layer, const PassCost& cost)>;
  [[nodiscard]] PassCost of(const PassLoad& load, const LookAtLayer& look = {}) const;

 private:
  struct Layer {
    double before = 0;   ///< seconds until its experts can run
    double experts = 0;  ///< and of these
    double bytes = 0;    ///< from storage
    double wait = 0;     ///< seconds that its experts wait for them
  };
  [[nodiscard]] Layer cost_layer(size_t l, const PassLoad& load, PassCost& cost) const;
  void cost_logits(const PassLoad& load, PassCost& cost) const;
  void cost_ring(std::vector<Layer>& layers, const PassLoad& load, double slower, double storage_rate, PassCost& cost) const;

  const ModelSpec& spec_;
  const ModelWork& work_;
  const Machine& machine_;
  DType kv_dtype_;
  double ring_bytes_;
  double storage_rate_;              // bytes/s
  std::vector<double> streamed_;     // bytes of each layer
  std::vector<int64_t> read_ahead_;  // tokens from which on a layer is read before its routing is known
};

}  // namespace moegen
