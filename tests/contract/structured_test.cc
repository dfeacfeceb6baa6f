// What a request says its text has to be, it is: through the public API, with the demo model.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "tests/grammar/schema_check.h"
#include "tests/support/run.h"
#include "tests/support/temp_dir.h"

namespace moegen::testing {
namespace {

using Json = nlohmann::ordered_json;
using Kind = StructuredOutput::Kind;

Request structured(std::string id, Kind kind, std::string text, double temperature = 1, int64_t max_tokens = 300) {
  Request r = greedy(std::move(id), {}, max_tokens);
  r.prompts = {"And the LORD said: "};
  r.sampling.temperature = temperature;
  r.sampling.ignore_eos = false;
  r.sampling.structured_output = {kind, std::move(text), "structured_outputs"};
  return r;
}

class Structured : public ::testing::Test {
 protected:
  static EngineOptions demo() {
    EngineOptions o = ids_only(kDemo);
    o.skip_tokenizer_init = false;
    return o;
  }
  static std::map<std::string, Completion> answers(const std::vector<Request>& requests, const EngineOptions& options = demo()) {
    Engine engine(options);
    ListJob job(requests);
    EXPECT_TRUE(engine.run(job, job));
    return job.answers;
  }
};

const char* const kPerson =
    R"({"type":"object","properties":{"name":{"type":"string","maxLength":20},"age":{"type":"integer","minimum":0,"maximum":120},
  "tags":{"type":"array","items":{"enum":["x","y"]},"maxItems":3},"next":{"anyOf":[{"type":"null"},{"type":"boolean"}]}},
  "required":["name","age","next"],"additionalProperties":false})";

TEST_F(Structured, TextsSatisfyWhatWasAsked) {
  std::vector<Request> requests;
  for (int i = 0; i < 24; ++i) {
    const double heat = i % 3 == 0 ? 0 : 1;
    requests.push_back(structured(fmt::format("schema{}", i), Kind::json_schema, kPerson, heat));
    requests.push_back(structured(fmt::format("choice{}", i), Kind::choice, R"(["light","darkness","the firmament"])", heat));
    requests.push_back(structured(fmt::format("regex{}", i), Kind::regex, "[A-Z][a-z]{2,8}( [a-z]{1,5}){2}\\.", heat));
    requests.push_back(structured(fmt::format("object{}", i), Kind::json_object, "", heat));
  }
  const Json schema = Json::parse(kPerson);
  std::set<std::string> choices;
  int objects = 0;
  for (const auto& [id, c] : answers(requests)) {
    ASSERT_FALSE(c.error) << id << c.error->message;
    const Choice& choice = c.choices.at(0);
    const bool ended = choice.finish_reason == FinishReason::stop;
    if (id.starts_with("schema")) {
      ASSERT_TRUE(ended) << choice.text;
      ASSERT_TRUE(Json::accept(choice.text)) << choice.text;
      EXPECT_EQ(violation(schema, schema, Json::parse(choice.text)), "") << choice.text;
    } else if (id.starts_with("choice")) {
      ASSERT_TRUE(ended);
      choices.insert(choice.text);
    } else if (id.starts_with("regex")) {
      ASSERT_TRUE(ended);
      EXPECT_TRUE(std::regex_match(choice.text, std::regex("[A-Z][a-z]{2,8}( [a-z]{1,5}){2}\\."))) << choice.text;
    } else if (ended) {
      ++objects;
      ASSERT_TRUE(Json::accept(choice.text)) << choice.text;
      EXPECT_TRUE(Json::parse(choice.text).is_object());
    } else {
      EXPECT_EQ(choice.text.substr(0, 1), "{");
    }
  }
  EXPECT_GT(objects, 0);
  for (const auto& c : choices) EXPECT_TRUE(c == "light" || c == "darkness" || c == "the firmament") << c;
}

