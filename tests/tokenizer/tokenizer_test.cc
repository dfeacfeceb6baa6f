#include "tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "moegen/error.h"
#include "tests/tokenizer/small_tokenizer.h"
#include "tokenizer/newer_chars.h"
#include "tokenizer/unicode.h"

namespace moegen {
namespace {

using testing::byte_fallback_tokenizer;
using testing::byte_level_tokenizer;
using ::testing::ElementsAre;
using testing::load;
using Ids = std::vector<int32_t>;

constexpr EncodeOptions kPlain{.add_special_tokens = false};

std::string random_text(std::mt19937& random, size_t max) {
  static const std::u32string kChars = U"aaabbbcd  \n\té你\U0001F600\u0301\u2581<s>";
  std::string s;
  for (size_t n = random() % (max + 1); n > 0; --n) text::append_utf8(s, kChars[random() % kChars.size()]);
  return s;
}

std::string random_bytes(std::mt19937& random, size_t max) {
  std::string s;
  for (size_t n = random() % (max + 1); n > 0; --n) s.push_back(static_cast<char>(random() % 256));
  return s;
}

// Merging as the definition says: again and again the leftmost pair of the best rank.
Ids merged_by_definition(const nlohmann::json& file, const std::string& text) {
  std::vector<std::string> symbols;
  const std::string word = text::ByteAlphabet::get().to_text(text);
  for (size_t i = 0; i < word.size(); i += text::char_bytes(word[i])) symbols.push_back(word.substr(i, text::char_bytes(word[i])));
  const auto& merges = file["model"]["merges"];
  for (;;) {
    size_t rank = merges.size();
    size_t at = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      for (size_t r = 0; r < rank; ++r) {
        if (merges[r].get<std::string>() == symbols[i] + " " + symbols[i + 1]) rank = r, at = i;
      }
    }
    if (rank == merges.size()) break;
    symbols[at] += symbols[at + 1];
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
  Ids ids;
  for (const std::string& s : symbols) ids.push_back(file["model"]["vocab"][s].get<int32_t>());
  return ids;
}

const std::vector<std::string> kMerges = {"a a", "b b", "aa a", "a b", "aa aa", "ab b", "c d", "aaaa aa", "ab ab", "b a", "bb bb", "abab a"};

// As tokenizers has them, whose tables are older than ours.
TEST(Unicode, PropertiesAreThoseThatModelsWereTrainedWith) {
  EXPECT_TRUE(text::is_punctuation(U'\u2E42'));
  EXPECT_FALSE(text::is_punctuation(U'\u2E43')) << "of Unicode 9";
  EXPECT_TRUE(text::is_punctuation(U'\u166D')) << "a symbol since Unicode 12";
  EXPECT_TRUE(text::is_word(U'\U0001F130'));
  nlohmann::json file = byte_level_tokenizer({});
  file["normalizer"] = {{"type", "NFKC"}};
  const Tokenizer t = load(file);
  const auto text = [&](const char* s) { return t.decode(t.encode(s, kPlain), false); };
  EXPECT_EQ(text("\u32FEe\u0301"), "\u30F2\u00E9");
  EXPECT_EQ(text("\u32FFe\u0301"), "\u32FF\u00E9") << "of Unicode 12";
}

TEST(Unicode, CharactersThatCameLaterAreWhatTheyAreInUnicode16) {
  EXPECT_TRUE(text::is_word(U'\U000105C0')) << "a letter of 16";
  EXPECT_FALSE(text::is_word(U'\u2427')) << "a symbol of 16";
  EXPECT_TRUE(text::is_numeric(U'\U00010D40')) << "a digit of 16";
  EXPECT_TRUE(text::is_word(U'\U000323AF')) << "a letter of 15";
  EXPECT_FALSE(text::is_punctuation(U'\u1B4E')) << "of 16: see above";
  std::string lower;
  for (const char32_t c : U"\u1C89\uA7CB\uA7DC\U00010D50\u0416") text::append_lower(lower, c);
  EXPECT_EQ(lower, std::string("\u1C8A\u0264\u019B\U00010D70\u0436") + '\0');
  std::string storage;
  const std::string old = "a\u00e9 \u2425\u3400\uA7C9\U0001F600";
  EXPECT_EQ(text::with_known_chars(old, storage).data(), old.data());
  for (char32_t c = 0x80; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    const char32_t known = text::known_char(c);
    ASSERT_EQ(text::known_char(known), known) << std::hex << static_cast<uint32_t>(c);
    const std::string s = "x" + text::to_utf8(c) + "y";
    ASSERT_EQ(text::with_known_chars(s, storage), "x" + text::to_utf8(known) + "y") << std::hex << static_cast<uint32_t>(c);
    ASSERT_EQ(text::to_utf8(known).size(), s.size() - 2);
  }
}

TEST(Bpe, MergesAsTheDefinitionSaysShortAndLong) {
  const nlohmann::json file = byte_level_tokenizer(kMerges);
  const Tokenizer tokenizer = load(file);
  std::mt19937 random(1);
  for (int i = 0; i < 600; ++i) {
    std::string s;
    const size_t length = i % 2 == 0 ? random() % 20 : random() % 120;
    for (size_t n = 0; n < length; ++n) s.push_back("aaabbcd"[random() % 7]);
    ASSERT_EQ(tokenizer.encode(s, kPlain), merged_by_definition(file, s)) << s;
    ASSERT_EQ(tokenizer.encode(s, kPlain), merged_by_definition(file, s)) << "once more, from the memo: " << s;
  }
}

TEST(Bpe, LongRunsTakeTimeInProportion) {
  const Tokenizer tokenizer = load(byte_level_tokenizer(kMerges));
  EXPECT_EQ(tokenizer.encode(std::string(4'000'000, 'a'), kPlain).size(), 4'000'000U / 4);
  EXPECT_EQ(tokenizer.encode(std::string(1'000'000, 'z'), kPlain).size(), 1'000'000U);
}

TEST(Bpe, IgnoreMergesTakesTheWholeWord) {
  nlohmann::json file = byte_level_tokenizer({"a b", "c d", "ab cd"});
  file["model"]["vocab"]["xyz"] = 300;
  EXPECT_THAT(load(file).encode("xyz", kPlain), ElementsAre('x', 'y', 'z'));
  file["model"]["ignore_merges"] = true;
  EXPECT_THAT(load(file).encode("xyz", kPlain), ElementsAre(300));
  EXPECT_THAT(load(file).encode("xyzx", kPlain), ElementsAre('x', 'y', 'z', 'x'));
}

TEST(Tokenizer, RoundTripsRandomTexts) {
  const Tokenizer byte_level = load(byte_level_tokenizer(kMerges));
  const Tokenizer fallback = load(byte_fallback_tokenizer());
  std::mt19937 random(2);
  for (int i = 0; i < 2000; ++i) {
    const std::string s = random_text(random, 30);
    ASSERT_EQ(byte_level.decode(byte_level.encode(s), false), s);
    if (s.find("\u2581") != std::string::npos || s.starts_with(' ') || s.find("<s>") != std::string::npos) continue;
    ASSERT_EQ(fallback.decode(fallback.encode(s, kPlain), false), s);
  }
}

TEST(Tokenizer, InvalidUtf8BecomesReplacementCharacters) {
  const Tokenizer tokenizer = load(byte_level_tokenizer({}));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("a\xFF\xE4\xBD"
                                              "b\xED\xA0\x80"),
                             false),
            "a\uFFFD\uFFFDb\uFFFD\uFFFD\uFFFD");
}

