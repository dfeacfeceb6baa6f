// Requests and models from strangers, against the executable: memory and time are bounded, and everyone else is answered.
#include <functional>

#include "tests/contract/process.h"

namespace moegen::testing {
namespace {

using Json = nlohmann::json;

const std::filesystem::path kDemo = std::filesystem::path(MOEGEN_SOURCE_DIR) / "examples/kjv-moe";

std::string repeated(std::string_view text, size_t times) {
  std::string out;
  out.reserve(text.size() * times);
  for (size_t i = 0; i < times; ++i) out += text;
  return out;
}

std::string line_of(const Json& body, const char* url = "/v1/completions") {
  return Json{{"custom_id", "hostile"}, {"method", "POST"}, {"url", url}, {"body", body}}.dump();
}

std::string chat_of(Json body) {
  if (!body.contains("messages")) body["messages"] = Json::array({{{"role", "user"}, {"content", "Hi"}}});
  return line_of(body, "/v1/chat/completions");
}

struct HostileRequest {
  const char* name;
  std::function<std::string()> line;
};

std::ostream& operator<<(std::ostream& out, const HostileRequest& request) { return out << request.name; }

Json doubling_schema() {
  Json schema{{"$ref", "#/$defs/d0"}};
  for (int i = 0; i < 40; ++i) {
    const Json next{{"$ref", fmt::format("#/$defs/d{}", i + 1)}};
    schema["$defs"][fmt::format("d{}", i)] = {{"type", "array"}, {"prefixItems", {next, next}}, {"items", false}};
  }
  schema["$defs"]["d40"] = {{"type", "null"}};
  return schema;
}

const std::vector<HostileRequest> kRequests = {
    {"brackets", [] { return R"({"custom_id":"hostile","method":"POST","url":"/v1/completions","body":{"prompt":)" + repeated("[", 8 << 20); }},
    {"a_line_of_70_megabytes",
     [] {
       return line_of({{"prompt", repeated("a", 70 << 20)}});
     }},
    {"a_long_word",
     [] {
       return line_of({{"prompt", repeated("a", 4 << 20)}});
     }},
    {"a_million_ids",
     [] {
       return line_of({{"prompt", std::vector<int>(1'000'000, 5)}});
     }},
    {"a_million_prompts",
     [] {
       return line_of({{"prompt", std::vector<std::string>(1'000'000, "a")}});
     }},
    {"choices_with_logprobs",
     [] {
       return line_of({{"prompt", "a"}, {"n", 16384}, {"logprobs", 20}, {"max_tokens", 2000}});
     }},
    {"negative_counts",
     [] {
       return line_of({{"prompt", "a"}, {"n", -1}, {"max_tokens", -5}, {"top_k", -9}});
     }},
    {"numbers_beyond_int64",
     [] {
       return line_of({{"prompt", "a"}, {"max_tokens", 1e300}, {"seed", 1e300}});
     }},
    {"biases",
     [] {
       Json bias;
       for (int i = 0; i < 200'000; ++i) bias[std::to_string(i)] = 1;
       return line_of({{"prompt", "a"}, {"logit_bias", bias}});
     }},
    {"stop_strings",
     [] {
       return line_of({{"prompt", "a"}, {"stop", std::vector<std::string>(16, repeated("b", 1 << 20))}});
     }},
    {"bad_words",
     [] {
       return line_of({{"prompt", "a"}, {"bad_words", std::vector<std::string>(1024, repeated("b c", 500))}});
     }},
    {"a_template_that_loops",
     [] {
       return chat_of({{"chat_template", "{% for a in range(99999999) %}{% for b in range(99999999) %}x{% endfor %}{% endfor %}"}});
     }},
    {"a_template_that_doubles",
     [] {
       return chat_of(
           {{"chat_template", "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}"}});
     }},
    {"many_messages",
     [] {
       Json messages = Json::array();
       for (int i = 0; i < 100'000; ++i) messages.push_back({{"role", i % 2 == 0 ? "user" : "assistant"}, {"content", "a"}});
       return chat_of({{"messages", messages}});
     }},
    {"deep_tools",
     [] {
       Json deep = "x";
       for (int i = 0; i < 200; ++i) deep = Json{{"a", deep}};
       return chat_of({{"tools", Json::array({{{"type", "function"}, {"function", {{"name", "f"}, {"parameters", deep}}}}})}});
     }},
    {"a_schema_that_doubles",
     [] {
       return line_of(
           {{"prompt", "a"}, {"response_format", {{"type", "json_schema"}, {"json_schema", {{"name", "s"}, {"schema", doubling_schema()}}}}}});
     }},
    {"a_regex_that_multiplies",
     [] {
       return line_of({{"prompt", "a"}, {"structured_outputs", {{"regex", "((((a{1,200}){1,200}){1,200}){1,200}){1,200}"}}}});
     }},
    {"choices_to_choose_from",
     [] {
       std::vector<std::string> all;
       for (int i = 0; i < 100'000; ++i) all.push_back(fmt::format("choice {}", i * 7919));
       return line_of({{"prompt", "a"}, {"max_tokens", 4}, {"structured_outputs", {{"choice", all}}}});
     }},
    {"a_custom_id_of_megabytes",
     [] {
       return Json{
           {"custom_id", repeated("i", 8 << 20)}, {"method", "POST"}, {"url", "/v1/completions"}, {"body", {{"prompt", "a"}, {"max_tokens", 1}}}}
           .dump();
     }},
    {"lone_surrogates",
     [] { return R"({"custom_id":"hostile","method":"POST","url":"/v1/completions","body":{"prompt":")" + repeated("\\ud800", 500'000) + "\"}}"; }},
    {"keys_twice", [] { return R"({"custom_id":"hostile","custom_id":"b","method":"POST","url":"/v1/completions","body":{"prompt":"a"}})"; }},
};

class HostileRequests : public Process, public ::testing::WithParamInterface<HostileRequest> {};

TEST_P(HostileRequests, AreBoundedInMemoryAndTime) {
  constexpr int64_t kBudget = int64_t{512} << 20;
  constexpr int64_t kReading = int64_t{16} << 20;  // beside the budget: what the process has before it knows the budget
  const bool sanitized = std::string_view(MOEGEN_SANITIZE) != "";
  const std::string neighbour =
      R"({"custom_id":"NAME","method":"POST","url":"/v1/completions","body":{"prompt":"And God said","max_tokens":4,"temperature":0}})";
  const auto named = [&](const char* name) { return std::string(neighbour).replace(neighbour.find("NAME"), 4, name) + "\n"; };
  std::ofstream(dir / "in.jsonl") << named("before") << GetParam().line() << "\n" << named("after");
  const Result r =
      run({"run-batch", "-m", kDemo, "-i", dir / "in.jsonl", "-o", dir / "out", "--host-memory", std::to_string(kBudget), "--progress", "none"});
  EXPECT_EQ(r.status, 0) << r.err;
  EXPECT_LT(r.cpu_seconds, sanitized ? 120 : 20);
  if (!sanitized) {
    EXPECT_LT(r.peak_bytes, kBudget + kReading);
  }
  std::map<std::string, Json> answers;
  std::ifstream out(dir / "out");
  int lines = 0;
  for (std::string line; std::getline(out, line); ++lines) {
    const Json answer = Json::parse(line);
    if (answer["custom_id"] == "before" || answer["custom_id"] == "after") answers[answer["custom_id"]] = answer["response"]["body"]["choices"];
  }
  EXPECT_EQ(lines, 3);
  EXPECT_FALSE(answers["before"].empty());
  EXPECT_EQ(answers["before"], answers["after"]);
  ::testing::Test::RecordProperty("seconds", std::to_string(r.cpu_seconds));
  ::testing::Test::RecordProperty("peak_bytes", std::to_string(r.peak_bytes));
}

INSTANTIATE_TEST_SUITE_P(Kinds, HostileRequests, ::testing::ValuesIn(kRequests), [](const auto& kind) { return kind.param.name; });

class HostileModel : public Process {
 protected:
  // A copy of the demo model whose weights may be changed.
  std::filesystem::path copy() {
    std::filesystem::copy(kDemo, dir / "model");
    return dir / "model";
  }
};

// No file of weights is mapped, so a page that is not there any more is an error of a read and no SIGBUS.
TEST_F(HostileModel, WeightsCutOffWhileTheyLoadAreAnError) {
  const std::filesystem::path model = copy();
  const auto bytes = std::filesystem::file_size(model / "model.safetensors");
  const std::string in = requests(50, 20);
  int stopped = 0;
  for (int i = 0; i < 12; ++i) {
    std::filesystem::remove(dir / "out");
    std::filesystem::copy_file(kDemo / "model.safetensors", model / "model.safetensors", std::filesystem::copy_options::overwrite_existing);
    const pid_t pid = start({"run-batch", "-m", model, "-i", in, "-o", dir / "out", "--no-resume", "--skip-tokenizer-init", "--progress", "none"});
    ::usleep(static_cast<useconds_t>(i * 3000));
    std::filesystem::resize_file(model / "model.safetensors", bytes / 2);
    const Result r = wait(pid);
    ASSERT_TRUE(r.status == 0 || r.status == 1) << r.status << r.err;  // all was read already, or it says what is wrong
    if (r.status == 1) {
      EXPECT_NE(r.err.find("model.safetensors"), std::string::npos) << r.err;
    }
    stopped += r.status;
  }
  EXPECT_GT(stopped, 0);
}

TEST_F(HostileModel, AHeaderOfAMillionTensorsIsRefusedInBoundedTime) {
  const std::filesystem::path model = copy();
  std::string header = "{";
  for (int i = 0; i < 1'000'000; ++i)
    header += fmt::format("{}\"t{}\":{{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", i == 0 ? "" : ",", i);
  header += "}";
  std::string length;
  for (int i = 0; i < 8; ++i) length += static_cast<char>(header.size() >> (8 * i) & 0xff);
  std::ofstream(model / "model.safetensors", std::ios::binary) << length << header;
  const Result r = run({"run-batch", "-m", model, "-i", requests(1, 1), "-o", dir / "out", "--skip-tokenizer-init"});
  EXPECT_EQ(r.status, 1);
  EXPECT_NE(r.err.find("superfluous"), std::string::npos) << r.err.substr(0, 300);
  EXPECT_LT(r.cpu_seconds, std::string_view(MOEGEN_SANITIZE).empty() ? 60 : 360);
  if (std::string_view(MOEGEN_SANITIZE).empty()) {
    EXPECT_LT(r.peak_bytes, int64_t{4} << 30);
  }
}

// What a name in a model leads to is opened for reading only, has to be a regular file, and nothing of it is in the message.
TEST_F(HostileModel, LinksToOtherFilesGiveNothingAway) {
  const std::filesystem::path model = copy();
  std::ofstream(dir / "secret") << "the secret words of somebody else\n";
  for (const char* name : {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json"}) {
    std::filesystem::remove_all(model);
    copy();
    std::filesystem::remove(model / name);
    std::filesystem::create_symlink(dir / "secret", model / name);
    const Result r = run({"run-batch", "-m", model, "-i", requests(1, 1), "-o", dir / "out", "--no-resume"});
    EXPECT_EQ(r.status, 1) << name;
    EXPECT_EQ(r.err.find("secret words"), std::string::npos) << r.err;
    EXPECT_EQ(slurp(dir / "secret"), "the secret words of somebody else\n");
    std::filesystem::remove(model / name);
    std::filesystem::create_symlink("/dev/zero", model / name);
    EXPECT_EQ(run({"run-batch", "-m", model, "-i", requests(1, 1), "-o", dir / "out", "--no-resume"}).status, 1) << name;
  }
}

}  // namespace
}  // namespace moegen::testing
