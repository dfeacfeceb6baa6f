#pragma once

#include <nlohmann/json.hpp>

namespace moegen {

/// How a template reads what it calls `content`, a message's own or what was set to it, and the `arguments` of calls.
struct ContentUse {
  bool as_parts = false;          ///< it loops over it
  bool as_none = false;           ///< it asks whether it is none
  bool writes_arguments = false;  ///< it prints them, or joins them to a text, as they are
  bool reads_arguments = false;   ///< it asks of what type they are, or uses them as a value
};

/// OpenAI's contents in the form that a template was written for. A list of text parts stays one where the template loops over
/// contents, else it is joined by line feeds, as in vLLM. Null, or none at all, is "", which all templates understand, but beside calls
/// where the template asks for none: those of DeepSeek V3 and R1 show calls there only. Arguments of calls that are a text become the value that it
/// is the JSON of, as in vLLM, but where the template needs the text, again those of DeepSeek. Throws Error(invalid_argument) where it is no JSON.
void fit_contents(nlohmann::ordered_json& messages, const ContentUse& use);

}  // namespace moegen
