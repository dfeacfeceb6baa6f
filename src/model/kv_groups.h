#pragma once

#include <cstdint>
#include <span>

namespace moegen {

/// Layers that have their keys and values in the same pages, because their queries see equally far back. 0: all.
struct KvGroup {
  int64_t window = 0;  ///< AttentionSpec's
  int64_t chunk = 0;   ///< likewise
  bool operator==(const KvGroup&) const = default;

  [[nodiscard]] bool bounded() const { return window > 0 || chunk > 0; }
  /// First position that the query at `position`, or any behind it, sees.
  [[nodiscard]] int64_t first_seen(int64_t position) const;
};

/// Pages that a sequence of so many tokens has at most, if none of its passes computes more than `pass_tokens` of them: for each group those of
/// its positions, or of those that queries of one pass see.
[[nodiscard]] int64_t pages_held(std::span<const KvGroup> groups, int64_t page_tokens, int64_t tokens, int64_t pass_tokens = 1);

/// The longest sequence that can be computed with so many pages, in tokens; a multiple of page_tokens, or the largest number where windows bound all
/// that it needs.
[[nodiscard]] int64_t longest_held(std::span<const KvGroup> groups, int64_t page_tokens, int64_t pages);

}  // namespace moegen
