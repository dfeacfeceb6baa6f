// What a request asks for is what its answer has: through the public API, with the demo model.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "base/file.h"
#include "moegen/error.h"
#include "tests/support/run.h"
#include "tests/support/temp_dir.h"

namespace moegen::testing {
namespace {

Request text(std::string id, std::string prompt, int64_t max_tokens = 30) {
  Request r = greedy(std::move(id), {}, max_tokens);
  r.prompts = {std::move(prompt)};
  r.sampling.ignore_eos = false;
  return r;
}

class Requests : public ::testing::Test {
 protected:
  static EngineOptions demo() {
    EngineOptions o = ids_only(kDemo);
    o.skip_tokenizer_init = false;
    return o;
  }
  static void SetUpTestSuite() { engine = std::make_unique<Engine>(demo()); }
  static void TearDownTestSuite() { engine.reset(); }

  static Completion answer(const Request& request) {
    ListJob job({request});
    EXPECT_TRUE(engine->run(job, job));
    for (const Choice& c : job.answers.at(request.id).choices) EXPECT_EQ((job.pieces[{request.id, c.index}]), c.text) << "pieces are not the text";
    return job.answers.at(request.id);
  }
  static Choice only_choice(const Request& request) {
    const Completion c = answer(request);
    if (c.error) throw std::runtime_error(c.error->message);
    return c.choices.at(0);
  }
  static std::string error_code(const Request& request) {
    const Completion c = answer(request);
    return c.error ? c.error->code + "/" + c.error->param : "answered";
  }
  static std::unique_ptr<Engine> engine;
};
std::unique_ptr<Engine> Requests::engine;

TEST_F(Requests, StopStringsAcrossTokens) {
  const Choice whole = only_choice(text("a", "In the beginning"));
  ASSERT_GT(whole.text.size(), 40U);
  for (size_t at = 1; at + 7 < 40; at += 3) {  // wherever it begins, within tokens or across them
    Request r = text("b", "In the beginning");
    const std::string stop = whole.text.substr(at, 7);
    r.sampling.stop = {"never", stop};
    Choice c = only_choice(r);
    const size_t first = whole.text.find(stop);
    EXPECT_EQ(c.text, whole.text.substr(0, first));
    EXPECT_EQ(c.finish_reason, FinishReason::stop);
    EXPECT_EQ(std::get<std::string>(c.stop_reason), stop);
    EXPECT_LE(c.token_ids.size(), whole.token_ids.size());
    r.sampling.include_stop_str_in_output = true;
    EXPECT_EQ(only_choice(r).text, whole.text.substr(0, first + stop.size()));
  }
}

// Its other defaults are left out with --generation-config none, where answers end is not.
TEST_F(Requests, StopIdsOfTheModelCountWithoutItsDefaults) {
  const TempDir dir;
  for (const char* file : {"config.json", "model.safetensors"}) std::filesystem::create_symlink(kDemo / file, dir.path() / file);
  EngineOptions options = ids_only(dir.path());
  Request r = greedy("a", {5, 6, 7}, 12);
  r.sampling.ignore_eos = false;
  const auto choice = [&] {
    Engine fresh(options);
    ListJob job({r});
    EXPECT_TRUE(fresh.run(job, job));
    return job.answers.at("a").choices.at(0);
  };
  const Choice whole = choice();
  ASSERT_GT(whole.token_ids.size(), 4U);
  dir.write("generation_config.json", fmt::format(R"({{"eos_token_id":[1,{}],"max_new_tokens":2}})", whole.token_ids[3]));
  options.use_generation_config = false;
  const Choice ended = choice();
  EXPECT_EQ(ended.finish_reason, FinishReason::stop);
  EXPECT_EQ(ended.token_ids.size(), std::find(whole.token_ids.begin(), whole.token_ids.end(), whole.token_ids[3]) - whole.token_ids.begin() + 1);
}

TEST_F(Requests, StopStringsCountBehindMinTokens) {
  const Choice whole = only_choice(text("a", "In the beginning"));
  Request r = text("b", "In the beginning");
  r.sampling.stop = {whole.text.substr(0, 3)};
  r.sampling.min_tokens = 6;
  EXPECT_GT(only_choice(r).token_ids.size(), 6U);
}

TEST_F(Requests, StopIdsEndTheAnswerAndAreNotItsText) {
  const Choice whole = only_choice(text("a", "And God said"));
  Request r = text("b", "And God said");
  r.sampling.stop_token_ids = {whole.token_ids.at(4)};
  const Choice c = only_choice(r);
  const auto first = std::find(whole.token_ids.begin(), whole.token_ids.end(), whole.token_ids[4]) - whole.token_ids.begin();
  EXPECT_EQ(c.token_ids, std::vector<TokenId>(whole.token_ids.begin(), whole.token_ids.begin() + first + 1));
  EXPECT_EQ(std::get<TokenId>(c.stop_reason), whole.token_ids[4]);
  EXPECT_EQ(c.finish_reason, FinishReason::stop);
  EXPECT_TRUE(whole.text.starts_with(c.text));
  r.sampling.include_stop_str_in_output = true;
  EXPECT_GT(only_choice(r).text.size(), c.text.size());
}

TEST_F(Requests, EndOfTextIsHonouredIgnoredAndPutOff) {
  Request r = text("a", "Jesus wept.\n", 400);
  r.sampling.logit_bias = {{0, 12.0}};  // <|endoftext|> becomes likely
  const Choice ended = only_choice(r);
  ASSERT_EQ(ended.finish_reason, FinishReason::stop);
  EXPECT_EQ(ended.token_ids.back(), 0);
  EXPECT_EQ(ended.text.find("<|"), std::string::npos);
  EXPECT_TRUE(std::holds_alternative<std::monostate>(ended.stop_reason));
  r.sampling.min_tokens = static_cast<int64_t>(ended.token_ids.size()) + 3;
  EXPECT_GE(only_choice(r).token_ids.size(), static_cast<size_t>(r.sampling.min_tokens));
  r.sampling.min_tokens = 0;
  r.sampling.ignore_eos = true;
  r.sampling.max_tokens = 60;
  r.sampling.skip_special_tokens = false;
  const Choice went_on = only_choice(r);
  EXPECT_EQ(went_on.token_ids.size(), 60U);
  EXPECT_NE(went_on.text.find("<|endoftext|>"), std::string::npos);
}

TEST_F(Requests, ChoicesOfManyPromptsInOrder) {
  Request r = text("a", "And Moses said", 12);
  r.prompts.emplace_back(std::vector<TokenId>{40, 50, 60});
  r.sampling.temperature = 1;
  r.sampling.n = 3;
  const Completion c = answer(r);
  ASSERT_EQ(c.choices.size(), 6U);
  ASSERT_EQ(c.prompts.size(), 2U);
  EXPECT_EQ(c.prompts[1].token_ids, (std::vector<TokenId>{40, 50, 60}));
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(c.choices[i].index, static_cast<int>(i));
  EXPECT_NE(c.choices[0].token_ids, c.choices[1].token_ids);
  EXPECT_NE(c.choices[1].token_ids, c.choices[2].token_ids);
}

TEST_F(Requests, SampledTokensDependOnTheRequestAlone) {
  Request r = text("same", "And it came to pass");
  r.sampling.temperature = 1;
  const Choice alone = only_choice(r);
  std::vector<Request> crowd;
  for (int i = 0; i < 30; ++i) {
    crowd.push_back(text(fmt::format("other{}", i), "And it came to pass", 5 + i));
    crowd.back().sampling.temperature = 1;
  }
  crowd.insert(crowd.begin() + 20, r);
  ListJob job(crowd);
  engine->run(job, job);
  EXPECT_EQ(job.answers.at("same").choices[0].token_ids, alone.token_ids);
  std::set<std::vector<TokenId>> firsts;  // without a seed, another custom_id is another draw
  for (const auto& [id, c] : job.answers) firsts.insert({c.choices[0].token_ids.begin(), c.choices[0].token_ids.begin() + 5});
  EXPECT_GT(firsts.size(), 20U);
  r.sampling.seed = 77;
  const Choice seeded = only_choice(r);
  r.id = "another";
  EXPECT_EQ(only_choice(r).token_ids, seeded.token_ids);
  r.sampling.seed = 78;
  EXPECT_NE(only_choice(r).token_ids, seeded.token_ids);
}

TEST_F(Requests, TheRunsSeedCountsWhereARequestHasNone) {
  Request r = text("same", "And it came to pass");
  r.sampling.temperature = 1;
  EngineOptions options = demo();
  options.seed = 1;
  Engine other(options);
  ListJob job({r});
  other.run(job, job);
  EXPECT_NE(job.answers.at("same").choices[0].token_ids, only_choice(r).token_ids);
}

TEST_F(Requests, BadWordsNeverAppear) {
  const Choice whole = only_choice(text("a", "And the LORD said unto Moses", 60));
  ASSERT_NE(whole.text.find("LORD"), std::string::npos) << whole.text;
  Request r = text("b", "And the LORD said unto Moses", 60);
  r.sampling.bad_words = {"LORD"};
  EXPECT_EQ(only_choice(r).text.find("LORD"), std::string::npos);
}

TEST_F(Requests, LogprobsDescribeTheTokens) {
  Request r = text("a", "And God said, Let there be", 8);
  r.sampling.logprobs = 4;
  r.sampling.prompt_logprobs = 2;
  const Completion c = answer(r);
  const Choice& choice = c.choices.at(0);
  ASSERT_EQ(choice.logprobs.size(), 8U);
  for (size_t i = 0; i < 8; ++i) {
    const PositionLogprobs& p = choice.logprobs[i];
    EXPECT_EQ(p.token.id, choice.token_ids[i]);
    ASSERT_EQ(p.top.size(), 4U);
    EXPECT_EQ(p.top[0].id, p.token.id) << "greedy takes the best";
    EXPECT_EQ(p.token.rank, 1);
    for (size_t j = 1; j < 4; ++j) EXPECT_LE(p.top[j].logprob, p.top[j - 1].logprob);
  }
  std::string joined;
  for (const auto& p : choice.logprobs) joined += p.token.text;
  EXPECT_EQ(joined, choice.text);
  const PromptResult& prompt = c.prompts.at(0);
  ASSERT_EQ(prompt.logprobs.size(), prompt.token_ids.size());
  EXPECT_FALSE(prompt.logprobs[0].has_value());
  for (size_t i = 1; i < prompt.token_ids.size(); ++i) EXPECT_EQ(prompt.logprobs[i]->token.id, prompt.token_ids[i]);
}

TEST_F(Requests, NoTokensButPromptLogprobs) {
  Request r = text("a", "And God said", 0);
  r.sampling.prompt_logprobs = 0;
  const Completion c = answer(r);
  EXPECT_TRUE(c.choices.at(0).token_ids.empty());
  EXPECT_EQ(c.prompts.at(0).logprobs.size(), c.prompts.at(0).token_ids.size());
}

TEST_F(Requests, ConversationsGoThroughTheTemplate) {
  Request r = text("a", "", 20);
  Chat chat;
  chat.messages = user_message("Who made the \"light\"?");
  r.prompts = {chat};
  const Completion c = answer(r);
  EXPECT_EQ(c.prompts.at(0).text, "<|im_start|>user\nWho made the \"light\"?<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(std::count(c.prompts[0].token_ids.begin(), c.prompts[0].token_ids.end(), 1), 2);  // one id a special token
  chat.messages = R"([{"content":"nobody says it"}])";
  r.prompts = {chat};
  EXPECT_EQ(error_code(r), "invalid_chat/messages");
}

TEST_F(Requests, WhatTheModelCannotDoIsRefusedByName) {
  EXPECT_EQ(error_code(text("a", "")), "invalid_value/prompt");
  EXPECT_EQ(error_code(greedy("a", {1, 2048}, 4)), "invalid_value/prompt");
  EXPECT_EQ(error_code(greedy("a", std::vector<TokenId>(2048, 5), 4)), "context_length_exceeded/prompt");
  Request r = text("a", "x");
  r.sampling.logit_bias = {{5000, 1.0}};
  EXPECT_EQ(error_code(r), "invalid_value/logit_bias");
  r = text("a", "x");
  r.sampling.allowed_token_ids = {{-1}};
  EXPECT_EQ(error_code(r), "invalid_value/allowed_token_ids");
  r = text("a", "x");
  r.sampling.stop_token_ids = {99999};
  EXPECT_EQ(error_code(r), "invalid_value/stop_token_ids");
}

TEST_F(Requests, AnAnswerEndsWhereTheContextDoes) {
  Request r = greedy("a", std::vector<TokenId>(2040, 5), 100);
  const Choice c = only_choice(r);
  EXPECT_EQ(c.token_ids.size(), 8U);
  EXPECT_EQ(c.finish_reason, FinishReason::length);
}

// Not cut off in silence: what memory cannot hold is that request's error, and the others are answered.
TEST(Memory, TooLongForThePagesIsAnErrorOfItsOwn) {
  EngineOptions o = ids_only(kDemo);
  o.kv_memory = 5 * 48 << 10;  // five pages: 160 tokens
  Engine engine(o);
  ListJob job({greedy("fits", std::vector<TokenId>(100, 5), 20), greedy("prompt", std::vector<TokenId>(161, 5), 1),
               greedy("grows", std::vector<TokenId>(100, 7), 200), greedy("last", std::vector<TokenId>(160, 5), 1)});
  ASSERT_TRUE(engine.run(job, job));
  EXPECT_EQ(job.answers.at("fits").choices.at(0).token_ids.size(), 20U);
  EXPECT_EQ(job.answers.at("prompt").error->code, "context_length_exceeded");
  EXPECT_EQ(job.answers.at("grows").error->code, "kv_memory_exceeded");
  EXPECT_EQ(job.answers.at("last").choices.at(0).token_ids.size(), 1U);
}

TEST(Memory, TooSmallABudgetIsRefusedWithTheNumbers) {
  EngineOptions o = ids_only(kDemo);
  o.host_memory = 12 << 20;
  try {
    const Engine engine(o);
    FAIL() << "accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::out_of_memory);
    EXPECT_NE(std::string(e.what()).find("at least"), std::string::npos) << e.what();
  }
}

// transformers 5.23 in float32 gives 24.5718 over these 26,896 tokens (tools/train_demo.py prints it).
TEST(Demo, HeldOutPerplexityIsThatOfTransformers) {
  std::vector<Request> requests;
  std::istringstream lines(read_text_file(kDemo.parent_path() / "heldout.jsonl", 10 << 20));
  for (std::string line; std::getline(lines, line);) {
    const auto j = nlohmann::json::parse(line);
    requests.push_back(text(j["custom_id"], j["body"]["prompt"], 1));
    requests.back().sampling.prompt_logprobs = 0;
  }
  for (const char* dtype : {"float32", "bfloat16"}) {
    EngineOptions o = ids_only(kDemo);
    o.skip_tokenizer_init = false;
    o.dtype = dtype;
    Engine engine(o);
    ListJob job(requests);
    engine.run(job, job);
    double sum = 0;
    int64_t count = 0;
    for (const auto& [id, c] : job.answers) {
      for (const auto& p : c.prompts.at(0).logprobs) {
        if (!p) continue;
        sum -= static_cast<double>(p->token.logprob);
        ++count;
      }
    }
    EXPECT_EQ(count, 26896);
    EXPECT_NEAR(std::exp(sum / static_cast<double>(count)), 24.5718, 24.5718 * 0.005) << dtype;
  }
}

}  // namespace
}  // namespace moegen::testing
