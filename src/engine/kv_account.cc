#include "engine/kv_account.h"

#include <algorithm>
#include <utility>

#include "base/checked.h"

namespace moegen {

bool KvAccount::holds(int64_t tokens, int64_t pass_tokens, int64_t others) const {
  const int64_t needed = std::min<int64_t>(pages_held(groups_, page_tokens_, tokens, pass_tokens), pool_.size());
  return needed + others * num_groups() <= pool_.num_free();
}

int64_t KvAccount::reserve(Table& table, int64_t computed, int64_t wanted) {
  const int64_t rows = static_cast<int64_t>(table.size()) / num_groups();
  const int64_t more = std::min(ceil_div(computed + wanted, page_tokens_) - rows, pool_.num_free() / num_groups());
  for (int64_t i = 0; i < more * num_groups(); ++i) table.push_back(pool_.reserve());
  return std::min(wanted, (rows + std::max<int64_t>(more, 0)) * page_tokens_ - computed);
}

void KvAccount::release_unseen(Table& table, int64_t before, int64_t computed) {
  for (size_t g = 0; g < groups_.size(); ++g) {
    const int64_t end = groups_[g].first_seen(computed) / page_tokens_;
    for (int64_t row = groups_[g].first_seen(before) / page_tokens_; row < end; ++row) {
      int32_t& page = table[static_cast<size_t>(row) * groups_.size() + g];
      pool_.release(page);
      page = kGone;
    }
  }
}

void KvAccount::release(Table& table) {
  for (; !table.empty(); table.pop_back()) {
    if (table.back() >= 0) pool_.release(table.back());
  }
}

void KvAccount::lend(Table& table) {
  for (int32_t& page : table) {
    if (page >= 0) pool_.release(std::exchange(page, kKept));
  }
}

void KvAccount::take_again(Table& table) {
  for (int32_t& page : table) {
    if (page == kKept) page = pool_.reserve();
  }
}

}  // namespace moegen
