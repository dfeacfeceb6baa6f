#include "batch/request_line.h"

#include <gtest/gtest.h>

#include "batch/refusal.h"
#include "tests/batch/scripted_engine.h"

namespace moegen::testing {
namespace {

const std::string kChatUrl = "/v1/chat/completions";

ParsedRequest parse(const std::string& text) { return RequestLine(Line{.text = text, .number = 1}).parse({"mixtral", "alias"}); }

ParsedRequest completion(const std::string& fields) { return parse(request_text("x", R"({"prompt":"p",)" + fields + "}")); }
ParsedRequest chat(const std::string& fields, const std::string& messages = R"([{"role":"user","content":"hi"}])") {
  return parse(request_text("x", R"({"messages":)" + messages + (fields.empty() ? "" : ",") + fields + "}", kChatUrl));
}

// "code param" of what is refused.
template <typename Read>
std::string refusal(Read read) {
  try {
    read();
  } catch (const Refusal& refused) {
    EXPECT_FALSE(refused.error.message.empty());
    return refused.error.code + " " + refused.error.param;
  }
  return "accepted";
}
std::string refused(const std::string& fields) {
  return refusal([&] { completion(fields); });
}
std::string chat_refused(const std::string& fields) {
  return refusal([&] { chat(fields); });
}
std::string messages_refused(const std::string& messages) {
  return refusal([&] { chat("", messages); });
}
std::string prompt_refused(const std::string& prompt) {
  return refusal([&] { parse(request_text("x", R"({"prompt":)" + prompt + "}")); });
}

TEST(RequestLine, EveryFieldOfACompletion) {
  const ParsedRequest got = completion(R"("model":"alias","max_tokens":7,"min_tokens":2,"temperature":0.5,"top_p":0.9,"top_k":-1,"min_p":0.1,
    "presence_penalty":-2,"frequency_penalty":2,"repetition_penalty":1.5,"seed":-1,"n":2,"stop":["a","b"],"stop_token_ids":[3],"bad_words":["no"],
    "allowed_token_ids":[4,5],"logit_bias":{"6":-100,"7":1.5},"ignore_eos":true,"skip_special_tokens":false,"include_stop_str_in_output":true,
    "logprobs":3,"prompt_logprobs":1,"return_token_ids":true,"echo":true,"add_special_tokens":false,"user":"u","metadata":{},"suffix":null,
    "best_of":1,"stream":false,"response_format":{"type":"text"})");
  const SamplingParams& s = got.request.sampling;
  EXPECT_EQ(got.request.id, "x");
  EXPECT_EQ(std::get<std::string>(got.request.prompts.at(0)), "p");
  EXPECT_FALSE(got.request.add_special_tokens);
  EXPECT_EQ(s.max_tokens, 7);
  EXPECT_EQ(s.min_tokens, 2);
  EXPECT_EQ(s.temperature, 0.5);
  EXPECT_EQ(s.top_p, 0.9);
  EXPECT_EQ(s.top_k, -1);
  EXPECT_EQ(s.min_p, 0.1);
  EXPECT_EQ(s.presence_penalty, -2);
  EXPECT_EQ(s.frequency_penalty, 2);
  EXPECT_EQ(s.repetition_penalty, 1.5);
  EXPECT_EQ(s.seed, UINT64_MAX);
  EXPECT_EQ(s.n, 2);
  EXPECT_EQ(s.stop, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(s.stop_token_ids, std::vector<TokenId>{3});
  EXPECT_EQ(s.bad_words, std::vector<std::string>{"no"});
  EXPECT_EQ(s.allowed_token_ids, (std::vector<TokenId>{4, 5}));
  EXPECT_EQ(s.logit_bias, (std::map<TokenId, double>{{6, -100}, {7, 1.5}}));
  EXPECT_TRUE(s.ignore_eos && s.include_stop_str_in_output && !s.skip_special_tokens);
  EXPECT_EQ(s.logprobs, 3);
  EXPECT_EQ(s.prompt_logprobs, 3) << "echo shows the prompt's too";
  EXPECT_EQ(got.answer.prompt_logprobs, 1);
  EXPECT_EQ(got.answer.model, "alias");
  EXPECT_TRUE(got.answer.echo && got.answer.return_token_ids);
}

TEST(RequestLine, AbsentAndNullAreTheDefaults) {
  const SamplingParams s = completion(R"("max_tokens":null,"temperature":null,"stop":null,"logprobs":null)").request.sampling;
  EXPECT_FALSE(s.max_tokens || s.temperature || s.top_p || s.top_k || s.seed || s.logprobs || s.prompt_logprobs);
  EXPECT_EQ(s.n, 1);
  EXPECT_EQ(chat("").answer.model, "mixtral");
}

TEST(RequestLine, Ranges) {
  EXPECT_EQ(refused(R"("temperature":-0.001)"), "decimal_below_min_value temperature");
  EXPECT_EQ(refused(R"("temperature":5)"), "accepted");
  EXPECT_EQ(refused(R"("temperature":1e999)"), "invalid_value temperature");
  EXPECT_EQ(refused(R"("top_p":0)"), "decimal_below_min_value top_p");
  EXPECT_EQ(refused(R"("top_p":1)"), "accepted");
  EXPECT_EQ(refused(R"("top_p":1.0001)"), "decimal_above_max_value top_p");
  EXPECT_EQ(refused(R"("logprobs":20)"), "accepted");
  EXPECT_EQ(refused(R"("logprobs":21)"), "integer_above_max_value logprobs");
  EXPECT_EQ(refused(R"("logprobs":true)"), "invalid_type logprobs");
  EXPECT_EQ(refused(R"("prompt_logprobs":-1)"), "integer_below_min_value prompt_logprobs");
  EXPECT_EQ(refused(R"("n":16384)"), "accepted");
  EXPECT_EQ(refused(R"("n":16385)"), "integer_above_max_value n");
  EXPECT_EQ(refused(R"("n":1.0)"), "invalid_type n");
  EXPECT_EQ(refused(R"("max_tokens":0)"), "integer_below_min_value max_tokens");
  EXPECT_EQ(refused(R"("max_tokens":0,"echo":true)"), "accepted");
  EXPECT_EQ(refused(R"("max_tokens":-9223372036854775808)"), "integer_below_min_value max_tokens");
  EXPECT_EQ(refused(R"("max_tokens":-92233720368547758080)"), "integer_below_min_value max_tokens");
  EXPECT_EQ(refused(R"("max_tokens":92233720368547758080)"), "integer_above_max_value max_tokens");
  EXPECT_EQ(refused(R"("max_tokens":4611686018427387905)"), "integer_above_max_value max_tokens");
  EXPECT_EQ(refused(R"("max_tokens":3,"min_tokens":4)"), "invalid_value min_tokens");
  EXPECT_EQ(refused(R"("seed":18446744073709551615)"), "accepted");
  EXPECT_EQ(refused(R"("seed":9223372036854775808)"), "accepted");
  EXPECT_EQ(refused(R"("seed":-9223372036854775808)"), "accepted");
  EXPECT_EQ(refused(R"("seed":18446744073709551616)"), "integer_above_max_value seed");
  EXPECT_EQ(refused(R"("seed":1.5)"), "invalid_type seed");
  EXPECT_EQ(refused(R"("logit_bias":{"1":101})"), "decimal_above_max_value logit_bias");
  EXPECT_EQ(refused(R"("logit_bias":{"-1":1})"), "invalid_value logit_bias");
  EXPECT_EQ(refused(R"("logit_bias":{"":1})"), "invalid_value logit_bias");
  EXPECT_EQ(refused(R"("logit_bias":{"1":"x"})"), "invalid_type logit_bias");
  EXPECT_EQ(refused(R"("allowed_token_ids":[])"), "empty_array allowed_token_ids");
  EXPECT_EQ(refused(R"("stop":"")"), "invalid_value stop");
  EXPECT_EQ(refused(R"("stop":[])"), "accepted");
}

TEST(RequestLine, UnsupportedAndUnknownFieldsAreNamed) {
  EXPECT_EQ(refused(R"("guided_json":{})"), "unsupported_parameter guided_json");
  EXPECT_EQ(refused(R"("suffix":"x")"), "unsupported_parameter suffix");
  EXPECT_EQ(refused(R"("truncate_prompt_tokens":3)"), "unsupported_parameter truncate_prompt_tokens");
  EXPECT_EQ(refused(R"("best_of":2)"), "unsupported_value best_of");
  EXPECT_EQ(refused(R"("messages":[])"), "unknown_parameter messages");
  EXPECT_EQ(refused(R"("nonsense":null)"), "unknown_parameter nonsense");
  EXPECT_EQ(refused(R"("best_of":null)"), "accepted");
  EXPECT_EQ(chat_refused(R"("tool_choice":"required")"), "unsupported_value tool_choice");
  EXPECT_EQ(chat_refused(R"("functions":[])"), "unsupported_parameter functions");
  EXPECT_EQ(chat_refused(R"("prompt":"x")"), "unknown_parameter prompt");
  EXPECT_EQ(chat_refused(R"("echo":true)"), "unsupported_value echo");
}

TEST(RequestLine, WhatTheTextHasToBe) {
  const auto read = [](const char* field) { return *completion(field).request.sampling.structured_output; };
  EXPECT_EQ(read(R"("response_format":{"type":"json_object"})").kind, StructuredOutput::Kind::json_object);
  const auto schema = read(R"("response_format":{"type":"json_schema","json_schema":{"name":"x","strict":true,"schema":{"z":1, "a":2}}})");
  EXPECT_EQ(schema.kind, StructuredOutput::Kind::json_schema);
  EXPECT_EQ(schema.text, R"({"z":1, "a":2})") << "keys in the order of the text";
  EXPECT_EQ(schema.param, "response_format");
  EXPECT_EQ(read(R"("structured_outputs":{"regex":"a+","json":null})").text, "a+");
  EXPECT_EQ(read(R"("structured_outputs":{"choice":["b","a"]})").text, R"(["b","a"])");
  EXPECT_EQ(read(R"("structured_outputs":{"json":{"b":1,"a":2}})").text, R"({"b":1,"a":2})");
  EXPECT_EQ(read(R"("structured_outputs":{"json":"{}"})").text, "{}");
  EXPECT_EQ(read(R"("structured_outputs":{"json_object":true})").kind, StructuredOutput::Kind::json_object);
  for (const char* bad : {R"({"type":"yaml"})", R"({"type":7})", R"({"type":"json_schema","json_schema":{"schema":{},"extra":1}})"}) {
    EXPECT_EQ(refused(std::string(R"("response_format":)").append(bad)), "invalid_value response_format") << bad;
  }
  EXPECT_EQ(refused(R"("response_format":{"type":"json_schema"})"), "missing_required_parameter response_format");
  EXPECT_EQ(refused(R"("response_format":{"type":"json_schema","json_schema":{"name":"x"}})"), "missing_required_parameter response_format");
  EXPECT_EQ(refused(R"("response_format":{"type":"json_schema","json_schema":{"schema":[]}})"), "invalid_type response_format");
  for (const char* bad : {"{}", R"({"regex":"a","choice":["b"]})", R"({"choice":[]})", R"({"choice":[""]})", R"({"regex":""})", R"({"xml":1})"}) {
    EXPECT_EQ(refused(std::string(R"("structured_outputs":)").append(bad)), "invalid_value structured_outputs") << bad;
  }
  EXPECT_EQ(refused(R"("structured_outputs":{"grammar":"x"})"), "unsupported_value structured_outputs");
  EXPECT_EQ(refused(R"("structured_outputs":{"regex":"a","whitespace_pattern":"x"})"), "unsupported_value structured_outputs");
  EXPECT_EQ(refused(R"("structured_outputs":{"regex":"a"},"response_format":{"type":"json_object"})"), "invalid_value structured_outputs");
}

TEST(RequestLine, PromptsInFourForms) {
  const auto prompts = [](const std::string& prompt) { return parse(request_text("x", R"({"prompt":)" + prompt + "}")).request.prompts; };
  EXPECT_EQ(std::get<std::string>(prompts(R"("text")").at(0)), "text");
  EXPECT_EQ(std::get<std::vector<TokenId>>(prompts("[1,2]").at(0)), (std::vector<TokenId>{1, 2}));
  EXPECT_EQ(prompts(R"(["a","b","c"])").size(), 3U);
  EXPECT_EQ(std::get<std::vector<TokenId>>(prompts("[[1],[2,3]]").at(1)), (std::vector<TokenId>{2, 3}));
  EXPECT_EQ(prompt_refused("[[1],[]]"), "empty_array prompt");
  EXPECT_EQ(prompt_refused(R"(["a",""])"), "invalid_value prompt");
  EXPECT_EQ(prompt_refused(R"(["a",[1]])"), "invalid_type prompt");
  EXPECT_EQ(prompt_refused("[[1],2]"), "invalid_type prompt");
  EXPECT_EQ(prompt_refused("[[[1]]]"), "invalid_type prompt");
  EXPECT_EQ(prompt_refused("[1e999]"), "invalid_value prompt");
  EXPECT_EQ(prompt_refused("[2147483647]"), "accepted");
  EXPECT_EQ(prompt_refused("[2147483648]"), "invalid_value prompt");
}

TEST(RequestLine, ChatFields) {
  const ParsedRequest got = chat(R"("max_tokens":9,"max_completion_tokens":5,"logprobs":true,"top_logprobs":2,"add_generation_prompt":false,
    "continue_final_message":true,"chat_template":"T","chat_template_kwargs":{"z":1,"a":{"y":1.0,"b":"}"}},"documents":[{"title":"t"}],"tool_choice":"auto",
    "parallel_tool_calls":false,"tools":[ {"type":"function","function":{"name":"f","parameters":{"z":1,"a":2}}} ])");
  const Chat& chat_prompt = std::get<Chat>(got.request.prompts.at(0));
  EXPECT_EQ(got.request.sampling.max_tokens, 5);
  EXPECT_EQ(got.request.sampling.logprobs, 2);
  EXPECT_EQ(chat_prompt.messages, R"([{"role":"user","content":"hi"}])");
  EXPECT_EQ(chat_prompt.template_kwargs, R"({"z":1,"a":{"y":1.0,"b":"}"}})") << "in the order of the text";
  EXPECT_EQ(chat_prompt.tools, R"([ {"type":"function","function":{"name":"f","parameters":{"z":1,"a":2}}} ])");
  EXPECT_EQ(chat_prompt.documents, R"([{"title":"t"}])");
  EXPECT_TRUE(chat_prompt.continue_final_message && !chat_prompt.add_generation_prompt && chat_prompt.chat_template == "T");
  EXPECT_TRUE(chat_prompt.parse_tool_calls && !chat_prompt.parallel_tool_calls);
  EXPECT_EQ(chat_refused(R"("top_logprobs":2)"), "invalid_value top_logprobs");
  EXPECT_EQ(chat_refused(R"("logprobs":2)"), "invalid_type logprobs");
  EXPECT_EQ(chat_refused(R"("continue_final_message":true)"), "invalid_value continue_final_message");
  EXPECT_EQ(chat_refused(R"("tools":[{"type":"function"}])"), "invalid_type tools");
  EXPECT_EQ(chat_refused(R"("max_completion_tokens":0)"), "integer_below_min_value max_completion_tokens");
}

TEST(RequestLine, MessagesBecomeWhatTemplatesExpect) {
  const auto messages = [](const std::string& text) { return std::get<Chat>(chat("", text).request.prompts.at(0)).messages; };
  EXPECT_EQ(messages(R"([{"content":[{"type":"text","text":"a"},{"text":"b","type":"text"}],"role":"user"}])"),
            R"([{"content":[{"type":"text","text":"a"},{"text":"b","type":"text"}],"role":"user"}])");
  EXPECT_EQ(
      messages(
          R"([{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"z\":1,\"a\":2}"}}]}])"),
      R"([{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"z\":1,\"a\":2}"}}]}])");
  EXPECT_EQ(messages(R"([{"role":"assistant","tool_calls":[{"function":{"name":"f"}},{"function":{"name":"g","arguments":""}}]}])"),
            R"([{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{}"}},{"function":{"name":"g","arguments":"{}"}}]}])");
  EXPECT_EQ(messages(R"([{"role":"assistant","content":"x","tool_calls":[]}])"), R"([{"role":"assistant","content":"x"}])");
  EXPECT_EQ(messages(R"([{"role":"tool","content":"r","tool_call_id":"1","extra":[1]}])"),
            R"([{"role":"tool","content":"r","tool_call_id":"1","extra":[1]}])");
}

