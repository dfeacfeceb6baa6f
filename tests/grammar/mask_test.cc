#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "tests/grammar/support.h"
#include "tests/tokenizer/small_tokenizer.h"

namespace moegen::testing {
namespace {

const std::vector<std::pair<StructuredOutput::Kind, std::string>>& grammars() {
  using Kind = StructuredOutput::Kind;
  static const std::vector<std::pair<Kind, std::string>> all = {
      {Kind::json_object, ""},
      {Kind::regex, "(a|b)*a(a|b){3}|\\d{2,70}|日.*"},
      {Kind::choice, R"(["abc","ab","true","日本"])"},
      {Kind::json_schema,
       R"({"type":"object","properties":{"name":{"type":"string","maxLength":40},"a":{"type":"integer"}},"additionalProperties":true})"},
      {Kind::json_schema,
       R"({"anyOf":[{"type":"array","items":{"$ref":"#"},"minItems":1},{"type":"number","minimum":-5,"maximum":12.5},{"type":"null"}]})"},
      {Kind::json_schema, R"({"type":"array","items":{"type":"string","minLength":3,"maxLength":5},"minItems":2,"maxItems":40})"},
  };
  return all;
}

TEST(GrammarMask, IsWhatTokenAfterTokenGives) {
  std::mt19937 rng(3);
  const auto trie = small_trie();
  for (const auto& [kind, text] : grammars()) {
    const auto g = compile(kind, text);
    for (int walk = 0; walk < 12; ++walk) {
      GrammarState state(g);
      for (int step = 0; step < 25; ++step) {
        const auto mask = state.mask();
        std::vector<int32_t> want;
        for (int32_t id = 0; id < trie->vocab(); ++id) {
          GrammarState tried = state;
          tried.accept(id);
          if (tried.can_end() || tried.mask()->can_end || !allowed(*tried.mask(), trie->vocab()).empty()) want.push_back(id);
        }
        ASSERT_EQ(allowed(*mask, trie->vocab()), want) << text << " step " << step;
        ASSERT_EQ(mask->can_end, state.can_end());
        ASSERT_EQ(state.ended(), want.empty()) << text;
        if (want.empty()) break;
        state.accept(want[rng() % want.size()]);
      }
    }
  }
}

// Nothing of what others did with a grammar shows: neither full caches nor little memory change a mask.
TEST(GrammarMask, CachesDoNotShow) {
  for (const auto& [kind, text] : grammars()) {
    const auto fresh = compile(kind, text);
    const auto used = compile(kind, text);
    std::mt19937 noise(9);
    bool complete = false;
    for (int i = 0; i < 50; ++i) random_text(used, noise, complete, 200);
    std::mt19937 a(4);
    std::mt19937 b(4);
    EXPECT_EQ(random_text(fresh, a, complete), random_text(used, b, complete));
  }
}

TEST(GrammarMask, ManyThreadsShareAGrammar) {
  const auto g = compile(StructuredOutput::Kind::json_object, "");
  std::vector<std::string> texts(8);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < texts.size(); ++i) {
    threads.emplace_back([&, i] {
      std::mt19937 rng(i / 2);
      bool complete = false;
      for (int k = 0; k < 20; ++k) texts[i] += random_text(g, rng, complete);
    });
  }
  for (auto& t : threads) t.join();
  for (size_t i = 0; i < texts.size(); i += 2) EXPECT_EQ(texts[i], texts[i + 1]);
}

TEST(GrammarCompilerTest, KeepsTheLastGrammars) {
  GrammarCompiler compiler(small_trie());
  const StructuredOutput one{StructuredOutput::Kind::regex, "a+", ""};
  const auto first = compiler.compile(one);
  EXPECT_EQ(compiler.compile(one), first);
  for (int i = 0; i < 100; ++i) compiler.compile({StructuredOutput::Kind::regex, std::to_string(i), ""});
  EXPECT_NE(compiler.compile(one), first);
}

double milliseconds(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

struct Cost {
  std::string name;
  std::shared_ptr<Grammar> grammar;
};

// Walks 256 random texts side by side, as a batch would, and prints what masks cost.
void measure(const Cost& c) {
  std::mt19937 rng(1);
  std::vector<GrammarState> states(256, GrammarState(c.grammar));
  double total = 0;
  double worst = 0;
  double cached = 0;
  int64_t masks = 0;
  for (int step = 0; step < 60; ++step) {
    auto start = std::chrono::steady_clock::now();
    std::vector<std::shared_ptr<const TokenMask>> got;
    for (auto& s : states) {
      const auto one = std::chrono::steady_clock::now();
      got.push_back(s.mask());
      worst = std::max(worst, milliseconds(one));
    }
    total += milliseconds(start);
    start = std::chrono::steady_clock::now();
    for (auto& s : states) masks += s.mask() != nullptr ? 1 : 0;
    cached += milliseconds(start);
    start = std::chrono::steady_clock::now();
    for (size_t i = 0; i < states.size(); ++i) {
      const auto& mask = *got[i];
      int32_t id = -1;
      if (!mask.ids.empty()) {
        id = mask.ids[rng() % mask.ids.size()];
      } else {
        for (int tries = 0; tries < 200 && !mask.bits.empty() && (id < 0 || !mask.allows(id)); ++tries) id = static_cast<int32_t>(rng() % 150'000);
      }
      if (id < 0 || !mask.allows(id) || mask.ids.empty() == mask.bits.empty()) {
        states[i] = GrammarState(c.grammar);
      } else {
        states[i].accept(id);
      }
    }
    total += milliseconds(start);
  }
  std::printf("  %-12s %7.2f ms a pass of 256 (with accept), worst mask %6.2f ms, cached %6.2f us a mask\n", c.name.c_str(), total / 60, worst,
              cached * 1000 / static_cast<double>(masks));
}

TEST(GrammarCost, VocabularyOf150k) {
  const auto from = shared_data() / "tokenizers" / "qwen3";
  if (!std::filesystem::exists(from / "tokenizer.json.xz")) GTEST_SKIP() << "no tokenizer at " << from << ": set MOEGEN_SHARED";
  const ScratchDir dir;
  const std::string unpack = "xz -dc '" + (from / "tokenizer.json.xz").string() + "' > '" + (dir.path() / "tokenizer.json").string() + "'";
  if (std::system(unpack.c_str()) != 0) GTEST_SKIP() << "xz is missing";
  const Tokenizer tokenizer = Tokenizer::load(dir.path());
  auto start = std::chrono::steady_clock::now();
  const auto trie = std::make_shared<const grammar::TokenTrie>(tokenizer, 151'936);
  std::printf("  trie: %.0f ms, %.1f MB, %zu nodes, longest token %d bytes\n", milliseconds(start), static_cast<double>(trie->memory()) / 1e6,
              trie->nodes().size(), trie->longest());
  GrammarCompiler compiler(trie);
  using Kind = StructuredOutput::Kind;
  const std::vector<std::pair<std::string, StructuredOutput>> wanted = {
      {"json_object", {Kind::json_object, "", ""}},
      {"schema",
       {Kind::json_schema,
        R"({"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer","minimum":0,"maximum":150},"tags":{"type":"array","items":{"type":"string"}},
            "kind":{"enum":["a","b","c"]},"score":{"type":"number"},"child":{"$ref":"#"}},"required":["name","age"],"additionalProperties":false})",
        ""}},
      {"maxLength", {Kind::json_schema, R"({"type":"array","items":{"type":"string","maxLength":2000}})", ""}},
      {"regex", {Kind::regex, "[a-zA-Z ]{10,500}(\\.|!)", ""}},
      {"choice", {Kind::choice, R"(["positive","negative","neutral"])", ""}},
  };
  for (const auto& [name, output] : wanted) {
    start = std::chrono::steady_clock::now();
    const auto g = compiler.compile(output);
    const double compiled = milliseconds(start);
    start = std::chrono::steady_clock::now();
    static_cast<void>(GrammarState(g).mask());
    std::printf("  %-12s compiled in %.2f ms, first mask %.2f ms\n", name.c_str(), compiled, milliseconds(start));
    measure({name, g});
  }
}

}  // namespace
}  // namespace moegen::testing
