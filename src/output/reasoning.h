#pragma once

#include <optional>
#include <string_view>

namespace moegen {

/// Whether the prompt left the model inside its reasoning.
enum class Thinking {
  unsaid,  ///< the model opens it, or does not think
  open,    ///< the prompt ends with an opening tag
  closed,  ///< the prompt ends with a closing tag: no reasoning is to come
};

/// What a rendered prompt says about it. `continued`: it ends within an answer, which is in its reasoning or beyond.
Thinking thinking_of_prompt(std::string_view prompt, bool continued);

struct ReasoningMarks {
  std::string_view open, close;
  bool open_may_miss = false;  ///< a text with the closing mark only begins with reasoning
};

struct Reasoning {
  std::optional<std::string_view> reasoning;  ///< without the line feeds around it, which are the format's
  std::string_view rest;
  bool closed = true;  ///< false: the text ended within the reasoning, and `rest` is empty
};

/// Takes the reasoning from the begin of a text. An opening mark further behind is prose.
Reasoning split_reasoning(std::string_view text, const ReasoningMarks& marks, Thinking thinking);

}  // namespace moegen
