#include "base/json.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/support/cpu_timer.h"
#include "tests/support/errors.h"

namespace moegen {
namespace {

std::string nested(int depth) { return std::string(static_cast<size_t>(depth), '[') + std::string(static_cast<size_t>(depth), ']'); }

TEST(ParseJson, DepthLimitIsExact) {
  EXPECT_NO_THROW(parse_json(nested(5), "t", {.max_depth = 5}));
  EXPECT_ERROR(parse_json(nested(6), "t", {.max_depth = 5}), ErrorCode::corrupt, "nested deeper than 5");
  EXPECT_ERROR(parse_json(R"({"a":{"b":{"c":1}}})", "t", {.max_depth = 2}), ErrorCode::corrupt, "deeper");
}

TEST(ParseJson, AMillionBracketsAreRefusedNotFollowed) {
  EXPECT_ERROR(parse_json(std::string(1'000'000, '['), "bomb", {}), ErrorCode::corrupt, "bomb");
}

TEST(ParseJson, DuplicateKeysAreAnErrorWhereAskedFor) {
  EXPECT_EQ(parse_json(R"({"a":1,"a":2})", "t")["a"], 2);
  EXPECT_ERROR(parse_json(R"({"a":1,"a":2})", "t", {.unique_keys = true}), ErrorCode::corrupt, "\"a\" stands twice");
  EXPECT_NO_THROW(parse_json(R"({"a":{"x":1},"b":{"x":2},"x":3})", "t", {.unique_keys = true})) << "the same key in other objects";
  EXPECT_ERROR(parse_json(R"({"b":{"y":0},"c":[{"x":1,"x":2}]})", "t", {.unique_keys = true}), ErrorCode::corrupt, "\"x\"");
  EXPECT_ERROR(parse_json("{\"a\":1,\"\\u0061\":2}", "t", {.unique_keys = true}), ErrorCode::corrupt, "twice");  // the same key, spelled otherwise
}

TEST(ParseJson, IsStrict) {
  for (const char* text :
       {"", " ", "{", "{}x", "{} {}", "[1,]", "{\"a\":NaN}", "[Infinity]", "[01]", "'a'", "[1] // why", "\"\xff\"", "[1e999]", "nul"}) {
    EXPECT_ERROR(parse_json(text, "the file", {}), ErrorCode::corrupt, "the file");
  }
}

TEST(ParseJson, AZeroByteIsNotTheEnd) {
  EXPECT_ERROR(parse_json(std::string_view("{}\0", 3), "t"), ErrorCode::corrupt, "zero byte at offset 2");
  EXPECT_ERROR(parse_json(std::string_view("{}\0{}", 5), "t"), ErrorCode::corrupt, "zero byte");
  EXPECT_EQ(parse_json(R"(["\u0000"])", "t")[0], std::string(1, '\0')) << "escaped it is a character like others";
}

TEST(ParseJson, FaultsAreNamedInOurWords) {
  EXPECT_ERROR(parse_json(R"({"a":b})", "line 3"), ErrorCode::corrupt, "line 3: column 6: syntax error");
  EXPECT_ERROR(parse_json("{\n\"a\":b}", "config.json"), ErrorCode::corrupt, "config.json: line 2, column 5: syntax error");
  EXPECT_ERROR(parse_json("version https://git-lfs.github.com/spec/v1\noid sha256:00", "config.json"), ErrorCode::corrupt, "git lfs pull");
}

TEST(ParseJson, OrderedKeepsTheOrderOfTheText) { EXPECT_EQ(parse_ordered_json(R"({"z":1,"a":2})", "t").dump(), R"({"z":1,"a":2})"); }

// Half a million values in one object or list: seconds at most, where a parser that looks through the parent after each would need hours.
TEST(Json, TimeIsLinearInTheMembers) {
  std::string object = "{", list = "[";
  for (int i = 0; i < 500000; ++i) {
    object += fmt::format("{}\"t{}\":{{}}", i > 0 ? "," : "", i);
    list += i > 0 ? ",{}" : "{}";
  }
  const CpuTimer timer;
  EXPECT_EQ(parse_json(object + "}", "object", {.unique_keys = true}).size(), 500000U);
  EXPECT_EQ(parse_ordered_json(list + "]", "list").size(), 500000U);
  EXPECT_LT(timer.seconds(), 60);
}

}  // namespace
}  // namespace moegen
