#include "output/typed_value.h"

#include "output/json_span.h"
#include "tests/output/support.h"

namespace moegen::testing {
namespace {

std::string typed(const char* schema, std::string_view text) {
  const Json json = Json::parse(schema);
  return typed_value(&json, text);
}

TEST(TypedValue, AsTheSchemaSays) {
  EXPECT_EQ(typed(R"({"type":"string"})", "12"), R"("12")");
  EXPECT_EQ(typed(R"({"type":"string"})", " null "), R"(" null ")");
  EXPECT_EQ(typed(R"({"type":"integer"})", " +007 "), "7");
  EXPECT_EQ(typed(R"({"type":"integer"})", "-12345678901234567890"), "-12345678901234567890");
  EXPECT_EQ(typed(R"({"type":"number"})", "1.50"), "1.50");
  EXPECT_EQ(typed(R"({"type":"number"})", "3.0"), "3");
  EXPECT_EQ(typed(R"({"type":"number"})", "1e-7"), "1e-7");
  EXPECT_EQ(typed(R"({"type":"number"})", ".5"), "0.5");
  for (const char* bad : {"inf", "nan", "1e999", "0x10", "1 2", ""}) EXPECT_EQ(typed(R"({"type":"number"})", bad), json_quoted(bad));
  for (const char* yes : {"True", " true\n", "1"}) EXPECT_EQ(typed(R"({"type":"boolean"})", yes), "true");
  for (const char* no : {"False", "0"}) EXPECT_EQ(typed(R"({"type":"boolean"})", no), "false");
  EXPECT_EQ(typed(R"({"type":"boolean"})", "yes"), R"("yes")");
  EXPECT_EQ(typed(R"({"type":"object"})", "\n{\"a\": 1.0}\n"), "{\"a\": 1.0}");
  EXPECT_EQ(typed(R"({"type":"array"})", "[1, 2"), R"("[1, 2")");
}

TEST(TypedValue, WhatIsNoneOfTheTypesIsJsonOrAString) {
  EXPECT_EQ(typed(R"({"type":"integer"})", "1.5"), "1.5");
  EXPECT_EQ(typed(R"({"type":"integer"})", "null"), "null");
  EXPECT_EQ(typed(R"({"type":"integer"})", "None"), R"("None")");
  EXPECT_EQ(typed(R"({"type":"null"})", "[1]"), "[1]");
  EXPECT_EQ(typed(R"({"type":"any"})", "{\"a\": 1}"), "{\"a\": 1}");
  EXPECT_EQ(typed(R"({"type":"any"})", " x "), R"(" x ")");
}

TEST(TypedValue, OfSeveralTypesTheFirstInVllmsOrder) {
  EXPECT_EQ(typed(R"({"anyOf":[{"type":"string"},{"type":"null"}]})", "null"), "null");
  EXPECT_EQ(typed(R"({"type":["integer","string"]})", "x"), R"("x")");
  for (const char* schema : {R"({"type":["integer","string"]})", R"({"type":["string","integer"]})", R"({"enum":["low",3]})",
                             R"({"type":"string","allOf":[{"oneOf":[{"type":"integer"}]}]})"}) {
    EXPECT_EQ(typed(schema, "1"), "1") << schema;
  }
  EXPECT_EQ(typed(R"({"enum":[true,[]]})", "1"), "true");
}

TEST(TypedValue, WithoutATypeAString) {
  EXPECT_EQ(typed_value(nullptr, " 1 "), R"(" 1 ")");
  for (const char* schema : {"{}", "1", R"({"$ref":"#/x"})", R"({"enum":[]})", R"({"type":{}})"}) EXPECT_EQ(typed(schema, "1"), R"("1")") << schema;
}

TEST(TypedValue, ToolsOfAnyShape) {
  for (const char* tools :
       {"null", "[]", "{}", "[1, null]", R"([{"function": 1}])", R"([{"function": {"name": "f"}}])",
        R"([{"name": "f", "parameters": {"properties": []}}])", R"([{"function": {"name": "f", "parameters": {"properties": {"s": 1}}}}])",
        R"([{"function": {"name": "f", "parameters": {"properties": {"s": {"type": {}, "anyOf": [1, {"type": [2]}]}}}}}])"}) {
    OutputContext context = context_of(OutputFormat::glm45);
    context.tools = Json::parse(tools);
    const ParsedOutput got = parse_output(context, "<tool_call>f\n<arg_key>s</arg_key>\n<arg_value>x</arg_value>\n</tool_call>");
    expect(got, "", {{"f", R"({"s": "x"})"}});
  }
}

TEST(TypedValue, TheLastOfEqualKeysCounts) {
  expect(parse(OutputFormat::glm45,
               "<tool_call>f\n<arg_key>s</arg_key><arg_value>x</arg_value><arg_key>i</arg_key><arg_value>1</arg_value>"
               "<arg_key>s</arg_key><arg_value>y</arg_value></tool_call>"),
         "", {{"f", R"({"s": "y", "i": 1})"}});
}

}  // namespace
}  // namespace moegen::testing
