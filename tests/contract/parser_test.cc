// Reasoning and tool calls through the public API, with the demo model, whose own template shows no format.
#include <gtest/gtest.h>

#include "moegen/error.h"
#include "tests/support/run.h"

namespace moegen::testing {
namespace {

Request chat(const std::string& id, const std::string& chat_template = "") {
  Request r = greedy(id, {}, 20);
  Chat c;
  c.messages = user_message("Who made the light?");
  c.chat_template = chat_template;
  r.prompts = {c};
  return r;
}

Choice answer(const std::string& parser, const Request& request) {
  EngineOptions o = ids_only(kDemo);
  o.skip_tokenizer_init = false;
  o.parser = parser;
  Engine engine(o);
  ListJob job({request});
  engine.run(job, job);
  const Completion& c = job.answers.at(request.id);
  if (c.error) throw std::runtime_error(c.error->message);
  EXPECT_EQ((job.pieces[{request.id, 0}]).empty(), false) << "pieces are of the whole text";
  return c.choices.at(0);
}

constexpr const char* kOpen = "{{ messages[0].content }} <tool_call> <think>\n";

TEST(Parser, TheDemoModelsAnswersStayAsTheyAre) {
  const Choice none = answer("none", chat("a"));
  for (const char* parser : {"auto", "qwen3", "hermes", "openai", "mistral", "kimi_k2", "glm45"}) {
    const Choice c = answer(parser, chat("a"));
    EXPECT_EQ(c.text, none.text);
    EXPECT_EQ(c.token_ids, none.token_ids);
    EXPECT_FALSE(c.reasoning_content);
    EXPECT_TRUE(c.tool_calls.empty());
    EXPECT_EQ(c.finish_reason, none.finish_reason);
  }
}

TEST(Parser, ChosenFromTheTemplateUnlessOff) {
  const Choice off = answer("none", chat("a", kOpen));
  ASSERT_FALSE(off.text.empty());
  EXPECT_FALSE(off.reasoning_content);
  const Choice on = answer("auto", chat("a", kOpen));  // the prompt opened the reasoning, and nothing closed it
  EXPECT_EQ(on.token_ids, off.token_ids);
  EXPECT_EQ(on.text, "");
  ASSERT_TRUE(on.reasoning_content);
  EXPECT_NE(off.text.find(*on.reasoning_content), std::string::npos);
  EXPECT_GE(on.reasoning_content->size() + 4, off.text.size());
}

TEST(Parser, OnlyConversationsAreParsed) {
  Request r = chat("a");
  r.prompts = {"Who <think>"};
  EXPECT_EQ(answer("qwen3", r).text, answer("none", r).text);
}

TEST(Parser, AnUnknownNameIsRefused) {
  EngineOptions o = ids_only(kDemo);
  o.parser = "nonsense";
  try {
    const Engine engine(o);
    FAIL() << "accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::invalid_argument);
    EXPECT_NE(std::string(e.what()).find("minimax_m2"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace moegen::testing
