#pragma once

#include <cstdint>
#include <span>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "grammar/network.h"

namespace moegen::grammar {

/// Runs a Network: sets of (node, stack), made deterministic as far as texts lead there. Stacks are shared frames, so a state
/// is a number and a step mostly a look into a table. Not thread-safe. Keeps a pointer to the network.
class Machine {
 public:
  static constexpr int32_t kDead = -1;
  struct Config {
    int32_t node;
    int32_t frame;
    bool operator==(const Config&) const = default;
    bool operator<(const Config& other) const { return std::tie(node, frame) < std::tie(other.node, other.frame); }
  };
  explicit Machine(const Network& network);

  [[nodiscard]] int32_t start() const { return start_; }
  /// The state behind one more byte, or kDead. Throws Error(unsupported) where a state would be too ambiguous.
  int32_t step(int32_t state, uint8_t byte) {
    const int32_t to = rows_[static_cast<size_t>(state) * width_ + network_->class_of[byte]];
    return to != kUnknown ? to : find_step(state, network_->class_of[byte]);
  }
  /// Whether the text, or what stands above the empty stack, may end here.
  [[nodiscard]] bool accepts(int32_t state) const { return states_[static_cast<size_t>(state)].accepts; }
  /// Whether nothing can follow.
  [[nodiscard]] bool ended(int32_t state) const { return configs(state).empty(); }

  /// The places of a state that take a byte, ascending.
  [[nodiscard]] std::span<const Config> configs(int32_t state) const {
    const State& s = states_[static_cast<size_t>(state)];
    return {configs_.data() + s.first, configs_.data() + s.end};
  }
  /// The state of `configs` and of all that can be reached from there without a byte.
  int32_t intern(std::vector<Config> configs);
  /// Where the rule above `frame` ends: the state below it. Not for the frames of empty stacks.
  int32_t pop(int32_t frame) { return intern({{frames_[static_cast<size_t>(frame)].to, frames_[static_cast<size_t>(frame)].parent}}); }
  [[nodiscard]] bool is_bottom(int32_t frame) const { return frame <= NetworkBuilder::kMaxDepth; }
  /// The empty stack that allows as much nesting as is left above `frame`.
  [[nodiscard]] int32_t bottom_like(int32_t frame) const { return depth(frame); }
  /// The same state in `other`, a machine of the same network.
  int32_t copy_to(Machine& other, int32_t state) const;
  [[nodiscard]] size_t memory() const;

 private:
  static constexpr int32_t kUnknown = -2;
  struct Frame {
    int32_t to;      // where it goes on
    int32_t parent;  // the frame below
    int32_t depth;
  };
  struct State {
    uint32_t first;
    uint32_t end;
    bool accepts;
  };
  [[nodiscard]] int32_t depth(int32_t frame) const { return frames_[static_cast<size_t>(frame)].depth; }
  int32_t find_step(int32_t state, uint8_t byte_class);
  int32_t push(int32_t to, int32_t parent);
  bool close(std::vector<Config>& configs);
  void visit(int32_t node, int32_t frame);

  const Network* network_;
  size_t width_;
  int32_t start_;
  std::vector<Frame> frames_;  // those up to kMaxDepth are empty stacks, of that depth
  std::unordered_map<uint64_t, int32_t> frame_ids_;
  std::vector<State> states_;
  std::vector<Config> configs_;
  std::vector<int32_t> rows_;
  std::unordered_multimap<uint64_t, int32_t> state_ids_;
  std::vector<Config> open_;              // of close()
  std::unordered_set<uint64_t> visited_;  // of close(), where there are many
  std::vector<Config> seen_;
};

}  // namespace moegen::grammar
