#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "batch/field.h"
#include "batch/request_line.h"

namespace moegen {

/// A request body while its fields are read.
struct Body {
  Endpoint endpoint;
  std::string_view text;                   ///< its JSON
  const std::vector<std::string>& models;  ///< names the model goes by
  ParsedRequest result;
  Chat chat;
  bool chat_logprobs = false;
  std::optional<int> top_logprobs;
  bool max_completion_tokens = false;  ///< given: wins over max_tokens
};

/// Reads every member of `json` into `body` and checks what concerns several of them. Throws Refusal.
void read_body(const nlohmann::json& json, Body& body);

/// `prompt` of a text completion, in its four forms.
void read_prompt(const Field& field, Body& body);

/// The parts of a conversation. They become JSON texts in the form that templates expect. Contents, and arguments of tool calls, stay as they
/// are: only the template says what it reads (`fit_contents`).
void read_messages(const Field& field, Body& body);
void read_tools(const Field& field, Body& body);
void read_documents(const Field& field, Body& body);
void read_template_kwargs(const Field& field, Body& body);

/// What the text has to be. The shape is checked here, the schema itself at admission.
void read_response_format(const Field& field, Body& body);
void read_structured_outputs(const Field& field, Body& body);

}  // namespace moegen
