// A line that names a format, and an answer in it. Nothing throws for a text.
#include "tests/fuzz/fuzz.h"
#include "tests/output/support.h"

namespace moegen::testing {
namespace {

void check(OutputFormat format, std::string_view text, Thinking thinking) {
  const ParsedOutput got = parse(format, text, thinking);
  for (const ToolCall& call : got.tool_calls) {
    require(!call.name.empty(), "a call has a name");
    require(Json::parse(call.arguments).is_object(), "arguments are an object");
  }
  if (!got.plain) return;
  require(got.content == text, "a text in which nothing is found stays as it is");
  require(!got.reasoning && got.tool_calls.empty(), "nothing is found in a plain text");
}

}  // namespace

void fuzz_one(std::string_view input) {
  const size_t line = input.find('\n');
  const auto format = format_by_name(input.substr(0, line));
  if (!format || line == std::string_view::npos) return;
  for (const Thinking thinking : {Thinking::unsaid, Thinking::open, Thinking::closed}) check(*format, input.substr(line + 1), thinking);
}

}  // namespace moegen::testing
