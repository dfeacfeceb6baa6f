#include "output/reasoning.h"

#include "tests/output/support.h"

namespace moegen::testing {
namespace {

constexpr OutputFormat kThinkers[] = {OutputFormat::qwen3, OutputFormat::qwen3_coder, OutputFormat::deepseek_r1,
                                      OutputFormat::glm45, OutputFormat::minimax_m2,  OutputFormat::kimi_k2};

TEST(Reasoning, ThePromptSaysHowItBegins) {
  EXPECT_EQ(thinking_of_prompt("<｜Assistant｜><think>\n", false), Thinking::open);
  EXPECT_EQ(thinking_of_prompt("assistant\n<think>\n\n</think>\n\n", false), Thinking::closed);
  EXPECT_EQ(thinking_of_prompt("assistant\n", false), Thinking::unsaid);
  EXPECT_EQ(thinking_of_prompt(" \n", false), Thinking::unsaid);
}

TEST(Reasoning, OpenedByTheModel) {
  for (const OutputFormat format : kThinkers) {
    expect(parse(format, "<think>\nWhy?\n</think>\n\nSo."), "So.", {}, "Why?");
    expect(parse(format, "\n<think>Why?</think>So."), "So.", {}, "Why?");
    expect(parse(format, "<think>\n<think>Why?</think>So."), "So.", {}, "Why?");
    expect(parse(format, "<think>\n\n</think>\n\nSo."), "So.", {});
    expect(parse(format, "<think>Why?</think>"), "", {}, "Why?");
    expect(parse(format, "Why?</think>So."), "So.", {}, "Why?");
    expect(parse(format, "<think>a</think>b</think>c"), "b</think>c", {}, "a");
    expect(parse(format, "<think>Why, and wh"), "", {}, "Why, and wh");  // cut off
    expect_plain(parse(format, "So."), "So.");
    expect_plain(parse(format, "So <think>no</think>."), "So <think>no</think>.");
  }
}

TEST(Reasoning, OpenedByThePrompt) {
  for (const OutputFormat format : kThinkers) {
    expect(parse(format, "Why?\n</think>\n\nSo.", Thinking::open), "So.", {}, "Why?");
    expect(parse(format, "<think>Why?</think>So.", Thinking::open), "So.", {}, "Why?");
    expect(parse(format, "Why, and wh", Thinking::open), "", {}, "Why, and wh");
    expect(parse(format, "", Thinking::open), "", {});
  }
}

TEST(Reasoning, ClosedByThePrompt) {
  for (const OutputFormat format : kThinkers) {
    expect_plain(parse(format, "a </think> b", Thinking::closed), "a </think> b");
    expect(parse(format, "<think>a</think>b", Thinking::closed), "b", {}, "a");
  }
}

TEST(Reasoning, HybridsThinkOnlyWhereItShows) {
  for (const OutputFormat format : {OutputFormat::deepseek_v3, OutputFormat::deepseek_v31}) {
    expect_plain(parse(format, "a</think>b"), "a</think>b");
    expect(parse(format, "a</think>b", Thinking::open), "b", {}, "a");
    expect(parse(format, "<think>a</think>b"), "b", {}, "a");
  }
}

TEST(Reasoning, Mistral) {
  expect(parse(OutputFormat::mistral, "[THINK]a[/THINK]b"), "b", {}, "a");
  expect_plain(parse(OutputFormat::mistral, "a[/THINK]b"), "a[/THINK]b");
  expect_plain(parse(OutputFormat::mistral, "<think>a</think>b"), "<think>a</think>b");
}

TEST(Reasoning, StaysWhereTheCallsAreMalformed) {
  expect(parse(OutputFormat::qwen3, "<think>a</think>\n<tool_call>{\"name\": </tool_call> b\n"), "<tool_call>{\"name\": </tool_call> b\n", {}, "a");
}

TEST(Reasoning, AnExampleInAThoughtThatWasCutOffIsNoCall) {
  const std::string thought = "I could write <tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call> but";
  expect(parse(OutputFormat::qwen3, thought, Thinking::open), "", {}, thought);
}

}  // namespace
}  // namespace moegen::testing