TEST(Tokenizer, PutsBosWhereTheConfigAsksAndNobodyElseDid) {
  const nlohmann::json config = {{"add_bos_token", true}, {"bos_token", {{"content", "<s>"}}}};
  const Tokenizer with_template = load(byte_fallback_tokenizer(), config);
  EXPECT_EQ(with_template.encode("ab").front(), 1);
  EXPECT_NE(with_template.encode("ab")[1], 1);
  EXPECT_NE(with_template.encode("ab", kPlain).front(), 1);
  nlohmann::json file = byte_fallback_tokenizer();
  file["post_processor"] = nullptr;
  EXPECT_EQ(load(file, config).encode("ab").front(), 1);
  EXPECT_NE(load(file).encode("ab").front(), 1);
}

TEST(Tokenizer, KnowsTheTokenAtWhichItsConfigSaysThatTextsEnd) {
  EXPECT_EQ(load(byte_fallback_tokenizer()).eos(), std::nullopt);
  EXPECT_EQ(load(byte_fallback_tokenizer(), {{"eos_token", "</s>"}}).eos(), 2);
  EXPECT_EQ(load(byte_fallback_tokenizer(), {{"eos_token", {{"content", "</s>"}}}}).eos(), 2);
  EXPECT_EQ(load(byte_fallback_tokenizer(), {{"eos_token", "<nowhere>"}}).eos(), std::nullopt);
  EXPECT_EQ(load(byte_fallback_tokenizer(), {{"eos_token", nullptr}}).eos(), std::nullopt);
}

