#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "grammar/dfa.h"

namespace moegen::grammar {

/// Rules that call each other: a recursive transition network over bytes. Immutable once built; rule 0 is the whole text.
/// From every node some text leads to the end of its rule, and to that of the calls on the way.
struct Network {
  enum class Kind : uint8_t {
    byte,  ///< takes a byte of lo..hi
    skip,  ///< takes nothing
    call,  ///< runs `rule`, then goes on at `to`
  };
  struct Edge {
    int32_t to;
    int32_t rule;  ///< of a call
    uint8_t lo;
    uint8_t hi;
    Kind kind;
  };
  struct Node {
    uint32_t first_edge = 0;
    uint32_t num_edges = 0;
    int32_t height = 0;  ///< frames that the shortest way to the end of the rule needs
    /// A node that takes the same bytes of any token, with a smaller or equal number: the masks of both are equal.
    int32_t alias = 0;
    bool final = false;  ///< the rule may end here
  };
  std::vector<Node> nodes;  ///< the last one is final and has no edges
  std::vector<Edge> edges;
  std::vector<int32_t> starts;           ///< by rule
  std::array<uint8_t, 256> class_of{};   ///< bytes that no edge tells apart
  std::vector<uint8_t> representatives;  ///< of the classes
};

/// Puts a Network together. Every function that adds may throw Error(unsupported): too large.
class NetworkBuilder {
 public:
  static constexpr int32_t kMaxDepth = 64;  ///< frames at most: nested objects and arrays

  int32_t add_node();
  /// A new rule, with its start node.
  int32_t add_rule();
  [[nodiscard]] int32_t start(int32_t rule) const { return starts_[static_cast<size_t>(rule)]; }
  /// The rule of an automaton; the first rule if there is none yet.
  int32_t add_rule(const Dfa& dfa);

  void byte(int32_t from, uint8_t lo, uint8_t hi, int32_t to) { add_edge(from, {to, 0, lo, hi, Network::Kind::byte}); }
  void skip(int32_t from, int32_t to) { add_edge(from, {to, 0, 0, 0, Network::Kind::skip}); }
  void call(int32_t from, int32_t rule, int32_t to) { add_edge(from, {to, rule, 0, 0, Network::Kind::call}); }
  void finish(int32_t node) { nodes_[static_cast<size_t>(node)].final = true; }
  /// The node behind `bytes`, on a path of its own.
  int32_t text(int32_t from, std::string_view bytes);
  /// One of the texts, which share their beginnings. Paths end at nodes that skip to `to`.
  void texts(int32_t from, const std::vector<std::string_view>& texts, int32_t to);

  /// `horizon`: the longest token in bytes. Throws Error(invalid_argument) where no text ends the first rule.
  Network build(int32_t horizon);

 private:
  struct Node {
    std::vector<Network::Edge> edges;
    bool final = false;
    int32_t height = kUnreachable;
  };
  static constexpr int32_t kUnreachable = 1 << 20;
  void add_edge(int32_t from, Network::Edge edge);
  bool is_tail(const Network::Edge& e) const;
  [[nodiscard]] int32_t height_over(const Network::Edge& e) const;
  void find_heights();

  std::vector<Node> nodes_;
  std::vector<int32_t> starts_;
  size_t num_edges_ = 0;
};

}  // namespace moegen::grammar