// Neither neighbours nor preemption show.
TEST_F(Structured, DependOnTheRequestAlone) {
  const Request one = structured("one", Kind::json_schema, kPerson);
  const auto alone = answers({one}).at("one").choices.at(0).token_ids;
  std::vector<Request> crowd = {one};
  for (int i = 0; i < 20; ++i) {
    crowd.push_back(structured(fmt::format("{}", i), i % 2 == 0 ? Kind::json_schema : Kind::json_object, i % 2 == 0 ? kPerson : ""));
    crowd.push_back(structured(fmt::format("plain{}", i), Kind::json_object, ""));
    crowd.back().sampling.structured_output.reset();
  }
  std::swap(crowd.front(), crowd.back());
  EngineOptions tight = demo();
  tight.kv_memory = 12 * 48 << 10;
  EXPECT_EQ(answers(crowd).at("one").choices.at(0).token_ids, alone);
  EXPECT_EQ(answers(crowd, tight).at("one").choices.at(0).token_ids, alone);
}

TEST_F(Structured, TheGrammarWinsOverBansAndEndsWithItsText) {
  Request r = structured("a", Kind::choice, R"(["light"])");
  r.sampling.bad_words = {"light", "l", "li", "lig"};
  r.sampling.min_tokens = 50;
  r.sampling.ignore_eos = true;
  r.sampling.logprobs = 2;
  const Choice c = answers({r}).at("a").choices.at(0);
  EXPECT_EQ(c.text, "light");
  EXPECT_EQ(c.finish_reason, FinishReason::stop);
  EXPECT_EQ(c.logprobs.size(), c.token_ids.size());
  EXPECT_EQ(c.logprobs.at(0).top.size(), 2U) << "of the raw distribution";
}

TEST_F(Structured, WhatCannotBeHonouredIsThatLinesError) {
  Request ids = structured("ids", Kind::json_object, "");
  ids.sampling.allowed_token_ids = {{5}};
  const auto all = answers({structured("keyword", Kind::json_schema, R"({"type":"object","properties":{"a":{"not":{}}}})"),
                            structured("regex", Kind::regex, "(a{1000}){1000}"), structured("syntax", Kind::regex, "(a"),
                            structured("json", Kind::json_schema, "{"), ids, structured("good", Kind::choice, R"(["x"])")});
  const auto error = [&](const char* id) { return all.at(id).error ? all.at(id).error->code + "/" + all.at(id).error->param : "answered"; };
  EXPECT_EQ(error("keyword"), "unsupported_value/structured_outputs");
  EXPECT_NE(all.at("keyword").error->message.find("'not' at #/properties/a"), std::string::npos) << all.at("keyword").error->message;
  EXPECT_EQ(error("regex"), "unsupported_value/structured_outputs");
  EXPECT_EQ(error("syntax"), "invalid_value/structured_outputs");
  EXPECT_EQ(error("json"), "invalid_value/structured_outputs");
  EXPECT_EQ(error("ids"), "unsupported_value/allowed_token_ids");
  EXPECT_EQ(all.at("good").choices.at(0).text, "x");
  Request r = structured("no", Kind::json_object, "");
  r.prompts = {std::vector<TokenId>{5, 6}};
  const auto without = answers({r}, ids_only(kDemo));
  EXPECT_EQ(without.at("no").error->code, "unsupported_value");
  EXPECT_NE(without.at("no").error->message.find("tokenizer"), std::string::npos);
}

// The demo model with two of its tokens as marks of reasoning, and with a template that may leave the reasoning open.
class Reasoning : public Structured {
 protected:
  static constexpr TokenId kOpen = 2046, kClose = 2047;

