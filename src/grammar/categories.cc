#include "grammar/categories.h"

#include <utf8proc.h>

#include <functional>
#include <map>
#include <string>

namespace moegen::grammar {

const CodePoints* category(std::string_view name) {
  using Sets = std::map<std::string, CodePoints, std::less<>>;
  static const Sets sets = [] {
    Sets out;
    uint32_t first = 0;
    for (uint32_t c = 0; c <= kLastCodePoint; ++c) {
      const auto next = static_cast<utf8proc_int32_t>(c + 1);
      if (c < kLastCodePoint && utf8proc_category(static_cast<utf8proc_int32_t>(first)) == utf8proc_category(next)) continue;
      const std::string own = utf8proc_category_string(static_cast<utf8proc_int32_t>(first));
      out[own].add(first, c);
      out[own.substr(0, 1)].add(first, c);
      first = c + 1;
    }
    return out;
  }();
  const auto found = sets.find(name);
  return found != sets.end() ? &found->second : nullptr;
}

}  // namespace moegen::grammar
