// The hostile file (tests/data/bad.jsonl.zst): every line answered as bad.expect.json says, with the first of its codes.
#include <gtest/gtest.h>

#include "tests/batch/scripted_engine.h"

namespace moegen::testing {
namespace {

const std::string kData = MOEGEN_SOURCE_DIR "/tests/data/";

void expect_answer(const Json& expected, const Json& got) {
  const Json& id = expected["custom_id"];
  EXPECT_TRUE(id.is_null() || got["custom_id"] == id) << got["custom_id"];
  const Json status = got["response"].is_null() ? Json() : got["response"]["status_code"];
  if (expected["result"] == "ok") {
    EXPECT_EQ(status, 200) << got;
    EXPECT_TRUE(got["error"].is_null());
    return;
  }
  if (expected["result"] == "either" && status == 200) return;
  const Json error = status.is_null() ? got["error"] : got["response"]["body"]["error"];
  ASSERT_TRUE(error.is_object()) << got;
  EXPECT_EQ(error["code"], expected["code"]) << error;
  EXPECT_EQ(error["param"], expected["param"]) << error;
  EXPECT_EQ(status, expected["status"]);
  EXPECT_FALSE(error["message"].get<std::string>().empty());
  EXPECT_TRUE(status.is_null() || error["type"] == "invalid_request_error");
}

TEST(BadLines, EveryLineIsAnsweredAsExpected) {
  const Scratch scratch;
  BatchOptions options = options_for(scratch);
  options.input = kData + "bad.jsonl.zst";
  options.ordered = true;
  EXPECT_EQ(run_job(options), 0);
  const std::vector<Json> answers = read_lines(options.output);
  const Json expected = Json::parse(read_file(kData + "bad.expect.json"))["lines"];
  size_t at = 0;
  for (const Json& line : expected) {
    if (line["result"] == "skip") continue;
    SCOPED_TRACE(line["line"].dump() + ": " + line.value("why", line["custom_id"].dump()).substr(0, 60));
    ASSERT_LT(at, answers.size());
    expect_answer(line, answers[at++]);
  }
  EXPECT_EQ(at, answers.size());
}

TEST(BadLines, ResumeAnswersNoneTwice) {
  const Scratch scratch;
  BatchOptions options = options_for(scratch);
  options.input = kData + "bad.jsonl.zst";
  options.error_file = scratch.path("errors");
  run_job(options, 4, 5);
  options.resume = true;
  EXPECT_EQ(run_job(options), 0);
  EXPECT_EQ(run_job(options, 1, -1, [](const Request& request) { ADD_FAILURE() << request.id << " again"; }), 0);
  EXPECT_EQ(read_lines(options.output).size() + read_lines(options.error_file).size(), 98U);
}

}  // namespace
}  // namespace moegen::testing
