#pragma once

#include <cstdint>
#include <string>

#include "base/error.h"
#include "spec/families.h"

// What the readers of families.cc are made of: fields of config.json that many families have. All throw Error(corrupt) for what is missing or out of
// range.
namespace moegen {

/// Bounds that no real model comes near, so that products of a few of these stay far from 2^63.
constexpr int64_t kMaxWidth = 1 << 20;
constexpr int64_t kMaxVocab = 1 << 24;
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxExperts = 1 << 14;
constexpr int64_t kMaxMlps = 1 << 19;  // experts of all layers: a table of tensors is built from these
constexpr int64_t kMaxPositions = int64_t{1} << 31;

/// Throws Error(unsupported) naming the file and what.
[[noreturn]] void unsupported(const Config& c, const std::string& what);

inline int to_int(int64_t x) { return static_cast<int>(x); }

/// What all families share; each layer gets the same attention and a dense MLP.
[[nodiscard]] ModelSpec read_common(const Config& c, const Family& family);

/// Routed experts of the fields that are named; a softmax before the choice.
[[nodiscard]] MlpSpec read_experts(const Config& c, std::string_view count_field, std::string_view width_field, bool renormalize);

/// Throws Error(corrupt) where what is turned is not whole pairs.
void check_rope(const Config& c, const RopeSpec& rope);

/// longrope beyond the context of the first training, as vLLM has it: chosen by how long a context may become, not by how long it is.
void take_long_context(const Config& c, ModelSpec& spec);

/// sliding_window, 0 for none; `otherwise` where config.json does not mention it.
[[nodiscard]] int64_t read_window(const Config& c);

constexpr auto kEveryLayer = [](int64_t) { return true; };

/// Gives the window to the layers that layer_types names; without it, to those of the family's rule.
void set_windows(const Config& c, ModelSpec& s, int64_t window, const auto& rule) {
  const auto types = c.texts("layer_types");
  if (!types.empty() && types.size() != s.layers.size()) {
    throw_error(ErrorCode::corrupt, "{}: layer_types has {} entries for {} layers", c.where(), types.size(), s.layers.size());
  }
  for (size_t i = 0; i < s.layers.size(); ++i) {
    const bool slides = types.empty() ? rule(static_cast<int64_t>(i)) : types[i] == "sliding_attention";
    if (!types.empty() && !slides && types[i] != "full_attention") unsupported(c, "layer type \"" + types[i] + "\"");
    s.layers[i].attention.window = slides ? to_int(window) : 0;
  }
}

void each_attention(ModelSpec& s, const auto& change) {
  for (LayerSpec& layer : s.layers) change(layer.attention);
}

}  // namespace moegen
