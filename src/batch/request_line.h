#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "batch/line_reader.h"
#include "moegen/request.h"

namespace moegen {

enum class Endpoint { completions, chat };

/// What an answer needs to know of its request, beside the Completion.
struct AnswerPlan {
  Endpoint endpoint = Endpoint::completions;
  std::string model;
  bool echo = false;
  bool return_token_ids = false;
  std::optional<int> logprobs;          ///< k best for the generated tokens (and with echo the prompt's)
  std::optional<int> prompt_logprobs;   ///< k best for the prompt's tokens, in vLLM's form
  std::vector<std::string> echo_texts;  ///< prompts given as text, if echo
};

struct ParsedRequest {
  Request request;
  AnswerPlan answer;
};

/// Throws Error(invalid_argument), with the way to JSON lines, where the first line of `input` is that of a JSON array or of CSV.
void refuse_other_formats(std::string_view first_line, const std::string& input);

/// The custom_id in the start of a line that is too long; empty: there is none as far as that goes.
std::optional<std::string> custom_id_at_start(const Line& line);

/// A line of a batch file, read in two steps because a line whose custom_id is known to be answered needs no second one.
/// Also a plain one, which is the body itself: {"prompt": ..} or {"messages": ..}, with a custom_id or without.
class RequestLine {
 public:
  /// Reads the line as JSON. Throws Refusal(kUnreadable).
  explicit RequestLine(const Line& line);

  /// The line's custom_id, if it is a string; an empty one does not identify anything. "line-17" of a plain line without one.
  [[nodiscard]] const std::optional<std::string>& custom_id() const { return custom_id_; }
  /// Whether that is only where the line stands.
  [[nodiscard]] bool named_by_place() const { return plain_ && !line_.contains("custom_id"); }
  /// The request. `models`: the names the model goes by, its own first. Throws Refusal.
  [[nodiscard]] ParsedRequest parse(const std::vector<std::string>& models) const;

 private:
  [[nodiscard]] ParsedRequest parse_body(const nlohmann::json& body, std::string_view text, Endpoint endpoint,
                                         const std::vector<std::string>& models) const;

  std::string text_;
  nlohmann::json line_;
  std::optional<std::string> custom_id_;
  bool plain_ = false;
  bool clamped_ = false;  // a number beyond double was cut to the largest one, or half a character was replaced
};

}  // namespace moegen
