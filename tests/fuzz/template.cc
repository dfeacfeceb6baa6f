// A chat template, and the JSON object that it is rendered with.
#include "base/json.h"
#include "moegen/error.h"
#include "tests/fuzz/fuzz.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/unicode.h"

namespace moegen::testing {

void fuzz_one(std::string_view input) {
  const auto [source, context] = two_parts(input);
  constexpr RenderLimits kSmall{.max_steps = 200'000, .max_bytes = 4 << 20, .max_text_bytes = 1 << 20};  // thousands of runs a second
  try {
    const nlohmann::ordered_json variables = context.empty() ? nlohmann::ordered_json::object() : parse_ordered_json(context, "the context");
    const std::string text = Template::parse(std::string(source)).render(variables, "2027-11-30T23:05:59", kSmall);
    require(text::first_invalid(text) == text.size(), "what is rendered is UTF-8");
  } catch (const Error&) {
    return;  // refused with a message
  }
}

}  // namespace moegen::testing
