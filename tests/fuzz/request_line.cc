// A line of a batch file.
#include "batch/request_line.h"

#include "batch/refusal.h"
#include "tests/fuzz/fuzz.h"

namespace moegen::testing {

void fuzz_one(std::string_view input) {
  const std::optional<std::string> at_start = custom_id_at_start(Line{.text = input, .number = 1, .too_long = true});
  try {
    const RequestLine line(Line{.text = input, .number = 1});
    require(!at_start || at_start == line.custom_id(), "the start of a line has the custom_id of the whole");
    const ParsedRequest got = line.parse({"m"});
    require(!got.request.prompts.empty(), "a request has a prompt");
    require(got.request.sampling.n >= 1, "a request has a choice");
  } catch (const Refusal& refused) {
    require(!refused.error.message.empty(), "a refusal says why");
  }
}

}  // namespace moegen::testing
