#pragma once

#include <cstdint>
#include <map>
#include <tuple>
#include <vector>

#include "grammar/dfa.h"

namespace moegen::grammar {

/// Thompson's automaton of a pattern, over bytes.
class Nfa {
 public:
  struct Edge {
    int32_t to;
    int32_t next;  ///< of the same state, or -1
    uint8_t lo;
    uint8_t hi;
    bool empty;  ///< takes no byte
  };
  Nfa(const Pattern& pattern, Encoding encoding);

  [[nodiscard]] size_t size() const { return first_.size(); }
  [[nodiscard]] int32_t start() const { return 0; }
  [[nodiscard]] int32_t accept() const { return accept_; }
  [[nodiscard]] int32_t first_edge(int32_t state) const { return first_[static_cast<size_t>(state)]; }
  [[nodiscard]] const Edge& edge(int32_t e) const { return edges_[static_cast<size_t>(e)]; }
  [[nodiscard]] const std::vector<Edge>& edges() const { return edges_; }

 private:
  int32_t add_state();
  void add_edge(int32_t from, int32_t to, int lo, int hi, bool empty = false);
  void skip(int32_t from, int32_t to) { add_edge(from, to, 0, 0, true); }
  // Emit what lies behind `from`; give the state behind it.
  int32_t emit(const Pattern& p, int32_t from);
  int32_t emit_repeat(const Pattern& p, int32_t from);
  void emit_set(const CodePoints& set, int32_t from, int32_t to);
  void emit_bytes(const CodePoints& set, int32_t from, int32_t to);
  void emit_escapes(int32_t from, int32_t to);

  Encoding encoding_;
  std::vector<int32_t> first_;
  std::vector<Edge> edges_;
  std::map<std::tuple<int32_t, uint8_t, uint8_t>, int32_t> tails_;  // shared ends of UTF-8 forms, while a set is emitted
  int32_t accept_ = 0;
};

}  // namespace moegen::grammar
