#include "tokenizer/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "moegen/error.h"
#include "tests/tokenizer/small_tokenizer.h"

namespace moegen {
namespace {

using Json = nlohmann::ordered_json;
using testing::ScratchDir;

const Json kChat = {{{"role", "user"}, {"content", "Hi"}}, {{"role", "assistant"}, {"content", " Yo "}}};

ChatRequest request(Json tools = nullptr) {
  ChatRequest r;
  r.messages = kChat;
  r.tools = std::move(tools);
  return r;
}

TEST(ChatTemplate, NoneIsFineUntilItIsAskedFor) {
  const ScratchDir dir;
  const ChatTemplate t = ChatTemplate::load(dir.path());
  EXPECT_FALSE(t.has_template());
  EXPECT_THROW((void)t.render(request()), Error);
  ChatRequest own = request();
  own.chat_template = "{{ messages | length }}";
  EXPECT_EQ(t.render(own), "2");
}

TEST(ChatTemplate, TheFileWinsOverTheConfig) {
  const ScratchDir dir;
  dir.write(
      "tokenizer_config.json",
      R"({"chat_template": "config {{ bos_token }}{{ eos_token }}{{ tools is none }}{{ pad_token is defined }}", "bos_token": "<b>", "eos_token": {"content": "<e>"}, "pad_token": null})");
  EXPECT_EQ(ChatTemplate::load(dir.path()).render(request()), "config <b><e>TrueFalse");
  dir.write("chat_template.jinja", "file {{ bos_token }}");
  EXPECT_EQ(ChatTemplate::load(dir.path()).render(request()), "file <b>");
}

TEST(ChatTemplate, NamedTemplates) {
  const ScratchDir dir;
  dir.write("tokenizer_config.json",
            R"({"chat_template": [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "with {{ tools | length }}"}]})");
  const ChatTemplate t = ChatTemplate::load(dir.path());
  EXPECT_EQ(t.render(request()), "plain");
  EXPECT_EQ(t.render(request(Json::array({1, 2}))), "with 2");
  const ScratchDir files;
  files.write("chat_template.jinja", "plain");
  files.write("additional_chat_templates/tool_use.jinja", "tools");
  EXPECT_EQ(ChatTemplate::load(files.path()).render(request()), "plain");
  EXPECT_EQ(ChatTemplate::load(files.path()).render(request(Json::array())), "tools");
}

TEST(ChatTemplate, KwargsAndGenerationPrompt) {
  const ScratchDir dir;
  dir.write("chat_template.jinja", "{{ enable_thinking }}{{ add_generation_prompt }}{{ documents }}");
  ChatRequest r = request();
  r.kwargs = {{"enable_thinking", false}};
  r.add_generation_prompt = true;
  EXPECT_EQ(ChatTemplate::load(dir.path()).render(r), "FalseTrueNone");
}

TEST(ChatTemplate, ContinuesTheFinalMessage) {
  const ScratchDir dir;
  dir.write("chat_template.jinja", "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}");
  ChatRequest r = request();
  r.continue_final_message = true;
  EXPECT_EQ(ChatTemplate::load(dir.path()).render(r), "<user>Hi</><assistant> Yo ");
  dir.write("chat_template.jinja", "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</>{% endfor %}");
  EXPECT_EQ(ChatTemplate::load(dir.path()).render(r), "<user>Hi</><assistant>Yo");
  r.messages.back()["content"] = "e";  // which the template's own text has, too
  dir.write("chat_template.jinja", "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}");
  EXPECT_THAT(ChatTemplate::load(dir.path()).render(r), ::testing::EndsWith("<|im_end|>e"));
  r.add_generation_prompt = true;
  EXPECT_THROW((void)ChatTemplate::load(dir.path()).render(r), Error);
}

TEST(ChatTemplate, ReasoningIsFoundByTheNamesThatTemplatesReadItBy) {
  const ScratchDir dir;
  dir.write("chat_template.jinja", "{% for m in messages %}{{ m.thinking }},{{ m.reasoning_content }};{% endfor %}");
  const Json messages = {{{"role", "assistant"}, {"reasoning", "a"}}, {{"role", "assistant"}, {"reasoning_content", "b"}}, {{"role", "assistant"}}};
  ChatRequest r;
  r.messages = messages;
  EXPECT_EQ(ChatTemplate::load(dir.path()).render(r), "a,a;b,b;,;");
}

TEST(ChatTemplate, AFaultyTemplateIsToldWhenItIsUsed) {
  const ScratchDir dir;
  dir.write("chat_template.jinja", "\n{% if %}");
  const ChatTemplate t = ChatTemplate::load(dir.path());
  EXPECT_TRUE(t.has_template());
  try {
    (void)t.render(request());
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), ::testing::HasSubstr("line 2"));
  }
  dir.write("tokenizer_config.json", "[");
  EXPECT_THROW(ChatTemplate::load(dir.path()), Error);
}

}  // namespace
}  // namespace moegen
