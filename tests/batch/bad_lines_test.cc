// The hostile file (tests/data/bad.jsonl.zst): every line answered as bad.expect.json says, with the first of its codes.
#include <gtest/gtest.h>

#include <random>
#include <sstream>

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

// Bytes changed, removed, doubled and swapped between good requests: whatever comes out, each line gets one answer.
TEST(BadLines, MutatedLinesAreAnsweredOnceEach) {
  const std::string seeds[] = {
      request_text("a", R"({"prompt":[1,2],"max_tokens":3,"stop":["x"],"logit_bias":{"5":-1.5e2},"logprobs":2,"seed":-7,"echo":true})"),
      request_text("b", R"({"prompt":["x","\u00e9\ud83d\ude00"],"n":2,"top_p":0.5,"allowed_token_ids":[1,2],"response_format":{"type":"text"}})"),
      request_text("c", R"({"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]},{"role":"assistant","content":null,"tool_calls":
        [{"function":{"name":"f","arguments":"{\"a\":1e999}"}}]}],"tools":[{"type":"function","function":{"name":"f"}}],"top_logprobs":1,"logprobs":true})",
                   "/v1/chat/completions"),
      R"({"custom_id":"d","method":"POST","url":"/v1/completions","body":{"prompt":"x","temperature":1e999}})"};
  std::mt19937 rng(5);
  const auto pick = [&](size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(rng); };
  std::string input;
  for (int i = 0; i < 5000; ++i) {
    std::string line = seeds[pick(4)];
    line.erase(std::remove(line.begin(), line.end(), '\n'), line.end());
    for (size_t changes = pick(3) + 1; changes > 0; --changes) {
      const size_t at = pick(line.size());
      const size_t length = std::min(pick(8) + 1, line.size() - at);
      const std::string& other = seeds[pick(4)];
      switch (pick(4)) {
        case 0:
          line[at] = static_cast<char>(pick(256));
          break;
        case 1:
          line.erase(at, std::min(length, line.size() - 1));
          break;
        case 2:
          line.insert(at, line.substr(at, length));
          break;
        default:
          line.insert(at, other.substr(pick(other.size()), length));
          break;
      }
    }
    std::replace(line.begin(), line.end(), '\n', ' ');
    input += line + "\n";
  }
  const Scratch scratch;
  BatchOptions options = options_for(scratch);
  write_file(options.input, input);
  ASSERT_EQ(run_job(options, 8), 0);
  std::istringstream lines(input);
  size_t expected = 0;
  for (std::string line; std::getline(lines, line);) expected += line.find_first_not_of(" \t\r") != std::string::npos ? 1 : 0;
  EXPECT_EQ(read_lines(options.output).size(), expected);
}

}  // namespace
}  // namespace moegen::testing