TEST(RequestLine, BadMessages) {
  EXPECT_EQ(messages_refused("[]"), "empty_array messages");
  EXPECT_EQ(messages_refused("null"), "invalid_type messages");
  EXPECT_EQ(messages_refused("[1]"), "invalid_type messages");
  EXPECT_EQ(messages_refused(R"([{"role":1,"content":"x"}])"), "invalid_type messages");
  EXPECT_EQ(messages_refused(R"([{"role":"user"}])"), "missing_required_parameter messages");
  EXPECT_EQ(messages_refused(R"([{"role":"user","content":null}])"), "invalid_type messages");
  EXPECT_EQ(messages_refused(R"([{"role":"user","content":7}])"), "invalid_type messages");
  EXPECT_EQ(messages_refused(R"([{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}])"), "unsupported_value messages");
  EXPECT_EQ(messages_refused(R"([{"role":"user","content":[{"type":"text"}]}])"), "invalid_type messages");
  EXPECT_EQ(messages_refused(R"([{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{"}}]}])"), "invalid_value messages");
}

TEST(RequestLine, NumbersBeyondDoubleInTextAreText) {
  const std::string text = R"({"custom_id":"1e999","method":"POST","url":"/v1/completions","body":{"prompt":"1e999 \" 1e999","top_p":1e-999}})";
  EXPECT_EQ(refusal([&] { parse(text); }), "decimal_below_min_value top_p");
  EXPECT_EQ(*RequestLine(Line{.text = text}).custom_id(), "1e999");
}

// As Python's json.dumps writes a text that was cut within an emoji.
TEST(RequestLine, HalfACharacterIsTheReplacementCharacter) {
  const ParsedRequest parsed = parse(request_text("x", R"({"prompt":"a\ud83d \ud83d\ude00 \uDE00"})"));
  EXPECT_EQ(std::get<std::string>(parsed.request.prompts.at(0)), "a\uFFFD \U0001F600 \uFFFD");
}

}  // namespace
}  // namespace moegen::testing
