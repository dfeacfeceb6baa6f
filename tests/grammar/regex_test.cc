#define PCRE2_CODE_UNIT_WIDTH 8
#include <gtest/gtest.h>
#include <pcre2.h>

#include "moegen/error.h"
#include "tests/grammar/support.h"
#include "tests/support/cpu_timer.h"

namespace moegen::testing {
namespace {

// PCRE2 as the judge of what a pattern means; with UCP classes are Unicode's.
bool pcre_matches(const std::string& pattern, const std::string& text, uint32_t options = 0) {
  const std::string whole = "\\A(?:" + pattern + ")\\z";
  int error = 0;
  PCRE2_SIZE at = 0;
  pcre2_code* code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(whole.data()), whole.size(), PCRE2_UTF | PCRE2_DOLLAR_ENDONLY | options, &error, &at, nullptr);
  if (code == nullptr) throw std::runtime_error("PCRE2 does not take " + pattern);
  pcre2_match_data* data = pcre2_match_data_create_from_pattern(code, nullptr);
  const int rc = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0, 0, data, nullptr);
  pcre2_match_data_free(data);
  pcre2_code_free(code);
  return rc >= 0;
}

std::string random_pattern(std::mt19937& rng, int depth) {
  static const std::vector<std::string> kAtoms = {"a", "b",     "é",      "日",  "[ab]",  "[^a]",   "[^é]",    "\\d",     "\\w",     "[a-c1-3]",  "1",
                                                  ".", "\\x61", "[^\\d]", "\\D", "[à-ÿ]", "\\p{L}", "\\P{Ll}", "\\p{^N}", "[\\pL_]", "[^\\p{Pd}]"};
  const auto pick = [&](uint32_t n) { return rng() % n; };
  if (depth == 0 || pick(4) == 0) return kAtoms[pick(static_cast<uint32_t>(kAtoms.size()))];
  std::string out;
  switch (pick(4)) {
    case 0:
      return random_pattern(rng, depth - 1) + random_pattern(rng, depth - 1);
    case 1:
      out.append("(").append(random_pattern(rng, depth - 1)).append("|").append(random_pattern(rng, depth - 1)).append(")");
      return out;
    case 2: {
      static const std::vector<std::string> kTimes = {"*", "+", "?", "{2}", "{1,3}", "{0,2}", "{2,}", "*?"};
      out.append("(?:").append(random_pattern(rng, depth - 1)).append(")").append(kTimes[pick(8)]);
      return out;
    }
    default:
      return random_pattern(rng, depth - 1) + random_pattern(rng, depth - 1) + random_pattern(rng, depth - 1);
  }
}

TEST(GrammarRegex, MeansWhatPcre2Does) {
  std::mt19937 rng(7);
  static const std::vector<std::string> kLetters = {"a", "b", "c", "1", "2", "é", "日", "_", "-", "\n"};
  int matched = 0;
  int refused = 0;
  for (int i = 0; i < 400; ++i) {
    const std::string pattern = random_pattern(rng, 4);
    std::shared_ptr<Grammar> grammar;
    try {
      grammar = regex(pattern);
    } catch (const Error& e) {  // hundreds of ranges of characters side by side, times a repeat of a repeat
      ASSERT_NE(std::string(e.what()).find("too complex"), std::string::npos) << pattern;
      ++refused;
      continue;
    }
    for (int k = 0; k < 40; ++k) {
      std::string text;
      for (auto n = rng() % 7; n > 0; --n) text += kLetters[rng() % kLetters.size()];
      const bool want = pcre_matches(pattern, text);
      matched += want ? 1 : 0;
      ASSERT_EQ(accepts(grammar, text), want) << pattern << " on " << text;
    }
    for (int k = 0; k < 5; ++k) {
      bool complete = false;
      const std::string text = random_text(grammar, rng, complete, 60);
      ASSERT_TRUE(!complete || pcre_matches(pattern, text)) << pattern << " wrote " << text;
      ASSERT_EQ(text.find("<nothing"), std::string::npos) << pattern;
    }
  }
  EXPECT_LT(refused, 4);
  EXPECT_GT(matched, 500);
}

TEST(GrammarRegex, AnchorsAtTheEnds) {
  EXPECT_TRUE(accepts(regex("^ab$"), "ab"));
  EXPECT_TRUE(accepts(regex("^a|b$"), "b"));
  EXPECT_FALSE(accepts(regex("ab"), "xab"));
  const auto found = schema(R"({"type":"string","pattern":"ab"})");
  EXPECT_TRUE(accepts(found, R"("xaby")"));
  EXPECT_FALSE(accepts(found, R"("xay")"));
  const auto begins = schema(R"({"type":"string","pattern":"^ab"})");
  EXPECT_TRUE(accepts(begins, R"("aby")"));
  EXPECT_FALSE(accepts(begins, R"("xab")"));
}

