#include "output/typed_value.h"

#include "output/json_span.h"
#include "tests/output/support.h"

namespace moegen::testing {
namespace {

std::string typed(const char* schema, std::string_view text, const ValueRules& rules = {}) {
  const Json json = Json::parse(schema);
  return typed_value(&json, text, rules);
}

TEST(TypedValue, AsTheSchemaSays) {
  EXPECT_EQ(typed(R"({"type":"string"})", "12"), R"("12")");
  EXPECT_EQ(typed(R"({"type":"string"})", " null "), R"(" null ")");
  EXPECT_EQ(typed(R"({"type":"integer"})", " +007 "), "7");
  EXPECT_EQ(typed(R"({"type":"integer"})", "-12345678901234567890"), "-12345678901234567890");
  EXPECT_EQ(typed(R"({"type":"integer"})", "1.5"), R"("1.5")");
  EXPECT_EQ(typed(R"({"type":"integer"})", "None"), "null");
  EXPECT_EQ(typed(R"({"type":"number"})", "1.50"), "1.50");
  EXPECT_EQ(typed(R"({"type":"number"})", "3.0"), "3");
  EXPECT_EQ(typed(R"({"type":"number"})", "1e-7"), "1e-7");
  EXPECT_EQ(typed(R"({"type":"number"})", ".5"), "0.5");
  for (const char* bad : {"inf", "nan", "1e999", "0x10", "1 2", ""}) EXPECT_EQ(typed(R"({"type":"number"})", bad), json_quoted(bad));
  EXPECT_EQ(typed(R"({"type":"boolean"})", "True"), "true");
  EXPECT_EQ(typed(R"({"type":"boolean"})", "yes"), R"("yes")");
  EXPECT_EQ(typed(R"({"type":"object"})", "\n{\"a\": 1.0}\n"), "{\"a\": 1.0}");
  EXPECT_EQ(typed(R"({"type":"array"})", "[1, 2"), R"("[1, 2")");
  EXPECT_EQ(typed(R"({"anyOf":[{"type":"string"},{"type":"null"}]})", "null"), "null");
  EXPECT_EQ(typed(R"({"type":["integer","string"]})", "x"), R"("x")");
  EXPECT_EQ(typed(R"({"type":["integer","string"]})", "1"), "1");
  EXPECT_EQ(typed(R"({"$ref":"#/x"})", "1"), R"("1")");
}

TEST(TypedValue, WithoutATypeAsTheFormatSays) {
  EXPECT_EQ(typed_value(nullptr, "1", {}), R"("1")");
  EXPECT_EQ(typed_value(nullptr, " 1 ", {.untyped_is_json = true}), "1");
  EXPECT_EQ(typed_value(nullptr, "True", {.untyped_is_json = true}), "true");
  EXPECT_EQ(typed_value(nullptr, " x ", {.untyped_is_json = true}), R"(" x ")");
  EXPECT_EQ(typed_value(nullptr, " x ", {.trim_strings = true}), R"("x")");
  EXPECT_EQ(typed_value(nullptr, "\n\n x\n", {.trim_newlines = true}), R"("\n x")");
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
