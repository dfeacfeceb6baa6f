#include "api/output_text.h"

#include <gtest/gtest.h>

#include "api/read_output.h"
#include "tests/support/run.h"
#include "tests/tokenizer/small_tokenizer.h"

namespace moegen::testing {
namespace {

class HiddenTokens : public ::testing::Test {
 protected:
  // Texts and special tokens in turn, as a model would give them.
  OutputText text_of(const std::vector<std::string>& parts, bool skip, std::vector<std::string> stop = {}) {
    OutputText out(StreamDecoder(tokenizer_, skip), {std::move(stop), 0, false, {}, skip ? &tokenizer_ : nullptr});
    for (const std::string& part : parts) {
      for (const TokenId id : tokenizer_.encode(part, {.add_special_tokens = false})) {
        if (out.complete(id, false)) return out;
      }
    }
    out.finish();
    return out;
  }

  Tokenizer tokenizer_ = Tokenizer::load(kDemo);
};

TEST_F(HiddenTokens, ComeBackWhereTheyStood) {
  const std::vector<std::string> parts = {"<|im_start|>", "And God said", "<|im_end|><|im_end|>", " let there be", "<|im_start|>"};
  std::string joined;
  for (const std::string& part : parts) joined += part;
  const OutputText skipped = text_of(parts, true);
  EXPECT_EQ(skipped.text(), "And God said let there be");
  EXPECT_EQ(skipped.text_with_hidden(), joined);
  EXPECT_EQ(skipped.hidden_tokens(), (std::set<std::string>{"<|im_start|>", "<|im_end|>"}));
  const OutputText kept = text_of(parts, false);
  EXPECT_EQ(kept.text(), joined);
  EXPECT_EQ(kept.text_with_hidden(), joined);
  EXPECT_EQ(text_of(parts, true, {"God"}).text_with_hidden(), "<|im_start|>And ");
}

// Bytes that may still turn out to be no text are held back; what the end makes of them counts.
TEST(OutputText, StopStringsThatOnlyTheEndCompletes) {
  const Tokenizer tokenizer = Tokenizer::parse(byte_fallback_tokenizer().dump(), "test");
  for (const bool include : {false, true}) {
    std::string pieces;
    OutputText out(StreamDecoder(tokenizer, true), {{"b。"}, 0, include, [&](std::string_view p) { pieces += p; }, nullptr});
    for (const TokenId id : tokenizer.encode("ab。", {.add_special_tokens = false})) EXPECT_FALSE(out.complete(id, false));
    out.finish();
    EXPECT_EQ(out.text(), include ? "ab。" : "a");
    EXPECT_EQ(pieces, out.text());
    ASSERT_NE(out.stopped_by(), nullptr);
    EXPECT_EQ(*out.stopped_by(), "b。");
  }
}

TEST_F(HiddenTokens, AreReadButNotShown) {
  OutputContext context;
  context.format = OutputFormat::qwen3;
  const OutputText text =
      text_of({"<think>a<|im_start|>b</think>c<|im_end|>d<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>", "<|im_end|>"}, true);
  Choice choice;
  choice.text = text.text();
  choice.finish_reason = FinishReason::stop;
  read_output(context, text, 1, choice);
  EXPECT_EQ(choice.reasoning_content, "ab");
  EXPECT_EQ(choice.text, "cd");
  ASSERT_EQ(choice.tool_calls.size(), 1U);
  EXPECT_TRUE(choice.tool_calls[0].id.starts_with("call_"));
  EXPECT_EQ(choice.finish_reason, FinishReason::tool_calls);
}

TEST_F(HiddenTokens, ATextWithoutAnythingStaysAsItIs) {
  OutputContext context;
  context.format = OutputFormat::qwen3;
  const OutputText text = text_of({"a<|im_start|>b <tool_call> c"}, true);
  Choice choice;
  choice.text = text.text();
  choice.finish_reason = FinishReason::stop;
  read_output(context, text, 1, choice);
  EXPECT_EQ(choice.text, "ab <tool_call> c");
  EXPECT_FALSE(choice.reasoning_content);
  EXPECT_EQ(choice.finish_reason, FinishReason::stop);
}

}  // namespace
}  // namespace moegen::testing