// What is written holds for whoever checks it: with ASCII's classes, with Unicode's, with Python's and ECMA's white space.
TEST(GrammarRegex, ClassesHoldInAllDialects) {
  std::mt19937 rng(3);
  for (const char* pattern :
       {"\\W{4}", "[^\\w]{4}", "\\D{4}", "[^\\d,]{4}", "[\\W\\d]{4}", "[^\\W]{4}", "[^\\D]{4}", "\\s{4}", "\\S{4}", "[^\\s]{4}"}) {
    const auto grammar = regex(pattern);
    for (int i = 0; i < 200; ++i) {
      bool complete = false;
      const std::string text = random_text(grammar, rng, complete, 60);
      ASSERT_TRUE(complete) << pattern;
      EXPECT_TRUE(pcre_matches(pattern, text, PCRE2_UCP)) << pattern << " wrote " << text;
    }
  }
  for (const char* space : {"\x1C", "\x1F", "\xC2\x85", "\xEF\xBB\xBF"}) {
    EXPECT_FALSE(accepts(regex("\\s"), space)) << static_cast<int>(space[0]);
    EXPECT_FALSE(accepts(regex("\\S"), space)) << static_cast<int>(space[0]);
    EXPECT_TRUE(accepts(regex("[\\s\\S]"), space)) << static_cast<int>(space[0]);
  }
  for (const char* word : {"é", "日", "²", "\u0663"}) EXPECT_TRUE(accepts(regex("[\\w\\W][\\D\\d]"), std::string(word) + word)) << word;
  EXPECT_FALSE(accepts(regex("\\W"), "²"));
  EXPECT_FALSE(accepts(regex("\\D"), "\u0663"));
  EXPECT_TRUE(accepts(regex("\\W"), "€"));
}

TEST(GrammarRegex, QuotedTextsAreEscaped) {
  const auto g = schema(R"({"type":"string","pattern":"^[\"\\\\\n]+$"})");
  EXPECT_TRUE(accepts(g, R"("\"\\\n")"));
  EXPECT_FALSE(accepts(g, R"("""")"));
}

std::string refusal(const std::string& pattern) {
  const CpuTimer timer;
  try {
    regex(pattern);
  } catch (const Error& e) {
    EXPECT_LT(timer.seconds(), 5) << pattern.substr(0, 50);
    return e.what();
  }
  return "accepted";
}

TEST(GrammarRegex, RefusesByName) {
  EXPECT_NE(refusal("a(?=b)").find("lookahead"), std::string::npos);
  EXPECT_NE(refusal("(?<!a)b").find("lookbehind"), std::string::npos);
  EXPECT_NE(refusal("(a)\\1").find("backreference"), std::string::npos);
  EXPECT_NE(refusal("\\bword").find("word boundary"), std::string::npos);
  EXPECT_NE(refusal("\\p{Greek}").find("\\p"), std::string::npos);
  EXPECT_NE(refusal("(?i)a").find("flags"), std::string::npos);
  EXPECT_NE(refusal("a^b").find("anchor"), std::string::npos);
  EXPECT_NE(refusal("a*+").find("possessive"), std::string::npos);
  for (const char* bad : {"(",   ")",        "[a",      "a**", "*a",   "a{3,2}", "\\",  "[z-a]", "\\u12", "[[:alpha:]]", "(?<n",
                          "[\\", "a{99999}", "\\ud800", "[]",  "[]a]", "[^]a]",  "[^]", "\\u{}", "\\p{L", "\\p"}) {
    EXPECT_NE(refusal(bad), "accepted") << bad;
  }
}

TEST(GrammarRegex, GeneralCategories) {
  const auto name = regex("\\p{Lu}[\\p{L}\\p{M}' -]{0,40}");
  EXPECT_TRUE(accepts(name, "Élodie d'Ærø"));
  EXPECT_TRUE(accepts(name, "Ñuñoa"));
  EXPECT_FALSE(accepts(name, "élodie"));
  EXPECT_FALSE(accepts(name, "日本"));  // Lo
  EXPECT_TRUE(accepts(regex("\\p{Sc}\\pN+"), "€٣5"));
  EXPECT_FALSE(accepts(regex("\\p{Cs}|a"), "b"));  // no text has a surrogate
}

TEST(GrammarRegex, RefusesWhatIsNotUtf8) {
  for (const char* bad : {"a\xFF", "a+\xD6", "[\xE6\x97]"}) EXPECT_THROW(regex(bad), Error) << bad;
}

TEST(GrammarRegex, HostilePatternsAreRefusedQuickly) {
  EXPECT_NE(refusal("(a{1000}){1000}"), "accepted");
  EXPECT_NE(refusal("((((((a{60}){60}){60}){60}){60}){60})"), "accepted");
  EXPECT_NE(refusal("(.*a.{30}|.*b.{30})"), "accepted");
  EXPECT_NE(refusal("(a?){3000}(a?){3000}b"), "accepted");
  EXPECT_NE(refusal(std::string(100'000, 'a')), "accepted");
  EXPECT_NE(refusal(std::string(10'000, '(')), "accepted");
  EXPECT_NE(refusal("(((a*)*)*)*" + std::string(70'000, '*')), "accepted");
}

}  // namespace
}  // namespace moegen::testing
