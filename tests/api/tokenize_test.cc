#include <gtest/gtest.h>

#include <sstream>

#include "moegen/error.h"
#include "moegen/tokenizer.h"
#include "tests/tokenizer/small_tokenizer.h"

namespace moegen {
namespace {

using nlohmann::json;

std::vector<json> answers(const std::string& lines) {
  const testing::ScratchDir dir;
  dir.write("tokenizer.json", testing::byte_fallback_tokenizer().dump());
  dir.write("chat_template.jinja", "{{ messages[0].content }}{{ strftime_now('%d') }}{{ add_generation_prompt }}");
  std::istringstream in(lines);
  std::ostringstream out;
  run_tokenize(dir.path(), in, out);
  std::vector<json> all;
  std::istringstream read(out.str());
  for (std::string line; std::getline(read, line);) all.push_back(json::parse(line));
  return all;
}

TEST(Tokenize, AnswersEveryLine) {
  const auto a = answers(R"({"text":"ab cd"}
{"text":"ab cd","add_special_tokens":false}
{"text":"<s>","add_special_tokens":false,"parse_special":false}

{"ids":[1,267,269]}
{"ids":[1,267,269],"skip_special_tokens":false}
{"ids":[1,231,192,163,267],"stream":true}
{"messages":[{"role":"user","content":"x"}],"now":"2027-11-30T23:05:59"}
{"template":"{{ a }}","context":{"a":[1]}}
{"text":"\ud800x\ud83d\ude00","add_special_tokens":false}
)");
  ASSERT_EQ(a.size(), 9U);
  EXPECT_EQ(a[0], (json{{"ids", {1, 267, 259, 268}}}));
  EXPECT_EQ(a[1], (json{{"ids", {267, 259, 268}}}));
  EXPECT_EQ(a[2]["ids"].size(), 4U);
  EXPECT_EQ(a[3], (json{{"text", "ab"}}));
  EXPECT_EQ(a[4], (json{{"text", "<s> ab"}}));
  EXPECT_EQ(a[5], (json{{"pieces", {"", "", "", "", "\u4f60 ab", ""}}}));
  EXPECT_EQ(a[6], (json{{"text", "x30False"}}));
  EXPECT_EQ(a[7], (json{{"text", "[1]"}}));
  EXPECT_EQ(a[8]["ids"].size(), 9U);
}

TEST(Tokenize, AFaultyLineIsThatLinesAnswer) {
  const auto a = answers("{\n[]\n{}\n{\"text\":5}\n{\"ids\":[\"x\"]}\n{\"ids\":[1e99]}\n{\"template\":\"{{\"}\n{\"messages\":5}\n\xFF\n" +
                         std::string(100'000, '[') + "\n{\"text\":\"ab\"}\n");
  ASSERT_EQ(a.size(), 11U);
  for (size_t i = 0; i < 10; ++i) {
    EXPECT_TRUE(a[i].contains("error") && a[i]["error"]["code"].is_string() && a[i]["error"]["message"].is_string()) << a[i];
  }
  EXPECT_TRUE(a[10].contains("ids"));
}

TEST(Tokenize, ADirectoryWithoutTokenizerIsAnError) {
  std::istringstream in;
  std::ostringstream out;
  EXPECT_THROW(run_tokenize("/nonexistent", in, out), Error);
}

}  // namespace
}  // namespace moegen
