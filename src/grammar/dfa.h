#pragma once

#include <cstdint>
#include <vector>

#include "grammar/pattern.h"

namespace moegen::grammar {

/// How a code point stands in the text.
enum class Encoding {
  plain,   ///< its UTF-8
  quoted,  ///< within a JSON string: UTF-8, or the one escape that nlohmann::json writes
};

/// A deterministic automaton over bytes. State 0 is the start.
struct Dfa {
  struct Edge {
    uint8_t lo;
    uint8_t hi;
    int32_t to;
  };
  struct State {
    std::vector<Edge> edges;  ///< ascending, disjoint
    bool accepts = false;
  };
  std::vector<State> states;
};

/// The automaton of a pattern without anchors. Work and size are bounded, so that hostile patterns are refused within a
/// second. Throws Error(unsupported).
Dfa build_dfa(const Pattern& pattern, Encoding encoding);

/// The texts that both take. As bounded as build_dfa.
Dfa intersection(const Dfa& a, const Dfa& b);

}  // namespace moegen::grammar
