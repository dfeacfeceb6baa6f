#pragma once

#include <optional>
#include <string>

#include "tests/fuzz/fuzz.h"
#include "tests/grammar/support.h"

namespace moegen::testing {

/// Nothing comes of a token that the mask does not allow.
inline void check_banned(const GrammarState& state, const TokenMask& mask, int32_t id) {
  if (mask.allows(id)) return;
  GrammarState tried = state;
  tried.accept(id);
  require(!tried.can_end() && allowed(*tried.mask(), small_trie()->vocab()).empty(), "a token that is not allowed leads nowhere");
}

/// Writes a text, `choices` picking each token among the allowed ones. Nothing if they run out where it is not complete.
inline std::optional<std::string> write_text(const std::shared_ptr<Grammar>& grammar, std::string_view choices) {
  GrammarState state(grammar);
  std::string out;
  for (const char choice : choices) {
    const auto mask = state.mask();
    const auto ids = allowed(*mask, small_trie()->vocab());
    require(mask->can_end == state.can_end(), "mask and state agree on the end");
    require(state.ended() == ids.empty(), "a text has ended where nothing can follow");
    if (ids.empty()) break;
    const auto n = static_cast<uint8_t>(choice);
    check_banned(state, *mask, static_cast<int32_t>(n * 37 % small_trie()->vocab()));
    const int32_t id = ids[n % ids.size()];
    out += small_trie()->bytes(id);
    state.accept(id);
  }
  return state.can_end() ? std::optional(out) : std::nullopt;
}

}  // namespace moegen::testing