TEST(Tokenizer, AddedTokensAsTheFilesBesideSay) {
  nlohmann::json file = byte_level_tokenizer({"a b"});
  file["added_tokens"] = {{{"id", 300}, {"content", "<x>"}, {"special", false}}, {{"id", 301}, {"content", "<y>"}, {"special", true}}};
  nlohmann::json config = {{"added_tokens_decoder",
                            {{"300", {{"content", "<x>"}, {"rstrip", true}, {"special", true}}},
                             {"301", {{"content", "<y>"}, {"special", false}}},
                             {"302", {{"content", "<z>"}, {"normalized", false}}},
                             {"303", {{"content", "<eos>"}}}}},
                           {"eos_token", "<eos>"},
                           {"pad_token", "ab"},
                           {"bos_token", "<nowhere>"}};
  const Tokenizer t = load(file, config);
  EXPECT_THAT(t.encode("<x> c<z><eos><y>ab<nowhere>").size(), 6U + std::string("<nowhere>").size());
  EXPECT_THAT(t.encode("<x> c<z><eos><y>ab"), ElementsAre(300, 'c', 302, 303, 301, 256));
  EXPECT_EQ(t.decode(t.encode("<x> c<z><eos><y>ab"), true), "c<z>") << "what either file calls special is";
  EXPECT_FALSE(t.id_of("<nowhere>"));
  config["added_tokens_decoder"] = {{"x", {{"content", "<x>"}}}};
  EXPECT_THROW(load(file, config), Error);

  const testing::ScratchDir older;
  older.write("tokenizer.json", file.dump());
  older.write("tokenizer_config.json", R"({"eos_token": "b"})");
  older.write("special_tokens_map.json", R"({"eos_token": {"content": "<end>"}})");
  older.write("added_tokens.json", R"({"<x>": 300, "<end>": 302, "<more>": 303})");
  const Tokenizer o = Tokenizer::load(older.path());
  EXPECT_THAT(o.encode("<end><more><x>"), ElementsAre(302, 303, 300));
  EXPECT_EQ(o.decode(std::vector<int32_t>{302, 303, 300}, true), "<more><x>");
}

TEST(Tokenizer, AddedTokens) {
  nlohmann::json file = byte_level_tokenizer({});
  file["added_tokens"] = {{{"id", 300}, {"content", "<x>"}, {"special", true}},
                          {{"id", 301}, {"content", "<x>y"}, {"special", false}, {"normalized", false}},
                          {{"id", 302}, {"content", "word"}, {"single_word", true}},
                          {{"id", 303}, {"content", "<l>"}, {"lstrip", true}},
                          {{"id", 304}, {"content", "<r>"}, {"rstrip", true}}};
  const Tokenizer t = load(file);
  EXPECT_THAT(t.encode("a<x>b"), ElementsAre('a', 300, 'b'));
  EXPECT_THAT(t.encode("<x>y<x>"), ElementsAre(301, 300));
  EXPECT_THAT(t.encode("(word)"), ElementsAre('(', 302, ')'));
  EXPECT_EQ(t.encode("swords").size(), 6U);
  EXPECT_THAT(t.encode("a \u3000<l> b"), ElementsAre('a', 303, ' ', 'b'));
  EXPECT_THAT(t.encode("a <r>  b"), ElementsAre('a', ' ', 304, 'b'));
  EXPECT_THAT(t.encode("<x>", {.parse_special = false}), ElementsAre('<', 'x', '>'));
  EXPECT_EQ(t.decode(Ids{'a', 300, 301, 9999, -5, 'b'}, true), "a<x>yb");
  EXPECT_EQ(t.decode(Ids{'a', 300, 301, 9999, -5, 'b'}, false), "a<x><x>yb");
  EXPECT_TRUE(t.is_special(300));
  EXPECT_FALSE(t.is_special(301));
  EXPECT_EQ(t.vocab_size(), 305);
  EXPECT_EQ(t.id_of("<x>"), 300);
  EXPECT_EQ(t.id_of("nothing"), std::nullopt);
  EXPECT_EQ(t.token_bytes(0xC3), "\xC3");
}

