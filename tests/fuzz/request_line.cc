// A line of a batch file.
#include "batch/request_line.h"

#include "batch/refusal.h"
#include "tests/fuzz/fuzz.h"

namespace moegen::testing {

void fuzz_one(std::string_view input) {
  try {
    const ParsedRequest got = RequestLine(Line{.text = input, .number = 1}).parse({"m"});
    require(!got.request.prompts.empty(), "a request has a prompt");
    require(got.request.sampling.n >= 1, "a request has a choice");
  } catch (const Refusal& refused) {
    require(!refused.error.message.empty(), "a refusal says why");
  }
}

}  // namespace moegen::testing
