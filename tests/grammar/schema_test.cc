#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "moegen/error.h"
#include "tests/grammar/schema_check.h"
#include "tests/grammar/support.h"
#include "tests/support/cpu_timer.h"

namespace moegen::testing {
namespace {

using Json = nlohmann::ordered_json;

// {schema, what it accepts, what it refuses}
struct Case {
  const char* schema;
  std::vector<std::string> good;
  std::vector<std::string> bad;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {R"({"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer"}},"required":["name","age"],"additionalProperties":false})",
       {R"({"name":"x","age":3})", R"({"name": "x", "age": -12})", R"({"name":"\u00e9\n","age":0})"},
       {R"({"age":3,"name":"x"})", R"({"name":"x"})", R"({"name":"x","age":3.5})", R"({"name":"x","age":3,"z":1})", R"({"name":"x","age":03})"}},
      {R"({"type":"object","properties":{"a":{"type":"null"},"b":{"type":"boolean"},"c":{"type":"number"}},"required":["b"]})",
       {R"({"b":true})", R"({"a":null,"b":false})", R"({"b":true,"c":-1.5e3})", R"({"a":null,"b":true,"c":0})"},
       {"{}", R"({"a":null})", R"({,"b":true})", R"({"b":true,})", R"({"c":1,"b":true})"}},
      {R"({"type":"object","properties":{"a":{"type":"integer"},"ab":{"type":"integer"}},"additionalProperties":{"type":"string"}})",
       {"{}", R"({"a":1})", R"({"ab":1,"b":"x"})", R"({"abc":"x"})", R"({"":"x","é":"y"})"},
       {R"({"a":"x"})", R"({"b":1})", R"({"ab":"x"})", R"({"a":1,"a":"x"})"}},
      {R"({"type":"object","required":["id"]})", {R"({"id":[1]})"}, {"{}", R"({"x":1})"}},
      {R"({"type":"object","additionalProperties":{"type":"integer"}})", {"{}", R"({"x":1,"y":2})"}, {R"({"x":"1"})"}},
      {R"({"type":"array","items":{"type":"integer"},"minItems":2,"maxItems":3})", {"[1,2]", "[1, 2,3]"}, {"[]", "[1]", "[1,2,3,4]", "[1,2,]"}},
      {R"({"type":"array","items":{"type":"integer"}})", {"[]", "[1]", "[1,2,3,4,5]"}, {"[,1]", "[1 2]", "[\"x\"]", "[1]]"}},
      {R"({"type":"array","prefixItems":[{"type":"string"},{"type":"boolean"}],"items":false})",
       {"[]", R"(["x"])", R"(["x",true])"},
       {"[true]", R"(["x",true,1])"}},
      {R"({"type":"array","prefixItems":[{"type":"string"}],"items":{"type":"integer"},"minItems":1})",
       {R"(["x"])", R"(["x",1,2])"},
       {"[]", "[1]", R"(["x","y"])"}},
      {R"({"type":"string","minLength":2,"maxLength":3})", {R"("ab")", R"("日本é")", R"("\"\\")", R"("\u0001a")"}, {R"("a")", R"("abcd")", R"("")"}},
      {R"({"type":"string","format":"date"})", {R"("2024-02-29")", R"("1999-12-31")"}, {R"("2023-02-29")", R"("2023-13-01")", R"("x")"}},
      {R"({"type":"string","format":"date-time"})", {R"("2024-02-29T01:02:03Z")", R"("2024-01-01T00:00:00.5+01:00")"}, {R"("2024-02-29")"}},
      {R"({"type":"string","format":"duration"})",
       {R"("P1Y2M3DT4H5M6S")", R"("PT36H")", R"("P2W")", R"("P1M")", R"("PT5M")"},
       {R"("P")", R"("PT")", R"("P1YT")", R"("P1Y2D")", R"("PT1H2S")", R"("P1H")"}},
      {R"({"type":"string","format":"ipv6"})",
       {R"("1:2:3:4:5:6:7:8")", R"("::")", R"("::1")", R"("fe80::1")", R"("1:2:3:4:5:6:7::")", R"("1::3:4:5:6:7:8")",
        R"("2001:DB8::8:800:200c:417a")"},
       {R"(":")", R"("1")", R"("1:2:3:4:5:6:7")", R"("1::2::3")", R"("1:2:3:4:5:6:7:8:9")", R"("::12345")", R"("1:2:3:4::5:6:7:8")", R"("g::")"}},
      {R"({"type":"string","format":"uuid"})", {R"("123e4567-e89b-12d3-a456-426614174000")"}, {R"("123e4567")"}},
      {R"({"type":"string","format":"email"})", {R"("a.b@c.de")"}, {R"("a.b")", R"("a@b..de")"}},
      {R"({"type":"integer","minimum":-5,"maximum":120})", {"-5", "0", "7", "99", "100", "120"}, {"-6", "121", "-0", "1.0", "1000", ""}},
      {R"({"type":"integer","exclusiveMinimum":17,"maximum":1000})", {"18", "20", "170", "999", "1000"}, {"17", "1001", "-18"}},
      {R"({"type":"integer","maximum":-10})", {"-10", "-11", "-100"}, {"-9", "0", "10"}},
      {R"({"type":"number","minimum":0,"maximum":1})", {"0", "1", "0.5", "1.0", "0.00"}, {"-0.5", "1.01", "2", "1e0"}},
      {R"({"type":"number","exclusiveMinimum":0.25,"exclusiveMaximum":12.5})",
       {"0.26", "0.2500001", "3", "12", "12.49", "9.99"},
       {"0.25", "0.250", "12.5", "12.50", "13", "0", "100"}},
      {R"({"type":"number","minimum":-1.5,"maximum":1e2})", {"-1.5", "-1.50", "-1", "-0.1", "0", "99.9", "100", "100.0"}, {"-1.51", "-2", "100.1"}},
      {R"({"type":"integer","minimum":-9223372036854775808,"maximum":18446744073709551615})", {"0", "-999999999999999999", "42"}, {"1.5", "1e3"}},
      {R"({"type":"number","minimum":0,"maximum":1.7976931348623157e308})", {"0", "2.5", "999999999999999999"}, {"-1", "1e3"}},
      {R"({"type":"number","maximum":1e20})", {"-5", "0", "123.5"}, {"1e21"}},
      {R"({"type":"integer","multipleOf":7,"minimum":-20,"maximum":1000})", {"0", "7", "-14", "994", "70"}, {"-21", "1", "1001", "77.0", "-0"}},
      {R"({"type":"integer","multipleOf":3})", {"0", "-3", "12", "999999999999999999"}, {"1", "-4", "13"}},
      {R"({"type":"integer","multipleOf":1.5})", {"0", "3", "-6"}, {"1", "2", "1.5"}},
      {R"({"type":"number","multipleOf":0.25,"exclusiveMinimum":1})", {"1.25", "1.5", "1.50", "2", "100.75"}, {"1", "1.3", "1.125", "1e2"}},
      {R"({"type":"string","pattern":"^[a-zé]+$","minLength":2,"maxLength":3})",
       {R"("ab")", R"("éé")", R"("abc")"},
       {R"("a")", R"("abcd")", R"("aB")"}},
      {R"({"type":"string","pattern":"x","maxLength":2})", {R"("x")", R"("ax")", R"("x\n")", R"("\"x")"}, {R"("axb")", R"("ab")", R"("")"}},
      {R"({"type":"string","format":"hostname"})",
       {R"("localhost")", R"("ec2-1-2-3-4.eu-west-1.compute.example.com")", R"("0123456789012345678901234567890123456789.example.com")"},
       {R"("-a.b")", R"("a..b")", R"("a.b.c.d.e.f.g.h.i")"}},
      {R"({"type":"string","format":"email","maxLength":6})", {R"("a@b.cd")"}, {R"("ab@b.cd")"}},
      {R"({"enum":["red","green",5,null,{"a":[1,2]},""]})",
       {R"("red")", R"("green")", "5", "null", R"({"a":[1,2]})", R"({"a": [1, 2]})", R"("")"},
       {R"("blue")", "6", R"("r")"}},
      {R"({"type":"string","enum":["a",1]})", {R"("a")"}, {"1"}},
      {R"({"type":"integer","enum":[1.0,2.5,3]})", {"1.0", "3"}, {"2.5"}},
      {R"({"const":{"x":"y"}})", {R"({"x":"y"})"}, {"{}"}},
      {R"({"anyOf":[{"type":"integer"},{"type":"string","pattern":"^a+$"}]})", {"1", R"("aa")"}, {R"("b")", "true"}},
      {R"({"oneOf":[{"type":"integer"},{"type":"string"},{"type":"null"}]})", {"1", R"("x")", "null"}, {"true"}},
      {R"({"allOf":[{"$ref":"#/$defs/x"}],"description":"d","$defs":{"x":{"type":"boolean"}}})", {"true"}, {"1"}},
      {R"({"type":["string","null"]})", {R"("x")", "null"}, {"1"}},
      {R"({"type":"string","nullable":true})", {R"("x")", "null"}, {"1"}},
      {R"({"type":"object","properties":{"v":{"type":"integer"},"next":{"anyOf":[{"$ref":"#"},{"type":"null"}]}},"required":["v","next"],"additionalProperties":false})",
       {R"({"v":1,"next":null})", R"({"v":1,"next":{"v":2,"next":{"v":3,"next":null}}})"},
       {R"({"v":1})", R"({"v":1,"next":{}})"}},
      {R"({"anyOf":[{"$ref":"#/$defs/a%20b"},{"$ref":"#/$defs/Box%3Cint%3E"},{"$ref":"#/$defs/50%"}],
           "$defs":{"a b":{"const":1},"Box<int>":{"const":2},"50%":{"const":3}}})",
       {"1", "2", "3"},
       {"4"}},
      {R"({"type":"array","items":{"$ref":"#/$defs/a~1b/items"},"$defs":{"a/b":{"items":{"type":"boolean"}}}})", {"[true]"}, {"[1]"}},
      {"true", {"1", R"({"a":[null,{"b":"c"}]})", "[]", "[[],{}]", "1.5E-3"}, {"", "[", "nul", R"({"a"})"}},
      {R"({"oneOf":[{"type":"object","properties":{"k":{"const":"a"},"x":{"type":"integer"}},"required":["k","x"]},
                    {"type":"object","properties":{"k":{"const":"b"}},"required":["k"]}]})",
       {R"({"k":"a","x":1})", R"({"k":"b"})"},
       {R"({"k":"c"})", R"({"k":"a"})"}},
  };
  return all;
}

