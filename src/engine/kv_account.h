#pragma once

#include <cstdint>
#include <vector>

#include "memory/page_pool.h"
#include "model/kv_groups.h"

namespace moegen {

/// Which KV pages belong to which sequence. The table of a sequence is [rows, groups]: a row has a page for each group of layers, for the same
/// page_tokens positions. A page that no query to come sees is given back, and leaves kGone; one whose content is kept elsewhere leaves kKept.
class KvAccount {
 public:
  static constexpr int32_t kGone = -1, kKept = -2;
  using Table = std::vector<int32_t>;

  KvAccount(std::vector<KvGroup> groups, int page_tokens, int32_t pages) : groups_(std::move(groups)), page_tokens_(page_tokens), pool_(pages) {}

  /// The longest sequence that can be computed.
  [[nodiscard]] int64_t capacity() const { return longest_held(groups_, page_tokens_, pool_.size()); }
  /// Whether, beside a row for each of so many others, there are pages to compute so many tokens in passes of so many. Shorter passes do where the
  /// pool has no more.
  [[nodiscard]] bool holds(int64_t tokens, int64_t pass_tokens, int64_t others) const;

  /// Rows for the next `wanted` positions behind those `computed`, as far as there are pages; how many of these positions have one.
  int64_t reserve(Table& table, int64_t computed, int64_t wanted);
  /// What the query at `computed` does not see; `before` was the last such position.
  void release_unseen(Table& table, int64_t before, int64_t computed);
  /// All of it.
  void release(Table& table);
  /// All pages, until `take_again`.
  void lend(Table& table);
  /// Pages for all that were lent; there must be so many.
  void take_again(Table& table);

  [[nodiscard]] const PagePool& pool() const { return pool_; }

 private:
  [[nodiscard]] int64_t num_groups() const { return static_cast<int64_t>(groups_.size()); }

  std::vector<KvGroup> groups_;
  int64_t page_tokens_;
  PagePool pool_;
};

}  // namespace moegen
