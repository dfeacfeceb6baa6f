#pragma once

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "grammar/compiler.h"

namespace moegen::testing {

/// A vocabulary of all bytes, and of some longer tokens that cross what grammars tell apart.
inline std::vector<std::string> small_vocabulary() {
  std::vector<std::string> out;
  for (int b = 0; b < 256; ++b) out.emplace_back(1, static_cast<char>(b));
  for (const char* s :
       {"{\"",  "\":",   "\": ", "\": \"", "\", \"", "\",\"", "\"}", "}}",  "]]", "],",   "},",      "{}",   "[]",    "[[",    "tr",  "ue",
        "true", "false", "null", "name",   "age",    "a",     "ab",  "abc", "é",  "\xC3", "日本",    "\\\"", "\\u",   "\\u00", "12",  "123",
        ".5",   "0.",    "-1",   "e5",     " ",      "  ",    ", ",  "\n",  "1,", ",2",   "\"a\":1", "}]",   "null}", "\\n\"", "x\"}"}) {
    out.emplace_back(s);
  }
  out.emplace_back();  // no bytes: as special tokens
  return out;
}

inline std::shared_ptr<const grammar::TokenTrie> small_trie() {
  static const auto trie = std::make_shared<const grammar::TokenTrie>(small_vocabulary());
  return trie;
}

inline std::shared_ptr<Grammar> compile(StructuredOutput::Kind kind, const std::string& text) {
  return GrammarCompiler(small_trie()).compile({kind, text, "structured_outputs"});
}
inline std::shared_ptr<Grammar> regex(const std::string& text) { return compile(StructuredOutput::Kind::regex, text); }
inline std::shared_ptr<Grammar> schema(const std::string& text) { return compile(StructuredOutput::Kind::json_schema, text); }

/// Whether a text is complete, byte by byte.
inline bool accepts(const std::shared_ptr<Grammar>& grammar, std::string_view text) {
  GrammarState state(grammar);
  for (const char c : text) state.accept(static_cast<uint8_t>(c));
  return state.can_end();
}

inline std::vector<int32_t> allowed(const TokenMask& mask, int64_t vocab) {
  std::vector<int32_t> out;
  for (int32_t id = 0; id < vocab; ++id) {
    if (mask.allows(id)) out.push_back(id);
  }
  return out;
}

/// A text as a model without a clue would write it; it ends where it may, with some chance. Empty tail: gave up.
inline std::string random_text(const std::shared_ptr<Grammar>& grammar, std::mt19937& rng, bool& complete, size_t max_tokens = 400) {
  GrammarState state(grammar);
  std::string out;
  complete = false;
  for (size_t i = 0; i < max_tokens; ++i) {
    const auto mask = state.mask();
    const auto ids = allowed(*mask, grammar->trie().vocab());
    if (mask->can_end && (ids.empty() || rng() % 4 == 0)) {
      complete = true;
      return out;
    }
    if (ids.empty()) return out + "<nothing is allowed>";
    const int32_t id = ids[rng() % ids.size()];
    out += grammar->trie().bytes(id);
    state.accept(id);
  }
  return out;
}

}  // namespace moegen::testing
