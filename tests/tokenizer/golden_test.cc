// Goldens of real models' tokenizers and templates. They are other people's texts, which stay outside the repository.
#include <gtest/gtest.h>

#include "moegen/error.h"
#include "tests/tokenizer/small_tokenizer.h"
#include "tokenizer/chat_template.h"

namespace moegen {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;
using testing::read_json;
using testing::shared_data;

class Golden : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    from_ = shared_data() / "tokenizers" / GetParam();
    if (!fs::exists(from_ / "tokenizer.json.xz")) GTEST_SKIP() << "no goldens at " << from_ << ": set MOEGEN_SHARED";
    const std::string unpack = "xz -dc '" + (from_ / "tokenizer.json.xz").string() + "' > '" + (dir_.path() / "tokenizer.json").string() + "'";
    if (std::system(unpack.c_str()) != 0) GTEST_SKIP() << "xz is missing";
    fs::copy_file(from_ / "tokenizer_config.json", dir_.path() / "tokenizer_config.json");
  }
  fs::path from_;
  testing::ScratchDir dir_;
};

class GoldenChats : public Golden {};
class GoldenOlderLayout : public Golden {};

void expect_encodings(const Tokenizer& t, const fs::path& path) {
  for (const Json& c : read_json(path)) {
    const std::string s = c["text"];
    const auto plain = t.encode(s, {.add_special_tokens = false});
    EXPECT_EQ(plain, c["ids_no_special"].get<std::vector<int32_t>>()) << c["name"];
    EXPECT_EQ(t.encode(s), c["ids"].get<std::vector<int32_t>>()) << c["name"];
    const Json& raw = c.contains("ids_raw") ? c["ids_raw"] : c["ids_no_special"];
    EXPECT_EQ(t.encode(s, {.add_special_tokens = false, .parse_special = false}), raw.get<std::vector<int32_t>>()) << c["name"];
    EXPECT_EQ(t.decode(plain, false), c["decoded"].get<std::string>()) << c["name"];
    const Json& skipped = c.contains("decoded_skip_special") ? c["decoded_skip_special"] : c["decoded"];
    EXPECT_EQ(t.decode(plain, true), skipped.get<std::string>()) << c["name"];
  }
}

TEST_P(Golden, Encodings) { expect_encodings(Tokenizer::load(dir_.path()), from_ / "encode.json"); }

TEST_P(GoldenOlderLayout, OlderLayout) {
  Json file = read_json(dir_.path() / "tokenizer.json");
  file.update(read_json(from_ / "legacy_overrides.json"));
  dir_.write("tokenizer.json", file.dump());
  expect_encodings(Tokenizer::load(dir_.path()), from_ / "encode_legacy.json");
}

TEST_P(Golden, Streams) {
  const Tokenizer t = Tokenizer::load(dir_.path());
  for (const Json& c : read_json(from_ / "stream.json")) {
    const auto prompt = c.value("prompt_ids", std::vector<int32_t>());
    StreamDecoder stream(t, c["skip_special_tokens"], prompt);
    std::string out;
    std::string due;  // what no later id can change any more
    const Json& ids = c["ids"];
    for (size_t i = 0; i <= ids.size(); ++i) {
      out += i < ids.size() ? stream.push(ids[i]) : stream.finish();
      due += c["pieces"][i].get<std::string>();
      EXPECT_TRUE(c["text"].get<std::string>().starts_with(out)) << c["name"];
      EXPECT_GE(out.size(), due.size()) << c["name"];
    }
    EXPECT_EQ(out, c["text"].get<std::string>()) << c["name"];
  }
}

TEST_P(Golden, LongRuns) {
  const Tokenizer t = Tokenizer::load(dir_.path());
  for (const Json& c : read_json(from_ / "long.json")) {
    std::string s;
    for (size_t n = c["count"]; n > 0; --n) s += c["unit"].get<std::string>();
    EXPECT_EQ(t.encode(s, {.add_special_tokens = false}).size(), c["num_ids"].get<size_t>()) << c["unit"];
  }
}

void expect_chats(const ChatTemplate& t, const Json& cases) {
  for (const Json& c : cases) {
    ChatRequest r;
    r.messages = c["messages"];
    r.tools = c.value("tools", Json());
    r.kwargs = c.value("kwargs", Json());
    r.add_generation_prompt = c["add_generation_prompt"];
    if (c.contains("now")) r.now = c["now"].get<std::string>();
    try {
      EXPECT_EQ(t.render(r), c.value("rendered_with_reasoning_aliases", c.value("rendered", "an error"))) << c["name"];
    } catch (const Error& e) {
      EXPECT_TRUE(c.contains("error")) << c["name"] << ": " << e.what();
    }
  }
}

TEST_P(GoldenChats, Chats) { expect_chats(ChatTemplate::load(dir_.path()), read_json(from_ / "chat.json")); }

INSTANTIATE_TEST_SUITE_P(Tokenizers, Golden, ::testing::Values("deepseek_v3", "qwen3", "gptoss", "mixtral"));
INSTANTIATE_TEST_SUITE_P(Tokenizers, GoldenChats, ::testing::Values("deepseek_v3", "qwen3", "mixtral"));
INSTANTIATE_TEST_SUITE_P(Tokenizers, GoldenOlderLayout, ::testing::Values("mixtral"));

TEST(GoldenTemplates, RealTemplatesRunAsTheyAre) {
  const fs::path from = shared_data() / "templates";
  if (!fs::exists(from)) GTEST_SKIP() << "no goldens at " << from << ": set MOEGEN_SHARED";
  for (const auto& entry : fs::directory_iterator(from)) {
    if (entry.path().extension() != ".jinja") continue;
    const testing::ScratchDir dir;
    const Json cases = read_json(fs::path(entry.path()).replace_extension(".json"));
    fs::copy_file(entry.path(), dir.path() / "chat_template.jinja");
    dir.write("tokenizer_config.json", cases[0]["special_tokens"].dump());
    expect_chats(ChatTemplate::load(dir.path()), cases);
  }
}

}  // namespace
}  // namespace moegen