TEST(GrammarSchema, AcceptsAndRefuses) {
  for (const Case& c : cases()) {
    const auto g = schema(c.schema);
    for (const auto& text : c.good) EXPECT_TRUE(accepts(g, text)) << c.schema << "\n" << text;
    for (const auto& text : c.bad) EXPECT_FALSE(accepts(g, text)) << c.schema << "\n" << text;
  }
}

TEST(GrammarSchema, WhatIsWrittenIsValid) {
  std::mt19937 rng(11);
  int complete = 0;
  for (const Case& c : cases()) {
    const auto g = schema(c.schema);
    const Json parsed = Json::parse(c.schema);
    for (int i = 0; i < 40; ++i) {
      bool done = false;
      const std::string text = random_text(g, rng, done);
      ASSERT_EQ(text.find("<nothing"), std::string::npos) << c.schema << "\n" << text;
      if (!done) continue;
      ++complete;
      ASSERT_TRUE(Json::accept(text)) << c.schema << "\n" << text;
      ASSERT_EQ(violation(parsed, parsed, Json::parse(text)), "") << c.schema << "\n" << text;
    }
  }
  EXPECT_GT(complete, 600);
}

// Values that a schema allows, dumped by nlohmann::json, are accepted: nothing valid in the usual form is lost.
TEST(GrammarSchema, DumpedValuesAreAccepted) {
  std::mt19937 rng(12);
  const auto any = compile(StructuredOutput::Kind::json_object, "");
  const auto array = schema(R"({"type":"array"})");
  for (int i = 0; i < 300; ++i) {
    const Json value = random_json(rng, 4);
    EXPECT_TRUE(accepts(array, Json::array({value}).dump())) << value;
    EXPECT_TRUE(accepts(any, Json({{"k", value}}).dump())) << value;
    EXPECT_TRUE(accepts(any, Json({{"k", value}}).dump(-1, ' ', true))) << value;
    EXPECT_FALSE(accepts(any, value.is_object() ? "[]" : value.dump()));
  }
}

