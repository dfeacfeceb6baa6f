#include "output/reasoning.h"

#include <utility>

#include "output/cursor.h"

namespace moegen {

namespace {

constexpr std::pair<std::string_view, std::string_view> kPromptMarks[] = {{"<think>", "</think>"}, {"[THINK]", "[/THINK]"}};

}  // namespace

Thinking thinking_of_prompt(std::string_view prompt, bool continued) {
  if (continued) {
    for (const auto& [open, close] : kPromptMarks) {
      const size_t at = prompt.rfind(open);
      if (at != std::string_view::npos && prompt.find(close, at) == std::string_view::npos) return Thinking::open;
    }
    return Thinking::closed;
  }
  const size_t last = prompt.find_last_not_of(kSpace);
  const std::string_view text = prompt.substr(0, last == std::string_view::npos ? 0 : last + 1);
  for (const auto& [open, close] : kPromptMarks) {
    if (text.ends_with(open)) return Thinking::open;
    if (text.ends_with(close)) return Thinking::closed;
  }
  return Thinking::unsaid;
}

Reasoning split_reasoning(std::string_view text, const ReasoningMarks& marks, Thinking thinking) {
  Cursor c{text};
  c.skip_space();
  const bool opened = c.skip(marks.open);
  if (opened) c.skip_again(marks.open);
  const size_t begin = opened ? c.pos : 0;
  const size_t end = text.find(marks.close, begin);
  if (!opened && thinking != Thinking::open) {
    if (!marks.open_may_miss || thinking == Thinking::closed || end == std::string_view::npos) return {std::nullopt, text};
    if (text.substr(0, end).find(marks.open) != std::string_view::npos) return {std::nullopt, text};
  }
  if (end == std::string_view::npos) return {trimmed(text.substr(begin), "\n"), {}, false};
  std::string_view rest = text.substr(end + marks.close.size());
  rest.remove_prefix(std::min(rest.find_first_not_of('\n'), rest.size()));
  return {trimmed(text.substr(begin, end - begin), "\n"), rest};
}

}  // namespace moegen