  Reasoning() {
    for (const char* file : {"config.json", "model.safetensors", "generation_config.json", "tokenizer_config.json"}) {
      std::filesystem::create_symlink(kDemo / file, dir_.path() / file);
    }
    std::ifstream in(kDemo / "tokenizer.json");
    Json tokenizer = Json::parse(in);
    for (const auto& [id, mark] : {std::pair(kOpen, "<think>"), std::pair(kClose, "</think>")}) {
      tokenizer["added_tokens"].push_back({{"id", id}, {"content", mark}, {"special", false}, {"normalized", false}});
    }
    std::ofstream(dir_.path() / "tokenizer.json") << tokenizer;
    std::ofstream(dir_.path() / "chat_template.jinja") << "{{ messages[0].content }}{{ behind | default('<think>') }}";
  }

  [[nodiscard]] EngineOptions thinker(const char* parser = "auto") const {
    EngineOptions o = demo();
    o.model = dir_.path();
    o.parser = parser;
    return o;
  }

  static Request asked(std::string id, const std::string& kwargs = "") {
    Request r = structured(std::move(id), Kind::regex, "[0-9]{3}", 1, 200);
    Chat chat;
    chat.messages = user_message("And the LORD said: ");
    chat.template_kwargs = kwargs;
    r.prompts = {chat};
    r.sampling.logit_bias = {{kClose, 6.F}, {kOpen, -100.F}};
    return r;
  }

  TempDir dir_;
};

// A letter each, until the penalty of its repetitions makes way for the mark: after some ten tokens, at another length for each.
TEST_F(Reasoning, ComesBeforeTheGrammar) {
  constexpr TokenId kLetterA = 67;
  std::vector<Request> requests;
  for (int i = 0; i < 24; ++i) {
    requests.push_back(asked(fmt::format("{}", i)));
    requests.back().sampling.logit_bias = {{kLetterA + i, 100.F}, {kClose, 60.F + static_cast<float>(i)}};
    requests.back().sampling.frequency_penalty = 2;
  }
  const auto all = answers(requests, thinker());
  std::set<size_t> lengths;
  for (int i = 0; i < 24; ++i) {
    const Completion& c = all.at(fmt::format("{}", i));
    ASSERT_FALSE(c.error) << c.error->message;
    const Choice& choice = c.choices.at(0);
    EXPECT_TRUE(std::regex_match(choice.text, std::regex("[0-9]{3}"))) << choice.text;
    EXPECT_EQ(choice.finish_reason, FinishReason::stop);
    const std::string reasoning = choice.reasoning_content.value_or("");
    EXPECT_FALSE(reasoning.empty()) << i;
    EXPECT_EQ(reasoning, std::string(reasoning.size(), static_cast<char>('a' + i)));
    lengths.insert(reasoning.size());
  }
  EXPECT_GT(lengths.size(), 4U);
  EngineOptions tight = thinker();
  tight.kv_memory = 12 * 48 << 10;
  for (const auto& [id, c] : answers(requests, tight)) EXPECT_EQ(c.choices[0].token_ids, all.at(id).choices[0].token_ids) << id;
}

TEST_F(Reasoning, IsPassedOverWhereThePromptHasClosedItOrNobodyReadsIt) {
  const auto matches = [](const Completion& c) { return std::regex_match(c.choices.at(0).text, std::regex("[0-9]{3}")); };
  EXPECT_TRUE(matches(answers({asked("closed", R"({"behind": "<think></think>"})")}, thinker()).at("closed")));
  EXPECT_TRUE(matches(answers({asked("unsaid", R"({"behind": ""})")}, thinker()).at("unsaid"))) << "the model may open it, here it does not";
  EXPECT_TRUE(matches(answers({asked("unread")}, thinker("none")).at("unread")));
}

TEST_F(Reasoning, MayBeOpenedByTheModel) {
  Request r = asked("opened", R"({"behind": ""})");
  r.sampling.logit_bias = {{kOpen, 100.F}, {kClose, 100.F}};
  const Choice c = answers({r}, thinker()).at("opened").choices.at(0);
  EXPECT_EQ(c.token_ids.at(0), kOpen);
  EXPECT_TRUE(std::regex_match(c.text, std::regex("[0-9]{3}"))) << c.text;
}

}  // namespace
}  // namespace moegen::testing
