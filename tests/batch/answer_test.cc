#include "batch/answer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "batch/logprobs_json.h"
#include "tests/batch/scripted_engine.h"

namespace moegen::testing {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

const std::vector<PositionLogprobs> kGenerated = {
    {{7, -0.1F, 1, "\xe4\xbd"}, {{7, -0.1F, 1, "\xe4\xbd"}, {8, -1.5F, 2, "\xe4\xbe"}}},  // halves of characters: the same text
    {{9, -3.0F, 5, "\xa0"}, {{8, -0.5F, 1, "x"}, {10, -1.0F, 2, "x"}}},                   // not among the best
    {{11, -kInfinity, 9, "b"}, {{12, -0.25F, 1, "b"}, {8, -1.0F, 2, "y"}}},               // the best has its text
};

Completion completion() {
  Completion c{.id = "x", .error = {}, .prompts = {}, .choices = {}};
  PromptResult prompt;
  prompt.token_ids = {1, 2};
  prompt.text = "<s>Hi";
  prompt.first_token_text = "<s>";
  prompt.logprobs.resize(2);
  PositionLogprobs& second = prompt.logprobs[1].emplace();
  second.token = {2, -2.5F, 3, "Hi"};
  second.top = {{4, -0.5F, 1, "Ho"}, {5, -0.75F, 2, "Ha"}};
  c.prompts = {prompt};
  Choice choice;
  choice.token_ids = {7, 9, 11};
  choice.text =
      "\xe4\xbd\xa0"
      "b";
  choice.finish_reason = FinishReason::stop;
  choice.stop_reason = TokenId{11};
  choice.logprobs = kGenerated;
  c.choices = {choice};
  return c;
}

Json body_of(const AnswerPlan& plan) {
  const std::string text = answer_line({1, 2}, "x", plan, completion(), 1234);
  EXPECT_EQ(text.back(), '\n');
  const Json line = Json::parse(text);
  EXPECT_EQ(line["id"], "batch_req_00000000000000010000000000000002");
  EXPECT_EQ(line["custom_id"], "x");
  EXPECT_TRUE(line["error"].is_null());
  EXPECT_EQ(line["response"]["status_code"], 200);
  return line["response"]["body"];
}

TEST(Answer, Completion) {
  AnswerPlan plan;
  plan.model = "m";
  plan.logprobs = 2;
  plan.prompt_logprobs = 1;
  plan.return_token_ids = true;
  const Json body = body_of(plan);
  EXPECT_EQ(body["object"], "text_completion");
  EXPECT_EQ(body["model"], "m");
  EXPECT_EQ(body["created"], 1234);
  EXPECT_EQ(body["usage"], Json::parse(R"({"prompt_tokens":2,"completion_tokens":3,"total_tokens":5})"));
  const Json& choice = body["choices"][0];
  EXPECT_EQ(choice["text"], "你b");
  EXPECT_EQ(choice["finish_reason"], "stop");
  EXPECT_EQ(choice["stop_reason"], 11);
  EXPECT_EQ(choice["token_ids"], Json({7, 9, 11}));
  EXPECT_EQ(choice["prompt_token_ids"], Json({1, 2}));
  EXPECT_EQ(choice["logprobs"]["tokens"], Json({"\uFFFD", "\uFFFD", "b"}));
  EXPECT_EQ(choice["logprobs"]["token_logprobs"], Json({-0.1, -3.0, -9999.0}));
  EXPECT_EQ(choice["logprobs"]["text_offset"], Json({0, 1, 1}));
  EXPECT_EQ(choice["logprobs"]["top_logprobs"], Json::parse("[{\"\uFFFD\":-0.1,\"token_id:8\":-1.5},"
                                                            "{\"x\":-0.5,\"token_id:10\":-1.0,\"\uFFFD\":-3.0},"
                                                            "{\"token_id:12\":-0.25,\"y\":-1.0,\"b\":-9999.0}]"));
  EXPECT_EQ(choice["prompt_logprobs"], Json::parse(R"([null,{"4":{"logprob":-0.5,"rank":1,"decoded_token":"Ho"},
                                                             "2":{"logprob":-2.5,"rank":3,"decoded_token":"Hi"}}])"));
}

