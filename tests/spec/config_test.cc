#include "spec/config.h"

#include <gtest/gtest.h>

#include "tests/support/errors.h"

namespace moegen {
namespace {

Config config(const char* text) { return {nlohmann::json::parse(text), "the/config.json"}; }

TEST(Config, OnlyAnObjectIsAConfig) {
  EXPECT_ERROR(config("[1]"), ErrorCode::corrupt, "expected a JSON object, found array");
  EXPECT_ERROR(config("null"), ErrorCode::corrupt, "the/config.json");
}

TEST(Config, NullCountsAsAbsentButForFlags) {
  const Config c = config(R"({"x": null})");
  EXPECT_FALSE(c.has("x"));
  EXPECT_TRUE(c.mentions("x"));
  EXPECT_FALSE(c.mentions("y"));
  EXPECT_EQ(c.integer("x", 0, 9, 5), 5);
  EXPECT_EQ(c.number("x", 0, 9, 2.5), 2.5);
  EXPECT_FALSE(c.flag("x", true)) << "as None is";
  EXPECT_TRUE(c.flag("y", true));
  EXPECT_EQ(c.text("x", "d"), "d");
  EXPECT_TRUE(c.integers("x", 0, 9).empty());
  EXPECT_TRUE(c.texts("x").empty());
  EXPECT_FALSE(c.object("x"));
  EXPECT_ERROR(c.integer("x", 0, 9), ErrorCode::corrupt, "x is missing: expected an integer from 0 to 9");
}

TEST(Config, IntegersMayBeSpelledAsFloats) {
  const Config c = config(R"({"a": 4.0, "b": 1e6, "c": 4.5, "d": 5000000000, "e": -0.0})");
  EXPECT_EQ(c.integer("a", 0, 9), 4);
  EXPECT_EQ(c.integer("b", 0, 1 << 30), 1'000'000);
  EXPECT_EQ(c.integer("d", 0, int64_t{1} << 40), 5'000'000'000);
  EXPECT_EQ(c.integer("e", 0, 1), 0);
  EXPECT_ERROR(c.integer("c", 0, 9), ErrorCode::corrupt, "c: expected an integer from 0 to 9, found 4.5");
}

TEST(Config, IntegersOutOfRangeOrOfAnotherTypeAreRefused) {
  const Config c = config(R"({"neg": -1, "big": 18446744073709551615, "huge": 1e300, "text": "4", "bool": true, "list": [4], "object": {}})");
  for (const char* field : {"neg", "big", "huge", "text", "bool", "list", "object"}) {
    EXPECT_ERROR(c.integer(field, 0, 100), ErrorCode::corrupt, field);
    EXPECT_ERROR(c.integer(field, 0, 100, 7), ErrorCode::corrupt, "expected an integer from 0 to 100");
  }
  EXPECT_EQ(c.integer("neg", -1, 0), -1);
}

TEST(Config, BordersOfARangeBelongToIt) {
  const Config c = config(R"({"a": 10})");
  EXPECT_EQ(c.integer("a", 10, 10), 10);
  EXPECT_ERROR(c.integer("a", 11, 20), ErrorCode::corrupt, "a");
  EXPECT_ERROR(c.integer("a", 0, 9), ErrorCode::corrupt, "a");
  EXPECT_ERROR(c.number("a", 0, 9.999), ErrorCode::corrupt, "a number from 0 to 9.999");
}

TEST(Config, ListsOfIntegersTakeOneIntegerToo) {
  const Config c = config(R"({"one": 7, "many": [1, 2.0, 3], "none": [], "mixed": [1, "2"], "nulls": [1, null], "range": [1, 99]})");
  EXPECT_EQ(c.integers("one", 0, 9), (std::vector<int64_t>{7}));
  EXPECT_EQ(c.integers("many", 0, 9), (std::vector<int64_t>{1, 2, 3}));
  EXPECT_TRUE(c.integers("none", 0, 9).empty());
  for (const char* field : {"mixed", "nulls", "range"}) EXPECT_ERROR(c.integers(field, 0, 9), ErrorCode::corrupt, field);
}

TEST(Config, FlagsAndTextsHaveTheirType) {
  const Config c = config(R"({"n": 1, "s": "true", "b": false})");
  EXPECT_FALSE(c.flag("b", true));
  EXPECT_ERROR(c.flag("n", true), ErrorCode::corrupt, "n: expected true or false, found 1");
  EXPECT_TRUE(c.truth("n", false));
  EXPECT_FALSE(c.truth("b", true));
  EXPECT_ERROR(c.truth("s", true), ErrorCode::corrupt, "s");
  EXPECT_ERROR(c.flag("s", true), ErrorCode::corrupt, "s");
  EXPECT_ERROR(c.text("b", ""), ErrorCode::corrupt, "b: expected a string");
  EXPECT_ERROR(c.texts("s"), ErrorCode::corrupt, "a list of strings");
  EXPECT_ERROR(c.object("s"), ErrorCode::corrupt, "an object");
}

TEST(Config, ErrorsInANestedObjectNameTheWay) {
  const Config c = config(R"({"rope_parameters": {"factor": "x"}})");
  EXPECT_ERROR(c.object("rope_parameters")->number("factor", 0, 1), ErrorCode::corrupt,
               "the/config.json: rope_parameters: factor: expected a number");
}

TEST(Config, AnErrorDoesNotRepeatAHugeValue) {
  const Config c({{"x", std::string(1 << 20, 'a')}}, "f");
  EXPECT_LT(std::string(error_of([&] { static_cast<void>(c.integer("x", 0, 1)); }).what()).size(), 300U);
}

TEST(Config, FirstOfPassesOverNulls) {
  const Config c = config(R"({"a": null, "b": 1, "c": 2})");
  EXPECT_EQ(c.first_of({"a", "b", "c"}), "b");
  EXPECT_EQ(c.first_of({"a", "z"}), "a");
}

}  // namespace
}  // namespace moegen
