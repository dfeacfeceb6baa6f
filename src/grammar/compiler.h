#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>

#include "grammar/grammar.h"
#include "moegen/request.h"

namespace moegen {

class Tokenizer;

/// The grammars of a model: compiled once per text, the last ones kept. The trie of the vocabulary is built with the first.
/// Not thread-safe; the grammars it gives are. Keeps a pointer to the tokenizer.
class GrammarCompiler {
 public:
  /// `vocab`: the number of logits.
  GrammarCompiler(const Tokenizer& tokenizer, int64_t vocab) : tokenizer_(&tokenizer), vocab_(vocab) {}
  explicit GrammarCompiler(std::shared_ptr<const grammar::TokenTrie> trie);

  /// Throws Error(unsupported | invalid_argument) naming what cannot be honoured, and where it stands.
  std::shared_ptr<Grammar> compile(const StructuredOutput& wanted);

  /// Bytes that all masks of a model may take together.
  static size_t mask_bytes(int64_t vocab) { return static_cast<size_t>(vocab) * 128; }
  /// What a run should leave for grammars: masks, and the trie.
  static size_t bytes_needed(int64_t vocab) { return mask_bytes(vocab) + static_cast<size_t>(vocab) * 48; }

 private:
  using Entry = std::pair<std::string, std::shared_ptr<Grammar>>;
  void build_trie();
  void drop_old();

  const Tokenizer* tokenizer_ = nullptr;
  int64_t vocab_ = 0;
  std::shared_ptr<const grammar::TokenTrie> trie_;
  std::shared_ptr<grammar::MaskBudget> budget_;
  std::list<Entry> recent_;  // the last used first
  size_t kept_bytes_ = 0;    // networks of those
  std::unordered_map<std::string, std::list<Entry>::iterator> by_text_;
};

}  // namespace moegen
