#include "tokenizer/pre_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace moegen::text {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;

std::vector<std::string> cut(const json& spec, const std::string& text, bool at_start = true) {
  Pieces pieces{text, {{0, static_cast<uint32_t>(text.size())}}, at_start};
  Regex::Scratch scratch;
  PreTokenizer::parse(spec).apply(pieces, scratch);
  std::vector<std::string> words;
  for (size_t i = 0; i < pieces.spans.size(); ++i) words.emplace_back(pieces.word(i));
  return words;
}

json split(const char* behavior, bool invert = false) {
  return {{"type", "Split"}, {"pattern", {{"String", "-"}}}, {"behavior", behavior}, {"invert", invert}};
}

TEST(PreTokenizer, EveryBehaviorOfSplit) {
  const std::string s = "the-final--countdown";  // the example of the format's own documentation
  EXPECT_THAT(cut(split("Removed"), s), ElementsAre("the", "final", "countdown"));
  EXPECT_THAT(cut(split("Isolated"), s), ElementsAre("the", "-", "final", "-", "-", "countdown"));
  EXPECT_THAT(cut(split("MergedWithPrevious"), s), ElementsAre("the-", "final-", "-", "countdown"));
  EXPECT_THAT(cut(split("MergedWithNext"), s), ElementsAre("the", "-final", "-", "-countdown"));
  EXPECT_THAT(cut(split("Contiguous"), s), ElementsAre("the", "-", "final", "--", "countdown"));
  EXPECT_THAT(cut(split("Removed", true), s), ElementsAre("-", "-", "-"));
}

TEST(PreTokenizer, Characters) {
  EXPECT_THAT(cut({{"type", "Digits"}, {"individual_digits", true}}, "ab12½c"), ElementsAre("ab", "1", "2", "½", "c"));
  EXPECT_THAT(cut({{"type", "Digits"}, {"individual_digits", false}}, "ab12½c"), ElementsAre("ab", "12½", "c"));
  EXPECT_THAT(cut({{"type", "Punctuation"}}, "a,b。$c"), ElementsAre("a", ",", "b", "。", "$", "c"));
  EXPECT_THAT(cut({{"type", "WhitespaceSplit"}}, " a\u3000b,c  "), ElementsAre("a", "b,c"));
  EXPECT_THAT(cut({{"type", "Whitespace"}}, "How are_you?? \u00e9!"), ElementsAre("How", "are_you", "??", "\u00e9", "!"));
}

TEST(PreTokenizer, Metaspace) {
  const json always = {{"type", "Metaspace"}, {"replacement", "\u2581"}, {"prepend_scheme", "always"}};
  EXPECT_THAT(cut(always, "Hey my  friend"), ElementsAre("\u2581Hey", "\u2581my", "\u2581", "\u2581friend"));
  const json first = {{"type", "Metaspace"}, {"replacement", "\u2581"}, {"prepend_scheme", "first"}, {"split", false}};
  EXPECT_THAT(cut(first, "a b"), ElementsAre("\u2581a\u2581b"));
  EXPECT_THAT(cut(first, "a b", false), ElementsAre("a\u2581b"));
  EXPECT_THAT(cut(first, " a"), ElementsAre("\u2581a"));
  EXPECT_THAT(cut({{"type", "Metaspace"}, {"add_prefix_space", false}, {"split", false}}, "a b"), ElementsAre("a\u2581b"));
}

TEST(PreTokenizer, ByteLevel) {
  EXPECT_THAT(cut({{"type", "ByteLevel"}, {"add_prefix_space", true}}, "Hi you're\n\n1"), ElementsAre("ĠHi", "Ġyou", "'re", "Ċ", "Ċ", "1"));
  EXPECT_THAT(cut({{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}, "é \n"), ElementsAre("Ã©ĠĊ"));
}

TEST(PreTokenizer, NothingComesOfNothing) {
  EXPECT_TRUE(cut({{"type", "ByteLevel"}}, "").empty());
  EXPECT_TRUE(cut({{"type", "Metaspace"}}, "").empty());
  EXPECT_TRUE(cut({{"type", "WhitespaceSplit"}}, "  \n").empty());
}

}  // namespace
}  // namespace moegen::text
