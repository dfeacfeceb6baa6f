#pragma once

#include <cstdint>

#include "profile/roofs.h"
#include "spec/model_spec.h"

namespace moegen {

/// What runs through a model: `passes` sweeps over its layers carry `tokens` in all, of which generated ones see `keys` keys in all (of each layer)
/// and those of prompts `prompt_keys`, and sample `samples` tokens.
struct Sweeps {
  double passes = 0;
  double tokens = 0;
  double keys = 0;
  double prompt_keys = 0;
  double samples = 0;
  double experts_used = 1;  ///< share of a layer's experts that some token of a pass chooses, on average
  double kv_reads = 0;      ///< tokens whose K and V are read: those of every sequence, once a pass
};

/// The least that `sweeps` cost: all multiply-adds; weights read once a pass, of the experts those that some token chooses;
/// K and V read once a sequence and pass. Activations are taken to stay in caches.
[[nodiscard]] Work model_work(const ModelSpec& spec, DType kv_dtype, const Sweeps& sweeps);

/// The dtype of the products: bf16 where activations and weights are.
[[nodiscard]] DType product_dtype(const ModelSpec& spec, DType act);

}  // namespace moegen
