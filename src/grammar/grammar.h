#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "grammar/mask.h"
#include "grammar/network.h"
#include "grammar/token_trie.h"

namespace moegen {

/// What a text has to be, for one vocabulary. The meaning is immutable; automaton and masks are found as texts need them, behind
/// a mutex: every member may be called from many threads.
class Grammar {
 public:
  Grammar(grammar::Network network, std::shared_ptr<const grammar::TokenTrie> trie, std::shared_ptr<grammar::MaskBudget> budget);

  [[nodiscard]] const grammar::TokenTrie& trie() const { return *trie_; }
  [[nodiscard]] size_t network_bytes() const;

 private:
  friend class GrammarState;
  // Automaton and masks, begun anew where they have grown too large; those who are within the old ones keep them until they move.
  using Cache = grammar::MaskBuilder;
  std::shared_ptr<Cache> current();

  const grammar::Network network_;
  const std::shared_ptr<const grammar::TokenTrie> trie_;
  const std::shared_ptr<grammar::MaskBudget> budget_;
  std::mutex mutex_;
  std::shared_ptr<Cache> cache_;
};

/// Where one text is in its grammar. Copies are cheap. Not thread-safe itself; states of one grammar may be used at the same time.
class GrammarState {
 public:
  explicit GrammarState(std::shared_ptr<Grammar> grammar);

  /// What may come next. Depends on the tokens so far only. Throws Error(unsupported) where the grammar gets too ambiguous.
  [[nodiscard]] std::shared_ptr<const TokenMask> mask() const;
  /// Goes on behind a token. A token that is not allowed leaves a state that allows nothing. Throws as mask().
  void accept(int32_t token);
  /// Whether the text is complete here.
  [[nodiscard]] bool can_end() const;
  /// Whether the text is complete and nothing can follow.
  [[nodiscard]] bool ended() const;

 private:
  std::shared_ptr<Grammar> grammar_;
  std::shared_ptr<Grammar::Cache> cache_;
  int32_t state_;
};

}  // namespace moegen