TEST(Tokenizer, NormalizedAddedTokensAreFoundBehindTheNormalizer) {
  nlohmann::json file = byte_level_tokenizer({});
  file["normalizer"] = {{"type", "Sequence"}, {"normalizers", {{{"type", "NFKC"}}, {{"type", "Lowercase"}}}}};
  file["added_tokens"] = {{{"id", 300}, {"content", "Tool"}, {"normalized", true}}, {{"id", 301}, {"content", "Raw"}, {"normalized", false}}};
  const Tokenizer t = load(file);
  EXPECT_THAT(t.encode("TOOL"), ElementsAre(300));
  EXPECT_THAT(t.encode("RAW"), ElementsAre('r', 'a', 'w'));
  EXPECT_THAT(t.encode("Raw"), ElementsAre(301));
  EXPECT_EQ(t.decode(t.encode("ＡＢ\uFB01"), false), "abfi");
}

// As tokenizers does since 0.23.
TEST(Tokenizer, NormalizedAddedTokensAreDecodedAsTheyStandInNormalizedText) {
  nlohmann::json file = byte_level_tokenizer({});
  file["normalizer"] = {{"type", "Lowercase"}};
  file["added_tokens"] = {{{"id", 256}, {"content", "<X>"}, {"normalized", true}}, {{"id", 257}, {"content", "<Y>"}, {"normalized", false}}};
  const Tokenizer t = load(file);
  EXPECT_THAT(t.encode("<X><Y>", kPlain), ElementsAre(256, 257));
  EXPECT_EQ(t.decode(Ids{256, 257}, true), "<x><Y>");
}

// As tokenizers does it: what rstrip takes is looked through for further tokens.
TEST(Tokenizer, AddedTokensAmongTheSpacesThatRstripTook) {
  nlohmann::json file = byte_level_tokenizer({});
  file["added_tokens"] = {{{"id", 256}, {"content", "  "}, {"special", true}, {"rstrip", true}}};
  EXPECT_THAT(load(file).encode("   \n   a", kPlain), ElementsAre(256, 256, 'a'));
  file["added_tokens"][0]["lstrip"] = true;
  EXPECT_THAT(load(file).encode("   \n   a", kPlain), ElementsAre(256, 'a'));
}

TEST(Tokenizer, StripOfNoSideStripsNothing) {
  nlohmann::json file = byte_level_tokenizer({});
  file["normalizer"] = {{"type", "Strip"}, {"strip_left", false}, {"strip_right", false}};
  EXPECT_EQ(load(file).encode("  ", kPlain).size(), 2U);
}

