#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "output/calls.h"

namespace moegen {

struct HarmonyOutput {
  std::string reasoning;
  Calls calls;
};

/// gpt-oss: messages with a header, <|start|>assistant<|channel|>CHANNEL to=RECIPIENT <|constrain|>json<|message|>, and an end,
/// <|end|>, <|call|> or <|return|>, which the end of the text replaces. The first header begins where the prompt ended, behind
/// the role. analysis is reasoning, and so is what goes to a tool that comes with the model; commentary and final are content;
/// what goes to another, with functions. before its name or without, is a call. With `with_calls` off, calls are content.
/// Nothing comes back for a text that is no harmony.
std::optional<HarmonyOutput> parse_harmony(std::string_view text, const ToolSchemas& schemas, bool with_calls);

}  // namespace moegen