TEST(GrammarSchema, NumbersWithinBounds) {
  std::mt19937 rng(13);
  for (int i = 0; i < 150; ++i) {
    int64_t lo = static_cast<int64_t>(rng() % 4000) - 2000;
    int64_t hi = lo + static_cast<int64_t>(rng() % 3000);
    const bool whole = i % 2 == 0;
    const double scale = whole ? 1 : 100;
    const Json s = {
        {"type", whole ? "integer" : "number"}, {"minimum", static_cast<double>(lo) / scale}, {"exclusiveMaximum", static_cast<double>(hi) / scale}};
    if (lo == hi) continue;
    const auto g = schema(s.dump());
    for (int k = 0; k < 60; ++k) {
      const int64_t n = k == 0 ? lo : k == 1 ? hi : k == 2 ? hi - 1 : k == 3 ? lo - 1 : static_cast<int64_t>(rng() % 5000) - 2500;
      const std::string text = Json(whole ? Json(n) : Json(static_cast<double>(n) / scale)).dump();
      if (text == "-0.0") continue;
      EXPECT_EQ(accepts(g, text), lo <= n && n < hi) << s << text;
    }
  }
}

std::string refusal(const std::string& text) {
  const CpuTimer timer;
  try {
    schema(text);
  } catch (const Error& e) {
    EXPECT_LT(timer.seconds(), 5) << text.substr(0, 50);
    return e.what();
  }
  EXPECT_LT(timer.seconds(), 5) << text.substr(0, 50);
  return "accepted";
}

