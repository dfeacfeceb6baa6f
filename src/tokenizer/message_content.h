#pragma once

#include <nlohmann/json.hpp>

namespace moegen {

/// How a template reads what it calls `content`: a message's own, or what was set to it.
struct ContentUse {
  bool as_parts = false;  ///< it loops over it
  bool as_none = false;   ///< it asks whether it is none
};

/// OpenAI's contents in the form that a template was written for. A list of text parts stays one where the template loops over
/// contents, else it is joined by line feeds, as in vLLM. Null, or none at all, is "", which all templates understand, but beside calls
/// where the template asks for none: those of DeepSeek V3 and R1 show calls there only.
void fit_contents(nlohmann::ordered_json& messages, const ContentUse& use);

}  // namespace moegen
