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

TEST(ChatTemplate, SeesTheSpecialTokensOfAllFiles) {
  const ScratchDir dir;
  dir.write("chat_template.jinja", "{{ bos_token }}{{ image_token }}{{ boi_token }}{{ add_bos_token }}{{ eos_token }}");
  dir.write("tokenizer_config.json",
            R"({"bos_token": "<b>", "image_token": "<i>", "add_bos_token": true, "eos_token": {"lstrip": true},
                "extra_special_tokens": {"boi_token": {"content": "<boi>"}}})");
  EXPECT_EQ(ChatTemplate::load(dir.path()).render(request()), "<b><i><boi>");
  dir.write("special_tokens_map.json", R"({"bos_token": {"content": "<s>"}, "eos_token": "</s>", "additional_special_tokens": ["<x>"]})");
  EXPECT_EQ(ChatTemplate::load(dir.path()).render(request()), "<s><i><boi></s>");
  dir.write("tokenizer_config.json", R"({"bos_token": "<b>", "added_tokens_decoder": {}})");
  EXPECT_EQ(ChatTemplate::load(dir.path()).render(request()), "<b>") << "which says it all itself";
}

TEST(ChatTemplate, NamedTemplates) {
  const ScratchDir dir;
  dir.write("tokenizer_config.json",
            R"({"chat_template": [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "with {{ tools | length }}"}]})");
  const ChatTemplate t = ChatTemplate::load(dir.path());
  EXPECT_EQ(t.render(request()), "plain");
  EXPECT_EQ(t.render(request(Json::array({1, 2}))), "with 2");
  ChatRequest by_name = request(Json::array({1, 2}));
  by_name.chat_template = "default";
  EXPECT_EQ(t.render(by_name), "plain");
  EXPECT_EQ(t.source("", true), "with {{ tools | length }}");
  EXPECT_EQ(t.source("default", true), "plain");
  EXPECT_EQ(t.source("own", true), "own");
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

// Only the template knows in which form it reads a content.
TEST(ChatTemplate, ContentsFitTheTemplate) {
  ChatRequest r;
  r.messages = Json::parse(R"([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
                               {"role": "assistant", "tool_calls": [1]}, {"role": "assistant", "content": null}])");
  r.fit_contents = true;
  const auto rendered = [&](const std::string& source) {
    const ScratchDir dir;
    dir.write("chat_template.jinja", source);
    return ChatTemplate::load(dir.path()).render(r);
  };
  EXPECT_EQ(rendered("{% for m in messages %}<{{ m.content }}>{% endfor %}"), "<a\nb><><>");
  EXPECT_EQ(rendered("{% for m in messages %}<{% for p in m['content'] %}{{ p.text }}{% endfor %}>{% endfor %}"), "<ab><><>");
  EXPECT_EQ(rendered("{% macro text(content) %}{% for p in content %}{{ p.text }}{% endfor %}{% endmacro %}<{{ text(messages[0].content) }}>"),
            "<ab>");
  EXPECT_EQ(rendered("{% for m in messages %}{% set body = m.content %}<{% for p in body %}{{ p.text }}{% endfor %}>{% endfor %}"), "<ab><><>");
  for (const char* asks : {"m['content'] is not none", "m.content != none", "not m.content is none"}) {
    EXPECT_EQ(rendered(std::string("{% for m in messages %}<{{ m.content if ") + asks + " else 'none' }}>{% endfor %}"), "<a\nb><none><>") << asks;
  }
  r.fit_contents = false;
  EXPECT_EQ(rendered("{% for m in messages %}{{ m.content is string }},{{ m.content is defined }} {% endfor %}"),
            "False,True False,False False,True ");
}

// A text of JSON becomes its value, but where a template joins it to others and does not ask what it is.
TEST(ChatTemplate, ArgumentsFitTheTemplate) {
  ChatRequest r;
  r.messages = Json::parse(R"([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{\"b\":1, \"a\":[]}"}}]}])");
  r.fit_contents = true;
  const auto rendered = [&](const std::string& body) {
    const ScratchDir dir;
    dir.write("chat_template.jinja", "{% set c = messages[0]['tool_calls'][0] %}{% set f = c.function %}" + body);
    return ChatTemplate::load(dir.path()).render(r);
  };
  const std::string text = R"({"b":1, "a":[]})";
  const std::string object = R"({"b": 1, "a": []})";
  EXPECT_EQ(rendered("{{ f.arguments | tojson }}"), object);
  EXPECT_EQ(rendered("{{ '<' + f.arguments | tojson + '>' }}"), "<" + object + ">");
  EXPECT_EQ(rendered("{% for k, v in f.arguments.items() %}{{ k }}{{ v }}{% endfor %}"), "b1a[]");
  EXPECT_EQ(rendered("{{ c['function']['name'] + '\n' + c['function']['arguments'] + '\n' }}"), "f\n" + text + "\n");
  EXPECT_EQ(rendered("{{ f.name ~ f.arguments }}"), "f" + text);
  EXPECT_EQ(rendered("{{ f.arguments }}"), text);
  EXPECT_EQ(rendered("{% if f.arguments is string %}{{ f.arguments }}{% else %}{{ f.arguments | tojson }}{% endif %}"), object);
  EXPECT_EQ(rendered("{{ f.arguments if f['arguments'] is not mapping else f.arguments | tojson }}"), object);
  EXPECT_EQ(rendered("{% if x %}{{ f.arguments }}{% endif %}{{ f['arguments'] | tojson }}"), object);
  EXPECT_EQ(rendered("{% if x %}{{ f.arguments }}{% endif %}{% for k, v in f.arguments.items() %}{{ k }}{% endfor %}"), "ba");
  r.messages[0]["tool_calls"][0]["function"]["arguments"] = "{";
  EXPECT_THROW((void)rendered("{{ f.arguments | tojson }}"), Error);
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
