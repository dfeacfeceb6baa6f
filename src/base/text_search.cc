#include "base/text_search.h"

#include <cstring>
#include <vector>

namespace moegen {
namespace {

constexpr size_t kShort = 32;  // up to here the product is no matter, and the plain search is faster

}  // namespace

size_t find_text(std::string_view text, std::string_view what, size_t from) {
  if (what.size() <= kShort || from > text.size()) return text.find(what, from);
  const void* at = memmem(text.data() + from, text.size() - from, what.data(), what.size());  // glibc's and musl's are two-way searches
  return at == nullptr ? std::string_view::npos : static_cast<size_t>(static_cast<const char*>(at) - text.data());
}

// Knuth, Morris and Pratt's search from the end: `what` backwards, and for each of its beginnings how long a shorter one is its end.
size_t rfind_text(std::string_view text, std::string_view what) {
  if (what.size() <= kShort) return text.rfind(what);
  const auto wanted = [&](size_t i) { return what[what.size() - 1 - i]; };
  std::vector<size_t> shorter(what.size() + 1, 0);
  const auto next = [&](size_t matched, char c) {
    while (matched > 0 && wanted(matched) != c) matched = shorter[matched];
    return matched + (wanted(matched) == c ? 1 : 0);
  };
  for (size_t i = 1; i < what.size(); ++i) shorter[i + 1] = next(shorter[i], wanted(i));
  size_t matched = 0;
  for (size_t at = text.size(); at-- > 0;) {
    matched = next(matched, text[at]);
    if (matched == what.size()) return at;
  }
  return std::string_view::npos;
}

}  // namespace moegen