TEST(Answer, EchoPutsThePromptFirst) {
  AnswerPlan plan;
  plan.echo = true;
  plan.logprobs = 1;
  Json choice = body_of(plan)["choices"][0];
  EXPECT_EQ(choice["text"], "<s>Hi你b");
  EXPECT_EQ(choice["logprobs"]["tokens"], Json({"<s>", "Hi", "\uFFFD", "\uFFFD", "b"}));
  EXPECT_EQ(choice["logprobs"]["token_logprobs"], Json({nullptr, -2.5, -0.1, -3.0, -9999.0}));
  EXPECT_EQ(choice["logprobs"]["text_offset"], Json({0, 3, 5, 6, 6}));
  EXPECT_TRUE(choice["logprobs"]["top_logprobs"][0].is_null());
  EXPECT_FALSE(choice.contains("prompt_logprobs"));
  plan.echo_texts = {"Hi"};  // what was asked, not what the tokens say
  EXPECT_EQ(body_of(plan)["choices"][0]["text"], "Hi你b");
}

TEST(Answer, Chat) {
  AnswerPlan plan;
  plan.endpoint = Endpoint::chat;
  plan.logprobs = 1;
  plan.prompt_logprobs = 0;
  const Json body = body_of(plan);
  EXPECT_EQ(body["object"], "chat.completion");
  EXPECT_EQ(body["prompt_logprobs"], Json::parse(R"([null,{"2":{"logprob":-2.5,"rank":3,"decoded_token":"Hi"}}])"));
  const Json& choice = body["choices"][0];
  EXPECT_EQ(choice["message"], Json::parse(R"({"role":"assistant","content":"你b","refusal":null})"));
  const Json& content = choice["logprobs"]["content"];
  EXPECT_EQ(content[0], Json::parse("{\"token\":\"\uFFFD\",\"logprob\":-0.1,\"bytes\":[228,189],\"top_logprobs\":"
                                    "[{\"token\":\"\uFFFD\",\"logprob\":-0.1,\"bytes\":[228,189]}]}"));
  EXPECT_EQ(content[1]["top_logprobs"].size(), 2U) << "the best and the chosen";
  plan.logprobs = 0;
  EXPECT_TRUE(body_of(plan)["choices"][0]["logprobs"]["content"][0]["top_logprobs"].empty());
  plan.logprobs.reset();
  EXPECT_TRUE(body_of(plan)["choices"][0]["logprobs"].is_null());
}

TEST(Answer, ReasoningAndToolCalls) {
  AnswerPlan plan;
  plan.endpoint = Endpoint::chat;
  Completion c = completion();
  Choice& choice = c.choices[0];
  choice.reasoning_content = "Why?";
  choice.tool_calls = {{"call_1", "f", R"({"a": 1})"}};
  choice.finish_reason = FinishReason::tool_calls;
  const auto first = [&] { return Json::parse(answer_line({1, 2}, "x", plan, c, 1234))["response"]["body"]["choices"][0]; };
  EXPECT_EQ(first()["finish_reason"], "tool_calls");
  EXPECT_EQ(first()["message"]["reasoning_content"], "Why?");
  EXPECT_EQ(first()["message"]["content"], "你b");
  EXPECT_EQ(first()["message"]["tool_calls"], Json::parse(R"([{"id":"call_1","type":"function","function":{"name":"f","arguments":"{\"a\": 1}"}}])"));
  choice.text.clear();
  EXPECT_TRUE(first()["message"]["content"].is_null());
  choice.tool_calls.clear();
  EXPECT_EQ(first()["message"]["content"], "");
  EXPECT_FALSE(first()["message"].contains("tool_calls"));
}

TEST(Answer, Refusals) {
  const Json refused = Json::parse(refusal_line({1, 2}, "x", {"c", "broken \xff text", "p", 404}));
  EXPECT_EQ(refused["response"]["status_code"], 404);
  EXPECT_EQ(refused["response"]["body"]["error"],
            Json::parse("{\"message\":\"broken \uFFFD text\",\"type\":\"invalid_request_error\",\"param\":\"p\",\"code\":\"c\"}"));
  const Json unreadable = Json::parse(refusal_line({1, 2}, std::nullopt, {"c", "m", "", 0}));
  EXPECT_TRUE(unreadable["response"].is_null() && unreadable["custom_id"].is_null());
  EXPECT_EQ(unreadable["error"], Json::parse(R"({"code":"c","message":"m","param":null})"));
}

}  // namespace
}  // namespace moegen::testing
