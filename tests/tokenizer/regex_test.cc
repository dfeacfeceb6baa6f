#include "tokenizer/regex.h"

#include <gtest/gtest.h>

#include "moegen/error.h"
#include "tokenizer/regex_dialect.h"

namespace moegen::text {
namespace {

bool matches(const std::string& pattern, std::string_view text) {
  const Regex regex = Regex::compile("\\A(?:" + pattern + ")\\z");
  Regex::Scratch scratch;
  Match m;
  return regex.find(text, 0, scratch, m);
}

TEST(Regex, SpacesAreThoseOfUnicode) {
  for (const char* s : {" ", "\t", "\n", "\v", "\r", "\u0085", "\u00A0", "\u2028", "\u3000", "\u1680"}) {
    EXPECT_TRUE(matches(R"(\s)", s)) << s;
    EXPECT_TRUE(matches(R"([\sx])", s)) << s;
    EXPECT_FALSE(matches(R"(\S)", s)) << s;
    EXPECT_FALSE(matches(R"([^\s])", s)) << s;
    EXPECT_FALSE(matches(R"([x\S])", s)) << s;
    EXPECT_TRUE(matches(R"([^x\S])", s)) << s;
  }
  for (const char* s : {"\u180E", "\u200B", "a"}) {
    EXPECT_FALSE(matches(R"(\s)", s)) << s;
    EXPECT_TRUE(matches(R"(\S)", s)) << s;
    EXPECT_TRUE(matches(R"([1\S])", s)) << s;
  }
}

TEST(Regex, IntersectionsOfClasses) {
  EXPECT_TRUE(matches(R"([\p{L}&&[^\p{Han}]]+)", "abcé"));
  EXPECT_FALSE(matches(R"([\p{L}&&[^\p{Han}]])", "你"));
  EXPECT_FALSE(matches(R"([\p{L}&&[^\p{Han}]])", "1"));
  EXPECT_TRUE(matches(R"([^\p{L}&&[^\p{Han}]])", "你"));
  EXPECT_TRUE(matches(R"([a-f[x-z]]+)", "afxz"));
  EXPECT_FALSE(matches(R"([a-f[x-z]])", "g"));
  EXPECT_TRUE(matches(R"([a-z&&[^aeiou]&&[^xyz]]+)", "bcd"));
}

TEST(Regex, ScriptsAreScriptsNotTheirExtensions) {
  EXPECT_FALSE(matches(R"(\p{Han})", "\u3001"));  // a comma that several scripts share
  EXPECT_TRUE(matches(R"(\P{Han})", "\u3001"));
}

// Texts are matched with characters that PCRE2 knows in the place of newer ones, so patterns that name some have to mean those.
TEST(Regex, PatternsThatNameNewerCharacters) {
  const auto found = [](const std::string& pattern, std::string_view text) {
    std::string out;
    Regex::Scratch scratch;
    for_each_match(Regex::compile(pattern), text, scratch, [&](Match m) { out += text.substr(m.begin, m.end - m.begin); });
    return out;
  };
  for (const char* p : {"\U000105c0", "\\x{105c0}", "\\\U000105c0", "[\U000105c0]", "[x\\x{105c0}]", "[\U000105c0-\U000105c3]",
                        "[\\x{105b0}-\\x{105c5}x]", "[^a-z]"}) {
    EXPECT_EQ(found(p, "a\U000105c0b"), "\U000105c0") << p;
  }
  EXPECT_EQ(found("[\\x{13439}-\\x{13446}]", "a\U00013439\U00013446b"), "\U00013439\U00013446") << "taken for characters in another order";
  EXPECT_EQ(found("[a-c-z]", "-bz"), "-bz");
  EXPECT_EQ(found("[--/]", "-./a"), "-./");
  EXPECT_EQ(found("[\u00a0a-z]+", "A\u00a0az1"), "\u00a0az");
  EXPECT_EQ(found("[\\u4e00-\\u9fff]", "a中b"), "中");
}

TEST(Regex, OtherDifferences) {
  EXPECT_TRUE(matches(R"(\u4f60\u{597d})", "你好"));
  EXPECT_TRUE(matches(R"(\h+)", "0aF"));
  EXPECT_TRUE(matches(R"(\w+)", "a_1\u0301\u203F"));
  EXPECT_TRUE(matches(R"([[:alpha:]]+)", "abc"));
  EXPECT_TRUE(matches(R"([\]\[]+)", "[]"));
  EXPECT_TRUE(matches("(?i:'s)", "'\u017F"));
}

// Oniguruma's, as the package tokenizers has it.
TEST(Regex, WordCharactersAndTheirBoundaries) {
  for (const char* c : {"\u00b2", "\u00b3", "\u00b9", "\u00bc", "\u00bd", "\u00be"}) {
    EXPECT_TRUE(matches(R"(\w)", c)) << c;
    EXPECT_FALSE(matches(R"([\w])", c)) << c;
    EXPECT_FALSE(matches(R"(\W)", c)) << c;
    EXPECT_TRUE(matches(R"([\W])", c)) << c;
  }
  EXPECT_TRUE(matches(R"(a\B\x{301}\b.)", "a\u0301-"));
  EXPECT_TRUE(matches(R"(a\B\x{b2}\b-\B)", "a\u00b2-"));
  EXPECT_FALSE(matches(R"(a\bb)", "ab"));
  EXPECT_TRUE(matches(R"([[:word:]]+)", "a\u0301"));
  EXPECT_TRUE(matches(R"([[:punct:]]+)", "$+.\u00a2"));
  EXPECT_TRUE(matches(R"([[:^alpha:]]+)", "1-"));
  EXPECT_FALSE(matches(R"([[:^alpha:]])", "\u0345")) << "alphabetic, though no letter";
}

TEST(Regex, LongNamesOfProperties) {
  EXPECT_TRUE(matches(R"(\p{Letter}\p{uppercase_letter}\P{Letter})", "\u00e9A1"));
  EXPECT_TRUE(matches(R"([\p{Decimal Number}\P{Punctuation}]+)", "1a"));
  EXPECT_FALSE(matches(R"([\P{Punctuation}])", "."));
  EXPECT_TRUE(matches(R"(\p{^Mark})", "a"));
  EXPECT_TRUE(matches(R"(\pL)", "pL")) << "as Oniguruma has it";
}

TEST(Regex, QuantifiersOptionsAndLineEnds) {
  EXPECT_TRUE(matches("a{,3}", "aaa"));
  EXPECT_FALSE(matches("a{,3}", "aaaa"));
  EXPECT_TRUE(matches("(?m:.)", "\n")) << "m is the s of others";
  EXPECT_FALSE(matches("(?mi-m:.)", "\n"));
  EXPECT_THROW(Regex::compile("(?s:.)"), Error);
  EXPECT_TRUE(matches(R"(\R\R\O)", "\r\n\n\n"));
  EXPECT_FALSE(matches("[a-z&&^A-Z]", "a")) << "a circumflex within";
  EXPECT_TRUE(matches("[a-z^&&^A-Z]", "^"));
}

TEST(Regex, CharactersNewerThanTheTables) {
  const Regex letters = Regex::compile(R"(\p{L}+|\p{Nd}|\p{Han}+)");
  Regex::Scratch scratch;
  std::vector<size_t> found;
  for_each_match(letters, "-\U000105C0\U00031350\U00010D40", scratch, [&](Match m) { found.insert(found.end(), {m.begin, m.end}); });
  EXPECT_EQ(found, (std::vector<size_t>{1, 9, 9, 13}));
}

TEST(Regex, NewerCharactersKeepTheirScript) {
  const Regex cyrillic = Regex::compile(R"(\p{Cyrillic}|\p{Hiragana})");
  Regex::Scratch scratch;
  size_t found = 0;
  for_each_match(cyrillic, "\u1C89\U0001B132\U00031350", scratch, [&](Match) { ++found; });
  EXPECT_EQ(found, 2U);
}

TEST(Regex, RefusesWhatItCannotDo) {
  const std::string bomb = std::string(1000, '[') + "a" + std::string(1000, ']');
  for (const std::string& p : {std::string("("), std::string("[a"), std::string("\\"), std::string("\\p{Nope}"), std::string("\\X"),
                               std::string(1000, '('), bomb, std::string(100'000, 'a')}) {
    EXPECT_THROW(Regex::compile(p), Error) << p.substr(0, 20);
  }
}

TEST(Regex, WorkIsBounded) {
  const Regex regex = Regex::compile("(a|aa)+$");
  Regex::Scratch scratch;
  Match m;
  EXPECT_THROW((void)regex.find(std::string(200, 'a') + "b", 0, scratch, m), Error);
}

TEST(Regex, EmptyMatchesMoveOn) {
  const Regex regex = Regex::compile("x*");
  Regex::Scratch scratch;
  std::vector<size_t> found;
  for_each_match(regex, "éxx你", scratch, [&](Match m) { found.insert(found.end(), {m.begin, m.end}); });
  EXPECT_EQ(found, (std::vector<size_t>{0, 0, 2, 4, 7, 7}));
}

}  // namespace
}  // namespace moegen::text