// As tokenizers counts it: by where the first character stood.
TEST(Tokenizer, MetaspaceFirstGoesByThePlaceBeforeNormalizers) {
  const auto marked = [](const nlohmann::json& normalizer, const char* text) {
    nlohmann::json file = byte_fallback_tokenizer();
    file["model"]["merges"] = nlohmann::json::array();
    file["normalizer"] = normalizer;
    const Tokenizer t = load(file);
    return t.encode(text, kPlain).front() == *t.id_of("\u2581");
  };
  const auto replace = [](const char* from, const char* to) -> nlohmann::json {
    return {{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}};
  };
  const nlohmann::json strip = {{"type", "Strip"}, {"strip_left", true}, {"strip_right", true}};
  const nlohmann::json prepend = {{"type", "Prepend"}, {"prepend", "c"}};
  const auto both = [](const nlohmann::json& a, const nlohmann::json& b) -> nlohmann::json {
    return {{"type", "Sequence"}, {"normalizers", nlohmann::json::array({a, b})}};
  };
  EXPECT_TRUE(marked(nullptr, "ab"));
  EXPECT_FALSE(marked(strip, "  ab"));
  EXPECT_TRUE(marked(strip, "ab "));
  EXPECT_FALSE(marked(replace("a", ""), "ab"));
  EXPECT_TRUE(marked(replace("a", "c"), "ab"));
  EXPECT_FALSE(marked(replace("ab", "c"), "abd"));
  EXPECT_TRUE(marked(prepend, "ab"));
  EXPECT_FALSE(marked(both(strip, prepend), " ab"));
  EXPECT_TRUE(marked(both(prepend, replace("ca", "d")), "ab"));
  nlohmann::json file = byte_fallback_tokenizer();
  file["model"]["merges"] = nlohmann::json::array();
  file["normalizer"] = prepend;
  file["pre_tokenizer"] = {
      {"type", "Sequence"},
      {"pretokenizers", {{{"type", "Split"}, {"pattern", {{"Regex", "[ac]"}}}, {"behavior", "Isolated"}, {"invert", false}}, file["pre_tokenizer"]}}};
  const Tokenizer t = load(file);
  EXPECT_EQ(t.decode(t.encode("ab", kPlain), false), "c ab") << "the c stands where the a stood, so both are first";
  file["normalizer"] = {{"type", "NFD"}};
  file["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {{"Regex", "a"}};
  EXPECT_EQ(load(file).decode(load(file).encode("\u00e1b", kPlain), false), "a \u0301b") << "and so do the parts of a character";
}

TEST(Tokenizer, WhatVanishesDoesNotKeepItsNeighboursApart) {
  nlohmann::json file = byte_fallback_tokenizer();
  file["model"]["byte_fallback"] = false;
  file["model"]["unk_token"] = nullptr;
  file["pre_tokenizer"] = nullptr;
  const Tokenizer t = load(file);
  EXPECT_EQ(t.encode("a?b", kPlain), t.encode("ab", kPlain));
  EXPECT_THAT(t.encode("ab", kPlain), ElementsAre(*t.id_of("ab")));
}

TEST(Tokenizer, RunsOfCombiningMarksTakeTimeInProportion) {
  nlohmann::json file = byte_level_tokenizer({});
  file["normalizer"] = {{"type", "NFC"}};
  std::string s = "e";
  for (int i = 0; i < 300'000; ++i) s += i % 2 == 0 ? "\u0301" : "\u0316";
  EXPECT_EQ(load(file).encode(s, kPlain).size(), s.size() - 1);  // e and the first acute are one character of two bytes
}

void expect_refused(const nlohmann::json& file, ErrorCode code, const std::string& words) {
  try {
    load(file);
    FAIL() << "loads: " << words;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    EXPECT_THAT(e.what(), ::testing::HasSubstr(words));
    EXPECT_THAT(e.what(), ::testing::HasSubstr("tokenizer.json"));
  }
}

TEST(TokenizerFile, RefusesUnknownTypesByName) {
  const auto with = [](const char* part, nlohmann::json value) {
    nlohmann::json file = byte_level_tokenizer({});
    file[part] = std::move(value);
    return file;
  };
  for (const char* type : {"Unigram", "WordPiece", "WordLevel", "Strange"}) {
    nlohmann::json file = byte_level_tokenizer({});
    file["model"]["type"] = type;
    expect_refused(file, ErrorCode::unsupported, type);
  }
  expect_refused(with("normalizer", {{"type", "BertNormalizer"}}), ErrorCode::unsupported, "BertNormalizer");
  expect_refused(with("pre_tokenizer", {{"type", "UnicodeScripts"}}), ErrorCode::unsupported, "UnicodeScripts");
  expect_refused(with("post_processor", {{"type", "RobertaProcessing"}}), ErrorCode::unsupported, "RobertaProcessing");
  expect_refused(with("decoder", {{"type", "CTC"}}), ErrorCode::unsupported, "CTC");
  expect_refused(with("pre_tokenizer", {{"type", "Split"}, {"pattern", {{"Regex", "(?<"}}}}), ErrorCode::unsupported, "(?<");
}

TEST(TokenizerFile, TakesWhatIsOfNoConsequence) {
  nlohmann::json file = byte_level_tokenizer({"a b"});
  const auto plain = load(file).encode("ab ba", kPlain);
  file["model"]["merges"].insert(file["model"]["merges"].begin(), "#version: 0.2");
  file["model"]["unk_token"] = "<none>";
  file["model"]["vocab"].erase("q");
  EXPECT_EQ(load(file).encode("ab ba", kPlain), plain);
  EXPECT_THROW(static_cast<void>(load(file).encode("aq", kPlain)), Error) << "there is no token for it, as tokenizers says too";
}

TEST(TokenizerFile, RefusesWhatIsMalformed) {
  nlohmann::json file = byte_level_tokenizer({"a b"});
  const auto changed = [&](const char* pointer, nlohmann::json value) {
    nlohmann::json copy = file;
    copy[nlohmann::json::json_pointer(pointer)] = std::move(value);
    return copy;
  };
  expect_refused(changed("/model/merges/0", "a z\u0001"), ErrorCode::corrupt, "merge 0");
  expect_refused(changed("/model/merges/0", "ab"), ErrorCode::corrupt, "two parts");
  expect_refused(changed("/model/merges/0", {"a"}), ErrorCode::corrupt, "two parts");
  expect_refused(changed("/model/merges/0", 7), ErrorCode::corrupt, "does not belong");
  expect_refused(changed("/model/vocab/a", "x"), ErrorCode::corrupt, "does not belong");
  expect_refused(changed("/model/vocab/a", -1), ErrorCode::corrupt, "id -1");
  expect_refused(changed("/model/vocab/a", 1'000'000'000), ErrorCode::corrupt, "1000000000");
  expect_refused(changed("/added_tokens", {{{"id", 5'000'000'000}, {"content", "x"}}}), ErrorCode::corrupt, "\"id\"");
  expect_refused(changed("/added_tokens", {{{"id", 5}}}), ErrorCode::corrupt, "content");
  expect_refused(changed("/decoder", 5), ErrorCode::corrupt, "decoder");
  expect_refused(changed("/model", nullptr), ErrorCode::corrupt, "model");
  nlohmann::json deep = {{"type", "NFC"}};
  for (int i = 0; i < 12; ++i) deep = {{"type", "Sequence"}, {"normalizers", {deep}}};
  expect_refused(changed("/normalizer", deep), ErrorCode::unsupported, "nested");
}

TEST(TokenizerFile, RefusesBombsAndTornFiles) {
  const testing::ScratchDir dir;
  for (const std::string& text :
       {std::string("{\"a\":") + std::string(100'000, '['), std::string(), std::string("[]"), std::string("{\"model\":{\"vocab\":{\"a\":1}"),
        std::string("{\"model\":{\"vocab\":[1],\"merges\":{}}}"), std::string("{\"model\":{\"vocab\":{\"a\":{}}}}"), std::string("\xFF\xFE")}) {
    dir.write("tokenizer.json", text);
    EXPECT_THROW(Tokenizer::load(dir.path()), Error) << text.substr(0, 60);
  }
}

void expect_stream_equals_whole(const Tokenizer& t, const Ids& ids, bool skip, size_t prompt) {
  const std::span<const int32_t> all(ids);
  const std::string before = t.decode(all.first(prompt), skip);
  const std::string whole = t.decode(all, skip);
  if (!whole.starts_with(before)) return;  // the prompt ends inside a character
  StreamDecoder stream(t, skip, all.first(prompt));
  std::string out;
  for (const int32_t id : all.subspan(prompt)) {
    const std::string piece = stream.push(id);
    ASSERT_EQ(text::first_invalid(piece), piece.size());
    out += piece;
  }
  out += stream.finish();
  ASSERT_EQ(before + out, whole);
}

TEST(StreamDecoder, PiecesTogetherAreTheWhole) {
  nlohmann::json byte_level = byte_level_tokenizer(kMerges);
  byte_level["added_tokens"] = {{{"id", 2}, {"content", "<s>"}, {"special", true}}};
  std::mt19937 random(3);
  for (const nlohmann::json& file : {byte_level, byte_fallback_tokenizer()}) {
    const Tokenizer t = load(file);
    for (int i = 0; i < 3000; ++i) {
      Ids ids;
      for (size_t n = random() % 12; n > 0; --n) ids.push_back(static_cast<int32_t>(random() % static_cast<uint32_t>(t.vocab_size() + 2)));
      const std::string bytes = i % 2 == 0 ? random_text(random, 5) : random_bytes(random, 5);
      for (const char b : bytes) ids.push_back((t.id_of("<0x00>") ? 3 : 0) + static_cast<unsigned char>(b));
      expect_stream_equals_whole(t, ids, i % 3 == 0, ids.empty() ? 0 : random() % ids.size());
    }
  }
}

TEST(StreamDecoder, GivesCharactersAsSoonAsTheyAreWhole) {
  const Tokenizer t = load(byte_level_tokenizer({}));
  StreamDecoder s(t, true);
  EXPECT_EQ(s.push(0xF0), "");
  EXPECT_EQ(s.push(0x9F), "");
  EXPECT_EQ(s.push(0x98), "");
  EXPECT_EQ(s.push(0x80), "\U0001F600");
  EXPECT_EQ(s.push('a'), "a");
  EXPECT_EQ(s.push(0xE4), "");
  EXPECT_EQ(s.finish(), "\uFFFD");
}

}  // namespace
}  // namespace moegen
