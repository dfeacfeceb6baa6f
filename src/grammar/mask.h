#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "grammar/machine.h"
#include "grammar/token_trie.h"

namespace moegen {

/// The tokens that may come next. Immutable, shared.
struct TokenMask {
  std::vector<uint64_t> bits;  ///< by id; empty: `ids` has them all
  std::vector<int32_t> ids;    ///< ascending
  bool can_end = false;        ///< the text may end here

  [[nodiscard]] bool allows(int32_t id) const;
  [[nodiscard]] size_t memory() const { return sizeof(*this) + bits.capacity() * sizeof(uint64_t) + ids.capacity() * sizeof(int32_t); }
};

namespace grammar {

/// Bytes that all masks of a model may take together.
struct MaskBudget {
  explicit MaskBudget(size_t bytes) : limit(bytes) {}
  const size_t limit;
  std::atomic<size_t> used{0};
};

/// What tokens do above an empty stack: those that stay there, and the places of the trie where the stack runs out.
struct LocalMask {
  std::vector<uint64_t> bits;
  std::vector<int32_t> exits;  ///< with tokens below them
};

/// Walks `machine` from `state` along the subtree below `node` and sets the bits of the tokens that it takes. `exits`, if not
/// null, gets the nodes with children where the state accepts.
void walk(Machine& machine, int32_t state, const TokenTrie& trie, int32_t node, std::vector<uint64_t>& bits, std::vector<int32_t>* exits);

/// Masks of the states of a machine. A state's stacks matter to few tokens only, so what happens above them is kept apart
/// and shared by all stacks; the rest of the tokens is tried with each stack. Not thread-safe.
class MaskBuilder {
 public:
  MaskBuilder(const Network& network, const TokenTrie& trie, MaskBudget& budget);
  ~MaskBuilder();
  MaskBuilder(const MaskBuilder&) = delete;
  MaskBuilder& operator=(const MaskBuilder&) = delete;

  Machine machine;
  /// Kept while the budget lasts; the oldest go first.
  std::shared_ptr<const TokenMask> mask(int32_t state);
  [[nodiscard]] size_t memory() const { return machine.memory(); }

 private:
  struct Kept {
    std::shared_ptr<const TokenMask> mask;
    uint64_t last_use;
  };
  std::shared_ptr<const LocalMask> local(std::vector<Machine::Config> configs);
  void add_group(std::span<const Machine::Config> configs, std::vector<uint64_t>& bits);
  std::shared_ptr<const TokenMask> make(int32_t state);
  bool make_room(size_t bytes);

  const Network& network_;
  const TokenTrie& trie_;
  MaskBudget& budget_;
  size_t charged_ = 0;
  uint64_t clock_ = 0;
  std::unordered_map<int32_t, Kept> masks_;
  std::unordered_map<int32_t, std::shared_ptr<const LocalMask>> locals_;
};

}  // namespace grammar
}  // namespace moegen
