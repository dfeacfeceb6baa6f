#pragma once

#include "model/steps.h"

namespace moegen {

/// Latent attention of the tokens of prompts in the expanded form: keys and values of each head are made again from the latents in the pages, some
/// pages at a time, shared by all queries of a part, which carry their softmax from one range of pages to the next. For a whole prompt that costs as
/// many products as taking k_b and v_b into queries and results, and then 3.4 times fewer for a query and a key (DeepSeek: 192 + 128 against
/// 576 + 512). A query's bits are those of its own keys in the order of position: no plan changes them.
/// @{

/// What a thread needs for it, in floats: pages of one head, what attention needs, what the expansion needs.
struct ExpandedScratch {
  ExpandedScratch(const AttentionSpec& spec, DType act);
  int64_t attention = 0;  ///< offset
  int64_t expansion = 0;  ///< offset
  int64_t end = 0;
  [[nodiscard]] int64_t floats() const { return end; }
};

/// weights -> kv_b. For each wave that has tokens of prompts.
void prepare_expansion(const StepContext& c, size_t layer);

/// q, pages -> heads (values of the heads), for the tokens of prompts in these blocks of a wave.
void attend_prompts(const StepContext& c, const Pass& pass, size_t layer, const Wave& wave, Range blocks);
/// @}

}  // namespace moegen
