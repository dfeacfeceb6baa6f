#include "model/kv_groups.h"

#include <algorithm>
#include <limits>

#include "base/checked.h"
#include "kernels/kv_page.h"

namespace moegen {

int64_t KvGroup::first_seen(int64_t position) const { return moegen::first_seen(position, window, chunk); }

int64_t pages_held(std::span<const KvGroup> groups, int64_t page_tokens, int64_t tokens, int64_t pass_tokens) {
  const int64_t rows = ceil_div(tokens, page_tokens);
  int64_t pages = 0;
  for (const KvGroup& g : groups) {
    const int64_t reach = (g.chunk > 0 ? g.chunk : g.window) + pass_tokens - 1;  // positions, which may begin anywhere in a page
    pages += g.bounded() ? std::min(rows, ceil_div(reach - 1, page_tokens) + 1) : rows;
  }
  return pages;
}

int64_t longest_held(std::span<const KvGroup> groups, int64_t page_tokens, int64_t pages) {
  constexpr int64_t kBeyondAnyWindow = int64_t{1} << 40;
  const auto fit = [&](int64_t rows) { return pages_held(groups, page_tokens, rows * page_tokens) <= pages; };
  if (fit(kBeyondAnyWindow)) return std::numeric_limits<int64_t>::max();
  int64_t low = 0;
  for (int64_t high = pages; low < high;) {
    const int64_t middle = high - (high - low) / 2;
    if (fit(middle)) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low * page_tokens;
}

}  // namespace moegen
