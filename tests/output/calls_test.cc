// What every format has in common: calls with text around them, and what is malformed.
#include "output/calls.h"

#include "output/json_span.h"
#include "tests/output/support.h"

namespace moegen::testing {
namespace {

TEST(Calls, OneManyAndTextBefore) {
  for (const Sample& s : samples()) {
    SCOPED_TRACE(s.text(2));
    const std::vector<Call> first = {s.expected[0]};
    expect(parse(s.format, s.text(1)), "", first);
    expect(parse(s.format, s.text(2)), "", s.expected);
    expect(parse(s.format, "Let me see, é.\n" + s.text(2)), "Let me see, é.", s.expected);
    expect(parse(s.format, s.text(2) + "\n"), "", s.expected);
    ParsedOutput both = parse(s.format, "Before." + s.text(1) + " Behind.");
    std::erase(both.content, '\n');  // that of the format
    expect(both, "Before. Behind.", first);
  }
}

TEST(Calls, TheTextOfArgumentsInJsonIsKept) {
  for (const Sample& s : samples()) {
    const ParsedOutput got = parse(s.format, s.text(1));
    EXPECT_NE(got.tool_calls.at(0).arguments.find("12345678901234567890"), std::string::npos) << got.tool_calls[0].arguments;
    EXPECT_NE(got.tool_calls[0].arguments.find("é"), std::string::npos);
  }
}

TEST(Calls, BehindReasoning) {
  for (const Sample& s : samples()) {
    const bool mistral = s.format == OutputFormat::mistral;
    const std::string open = mistral ? "[THINK]" : "<think>";
    const std::string close = mistral ? "[/THINK]" : "</think>";
    expect(parse(s.format, open + "\nWhy?\n" + close + "\n\n" + s.text(2)), "", s.expected, "Why?");
    expect(parse(s.format, "Why?\n" + close + "\n\nSo.\n" + s.text(2), Thinking::open), "So.", s.expected, "Why?");
    expect(parse(s.format, "Why?\n" + s.text(2), Thinking::open), "", s.expected, "Why?");  // never closed
  }
}

TEST(Calls, OffWhereTheRequestSaysSo) {
  for (const Sample& s : samples()) {
    OutputContext context = context_of(s.format);
    context.with_calls = false;
    expect_plain(parse_output(context, s.text(2)), s.text(2));
    context.format = OutputFormat::none;
    context.with_calls = true;
    expect_plain(parse_output(context, s.text(2)), s.text(2));
  }
}

TEST(Calls, TheFirstAloneWhereTheRequestWantsNoMore) {
  for (const Sample& s : samples()) {
    OutputContext context = context_of(s.format);
    context.one_call = true;
    const std::vector<Call> first = {s.expected[0]};
    expect(parse_output(context, s.text(1)), "", first);
    expect(parse_output(context, s.text(2)), "", first);
  }
}

// Each of these, where it stands in the first call, has to be there.
std::vector<std::string> needed_marks(const Sample& s) {
  switch (s.format) {
    case OutputFormat::qwen3_coder:
      return {"<function=", "f>", "<parameter=s>"};
    case OutputFormat::glm45:
      return {"<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>\n</tool_call>", "</tool_call>"};
    case OutputFormat::minimax_m2:
      return {"<invoke name=", "\">", "</parameter>\n</invoke>", "</invoke>", "</minimax:tool_call>"};
    case OutputFormat::deepseek_v3:
      return {"<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "```json", "\": ", "}]}", "```<", "<｜tool▁call▁end｜>"};
    case OutputFormat::deepseek_v31:
      return {"<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "\": ", "}]}", "<｜tool▁call▁end｜>"};
    case OutputFormat::kimi_k2:
      return {"<|tool_call_begin|>", ":0", "<|tool_call_argument_begin|>", "\": ", "}]}", "<|tool_call_end|>"};
    default:
      return {"\": ", "}]}"};
  }
}

TEST(Calls, OneFaultyCallMakesAllOfItText) {
  for (const Sample& s : samples()) {
    for (const std::string& mark : needed_marks(s)) {
      std::string bad = "Text.\n" + s.text(2);
      const size_t at = bad.find(mark);
      ASSERT_NE(at, std::string::npos) << mark << " in " << bad;
      bad.replace(at, mark.size(), "@@ ");
      expect_plain(parse(s.format, bad), bad);
    }
  }
}

TEST(Calls, MarksInProseAreProse) {
  for (const Sample& s : samples()) {
    for (const std::string text :
         {"Write <tool_call> and then JSON.", "<tool_call></tool_call>", "A <function=f> in prose.", "[TOOL_CALLS] are a mark", "[TOOL_CALLS]",
          "<minimax:tool_call>\n</minimax:tool_call>", "<｜tool▁calls▁begin｜><｜tool▁calls▁end｜>", "</tool_call> alone", "}} { [",
          "<|tool_calls_section_begin|><|tool_calls_section_end|>", "The tag <think> opens, </think> closes.", ""}) {
      expect_plain(parse(s.format, text), text);
    }
  }
}

TEST(Calls, ArgumentsHaveToBeAnObject) {
  for (const std::string bad : {"[1]", "1", "\"x\"", "{\"a\": }", "{\"a\": NaN}", "{'a': 1}"}) {
    const std::string text = "<tool_call>{\"name\": \"f\", \"arguments\": " + bad + "}</tool_call>";
    expect_plain(parse(OutputFormat::qwen3, text), text);
  }
  expect(parse(OutputFormat::qwen3, R"(<tool_call>{"name": "f", "arguments": "{\"a\": 1}"}</tool_call>)"), "", {{"f", R"({"a": 1})"}});
  expect(parse(OutputFormat::qwen3, R"(<tool_call>{"arguments": null, "name": "f"}</tool_call>)"), "", {{"f", "{}"}});
}

TEST(Calls, WhatVllmForgives) {
  // The last closing tag, in hermes.
  expect(parse(OutputFormat::qwen3, R"(<tool_call>{"name": "f", "arguments": {}})"), "", {{"f", "{}"}});
  // A closing tag in a string.
  expect(parse(OutputFormat::qwen3, R"(<tool_call>{"name": "f", "arguments": {"s": "</tool_call>"}}</tool_call>)"), "",
         {{"f", R"({"s": "</tool_call>"})"}});
  // No tags of the block, and closing tags that are missing, in qwen3_coder.
  expect(parse(OutputFormat::qwen3_coder, "Now.\n<function=f>\n<parameter=i>\n1\n<parameter=s>\nx\n</function>"), "Now.",
         {{"f", R"({"i": 1, "s": "x"})"}});
  expect(parse(OutputFormat::qwen3_coder, "<tool_call>\n<function=f>\n<parameter=i>\n1\n</parameter>\n</tool_call>"), "", {{"f", R"({"i": 1})"}});
  // An opening tag that comes twice.
  for (const char* twice : {"<tool_call><tool_call>\n<function=g>\n</function>\n</tool_call>", "<tool_call>\n<tool_call>\n<function=g></function>"}) {
    expect(parse(OutputFormat::qwen3_coder, twice), "", {{"g", "{}"}});
  }
  expect(parse(OutputFormat::minimax_m2, "<minimax:tool_call><minimax:tool_call><invoke name=\"g\"></invoke></minimax:tool_call>"), "",
         {{"g", "{}"}});
  // V3.1's way under V3's name, and the other way round; the end of the section may be missing.
  expect(parse(OutputFormat::deepseek_v3, "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"i\": 1}<｜tool▁call▁end｜>"), "",
         {{"f", R"({"i": 1})"}});
  // GLM-4.7 has no line feeds.
  expect(parse(OutputFormat::glm45, "<tool_call>f<arg_key>i</arg_key><arg_value>1</arg_value></tool_call>"), "", {{"f", R"({"i": 1})"}});
  const ParsedOutput mistral = parse(OutputFormat::mistral, "[TOOL_CALLS]f[CALL_ID]abcdefghi[ARGS]{\"i\": 1}[TOOL_CALLS]g{}");
  expect(mistral, "", {{"f", R"({"i": 1})"}, {"g", "{}"}});
  EXPECT_EQ(mistral.tool_calls.at(0).id, "abcdefghi");
  const ParsedOutput kimi = parse(OutputFormat::kimi_k2,
                                  "<|tool_calls_section_begin|> <|tool_call_begin|> f:3 <|tool_call_argument_begin|> {}"
                                  " <|tool_call_end|> <|tool_calls_section_end|>");
  expect(kimi, "", {{"f", "{}"}});
  EXPECT_EQ(kimi.tool_calls.at(0).id, "f:3");
}

TEST(Calls, ATagInAValueIsText) {
  const std::string code = "</parameter> x <parameter=x>\n<parameter=unknown>\n</function> y </tool_call>";
  expect(parse(OutputFormat::qwen3_coder, "<tool_call>\n<function=f>\n<parameter=s>\n" + code + "\n</parameter>\n</function>\n</tool_call>"), "",
         {{"f", OrderedJson{{"s", code}}.dump()}});
}

TEST(Calls, WhiteSpaceInAValueIsOfTheValue) {
  expect(parse(OutputFormat::glm45, "<tool_call>f<arg_key> s </arg_key><arg_value> x\n</arg_value></tool_call>"), "", {{"f", R"({"s": " x\n"})"}});
  expect(parse(OutputFormat::minimax_m2, "<minimax:tool_call><invoke name='f'><parameter name='s'> x\n</parameter></invoke></minimax:tool_call>"), "",
         {{"f", R"({"s": " x\n"})"}});
  expect(parse(OutputFormat::qwen3_coder, "<tool_call><function=f><parameter=s>\n\n x \n\n</parameter></function></tool_call>"), "",
         {{"f", R"({"s": "\n x \n"})"}});
}

// Where a call goes on within what could be a value, a part of it is malformed: nobody wants one call made of two.
TEST(Calls, AValueDoesNotReachIntoWhatFollows) {
  for (const std::string behind :
       {"Garbage</function></tool_call><tool_call><function=f><parameter=s>x", "Garbage<parameter=b>true", "Garbage<parameter=i>1"}) {
    const std::string text = "<tool_call><function=f><parameter=s>x</parameter>" + behind + "</parameter></function></tool_call>";
    expect_plain(parse(OutputFormat::qwen3_coder, text), text);
  }
  for (const std::string text : {"<tool_call>f<arg_key>i</arg_key><arg_value>1</arg_value>Garbage</tool_call>",
                                 "<tool_call>f<arg_key>s</arg_key><arg_value>x</arg_value>y</tool_call><tool_call>f<arg_key>s</arg_key><arg_value>z</"
                                 "arg_value></tool_call>"}) {
    expect_plain(parse(OutputFormat::glm45, text), text);
  }
  // A closing tag is no part of what cannot be a string.
  const std::string number = "<minimax:tool_call><invoke name=f><parameter name=i>1</parameter> 2</parameter></invoke></minimax:tool_call>";
  expect_plain(parse(OutputFormat::minimax_m2, number), number);
  const std::string last = "<tool_call><function=f><parameter=s>x</parameter>Garbage\n</function></tool_call>";
  expect_plain(parse(OutputFormat::qwen3_coder, last), last);
}

TEST(Calls, NamesMayHavePoints) {
  expect(parse(OutputFormat::kimi_k2,
               "<|tool_calls_section_begin|><|tool_call_begin|>functions.web.search:0<|tool_call_argument_begin|>{}<|tool_call_end|>"),
         "", {{"web.search", "{}"}});
}

TEST(Calls, DeepSeekV3HasFunctionsOnly) {
  const std::string text = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>code<｜tool▁sep｜>f\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
  expect_plain(parse(OutputFormat::deepseek_v3, text), text);
}

TEST(Calls, IdsAreOfTheirPlaceAndKey) {
  std::vector<ToolCall> calls(3);
  calls[1].id = "own";
  std::vector<ToolCall> again = calls;
  assign_call_ids(calls, 7, false);
  assign_call_ids(again, 7, false);
  EXPECT_EQ(calls[0].id.size(), 29U);
  EXPECT_TRUE(calls[0].id.starts_with("call_"));
  EXPECT_EQ(calls[1].id, "own");
  EXPECT_NE(calls[0].id, calls[2].id);
  EXPECT_EQ(calls[0].id, again[0].id);
  std::vector<ToolCall> other(1);
  assign_call_ids(other, 8, true);
  EXPECT_EQ(other[0].id.size(), 9U);
  EXPECT_EQ(other[0].id.find_first_of("_-"), std::string::npos);
}

TEST(JsonSpan, ValuesByTheirText) {
  EXPECT_EQ(json_value(" {\"a\": \"}\\\"\"} x"), "{\"a\": \"}\\\"\"}");
  EXPECT_EQ(json_value("[1, 2]]"), "[1, 2]");
  EXPECT_EQ(json_value("12,"), "12");
  for (const char* bad : {"", "{", "[}", "{]", "\"", "\"\\", "}", "{\"a\" 1}", "nul", "{\"a\": \"\x80\"}"}) EXPECT_FALSE(json_value(bad)) << bad;
  EXPECT_FALSE(is_json(std::string_view("1\0", 2)));
  const auto members = json_members(R"({"a" : {"b": [1]} , "\u0061": "x,}" })");
  ASSERT_EQ(members.size(), 2U);
  EXPECT_EQ(members[0].second, R"({"b": [1]})");
  EXPECT_EQ(members[1].first, "a");
  EXPECT_EQ(members[1].second, R"("x,}")");
  EXPECT_EQ(json_elements("[ {\"a\": [1, 2]}, 3 ]").size(), 2U);
  EXPECT_EQ(json_quoted("\x80é"), "\"\uFFFDé\"");
}

}  // namespace
}  // namespace moegen::testing