TEST(GrammarSchema, RefusesByKeywordAndPlace) {
  const auto expect = [](const char* text, std::vector<std::string> words) {
    const std::string why = refusal(text);
    for (const auto& w : words) EXPECT_NE(why.find(w), std::string::npos) << text << ": " << why;
  };
  expect(R"({"type":"object","properties":{"a":{"type":"array","uniqueItems":true}}})", {"'uniqueItems'", "#/properties/a"});
  expect(R"({"type":"object","patternProperties":{}})", {"'patternProperties'", "#"});
  expect(R"({"not":{}})", {"'not'"});
  expect(R"({"if":{},"then":{}})", {"'if'"});
  expect(R"({"type":"integer","multipleOf":9999})", {"'multipleOf'", "#"});
  expect(R"({"type":"integer","multipleOf":12345})", {"'multipleOf'", "4 digits"});
  expect(R"({"multipleOf":0})", {"'multipleOf'"});
  expect(R"({"type":"integer","multipleOf":5,"minimum":1,"maximum":4})", {"no text"});
  expect(R"({"type":"string","format":"iri"})", {"'format'", "iri"});
  expect(R"-({"type":"string","pattern":"a(?=b)"})-", {"'pattern'", "lookahead"});
  expect(R"({"type":"string","pattern":"^aa$","maxLength":1})", {"no text"});
  expect(R"({"$ref":"http://x/y"})", {"'$ref'", "http://x/y"});
  expect(R"({"$ref":"#/$defs/none"})", {"'$ref'", "nowhere"});
  expect(R"({"anyOf":[{"type":"null"}],"minimum":3})", {"'minimum'", "anyOf"});
  expect(R"({"allOf":[{"type":"null"},{"type":"null"}]})", {"'allOf'"});
  expect(R"({"oneOf":[{"type":"integer"},{"type":"number"}]})", {"'oneOf'"});
  expect(R"({"oneOf":[{"type":"object","properties":{"k":{"const":1}},"required":["k"]},
                      {"type":"object","properties":{"k":{"const":1.0}},"required":["k"]}]})",
         {"'oneOf'"});
  expect(R"({"type":"number","minimum":1e18})", {"'minimum'", "18 digits"});
  expect(R"({"const":{"a":[12345678901234567890123]}})", {"'const'", "64 bits"});
  expect(R"({"enum":[1,-12345678901234567890123]})", {"'enum'", "64 bits"});
  expect(R"({"type":"strin"})", {"'type'"});
  expect(R"({"type":"array","minItems":-1})", {"'minItems'"});
  expect(R"({"type":"array","items":[{}]})", {"'items'"});
  expect(R"({"type":"object","properties":{"a":{}},"required":["b"],"additionalProperties":false})", {"'required'", "'b'"});
  expect(R"({"properties":{"a":7}})", {"#/properties/a"});
  expect(R"({"enum":[]})", {"'enum'"});
  expect("false", {"no text"});
  expect(R"({"$ref":"#"})", {"no text"});
  expect(R"({"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]})", {"no text"});
  expect(R"({"type":"integer","minimum":3,"maximum":2})", {"no text"});
  expect("7", {"neither an object"});
}

