// A JSON schema, and bytes that choose the tokens of a text under it. The text has to be valid.
#include "base/json.h"
#include "moegen/error.h"
#include "tests/fuzz/grammar_walk.h"
#include "tests/grammar/schema_check.h"

namespace moegen::testing {
namespace {

std::optional<std::string> written(std::string_view schema, std::string_view choices) {
  constexpr size_t kMaxChoices = 64;
  try {
    return write_text(compile(StructuredOutput::Kind::json_schema, std::string(schema)), choices.substr(0, kMaxChoices));
  } catch (const Error&) {
    return {};  // refused with a message
  }
}

}  // namespace

void fuzz_one(std::string_view input) {
  const auto [schema, choices] = two_parts(input);
  const auto text = written(schema, choices);
  if (!text) return;
  const auto root = parse_ordered_json(schema, "the schema");
  const auto value = parse_ordered_json(*text, "what was written", {.max_depth = 512});
  try {
    const std::string wrong = violation(root, root, value);
    require(wrong.empty(), fmt::format("{} is valid under the schema ({})", *text, wrong));
  } catch (const CyclicSchema&) {
    return;  // the validator's limit
  }
}

}  // namespace moegen::testing