TEST(GrammarSchema, HostileSchemasAreAnsweredQuickly) {
  Json deep = {{"type", "integer"}};
  for (int i = 0; i < 30; ++i) deep = {{"type", "array"}, {"items", deep}};
  EXPECT_EQ(refusal(deep.dump()), "accepted");
  Json defs;
  for (int i = 0; i < 3000; ++i)
    defs[std::to_string(i)] = {{"anyOf",
                                {{{"$ref", "#/$defs/" + std::to_string((i + 1) % 3000)}},
                                 {{"type", "array"}, {"items", {{"$ref", "#/$defs/" + std::to_string((i * 7) % 3000)}}}}}}};
  refusal(Json({{"$ref", "#/$defs/0"}, {"$defs", defs}}).dump());
  Json many = Json::array();
  for (int i = 0; i < 200'000; ++i) many.push_back("value number " + std::to_string(i));
  EXPECT_NE(refusal(Json({{"enum", many}}).dump()), "accepted");
  EXPECT_NE(refusal(R"({"type":"string","maxLength":1000000})").find("'maxLength'"), std::string::npos);
  EXPECT_NE(refusal(R"({"type":"array","maxItems":1000000})").find("'maxItems'"), std::string::npos);
  EXPECT_NE(
      refusal(
          R"({"type":"array","items":{"type":"array","minItems":8000,"items":{"type":"string","maxLength":9000,"minLength":9000}},"minItems":8000})")
          .size(),
      0U);
  EXPECT_NE(refusal(R"({"type":"string","pattern":"(a{1000}){1000}"})").find("'pattern'"), std::string::npos);
  EXPECT_EQ(refusal(R"({"type":"string","maxLength":4000})"), "accepted");
}

TEST(GrammarSchema, NestingIsBoundedAndCanAlwaysEnd) {
  const auto g = schema(R"({"type":"array"})");
  GrammarState state(g);
  int depth = 0;
  while (state.mask()->allows('[')) {
    state.accept('[');
    ++depth;
  }
  EXPECT_GT(depth, 30);
  EXPECT_LT(depth, 100);
  for (; depth > 0; --depth) {
    ASSERT_TRUE(state.mask()->allows(']'));
    state.accept(']');
  }
  EXPECT_TRUE(state.ended());
}

}  // namespace
}  // namespace moegen::testing
