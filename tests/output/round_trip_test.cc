// What the models were trained on: an assistant's turn, rendered by the model's own template, is read back as it was.
#include <map>

#include "tests/output/support.h"
#include "tokenizer/chat_template.h"

namespace moegen::testing {
namespace {

namespace fs = std::filesystem;

const OrderedJson kArguments =
    OrderedJson::parse(R"({"s": "line \"one\"\n\ttwo é 😀 \\", "i": -5, "n": 1.5, "b": true, "o": {"k": [1, {"z": "}</"}]}, "a": []})");

struct Source {
  std::string name, text;
};

std::vector<Source> templates() {
  std::vector<Source> out;
  for (const char* folder : {"templates", "tokenizers"}) {
    if (!fs::exists(shared_data() / folder)) continue;
    for (const auto& entry : fs::directory_iterator(shared_data() / folder)) {
      if (entry.path().extension() == ".jinja") out.push_back({entry.path().stem().string(), read_file(entry.path())});
      if (!fs::exists(entry.path() / "tokenizer_config.json")) continue;
      const Json config = Json::parse(read_file(entry.path() / "tokenizer_config.json"));
      if (config.contains("chat_template")) out.push_back({entry.path().filename().string(), config["chat_template"]});
    }
  }
  return out;
}

OrderedJson call(const std::string& id, const std::string& name, const OrderedJson& arguments) {
  return {{"id", id}, {"type", "function"}, {"function", {{"name", name}, {"arguments", arguments}}}};
}

std::string render(const Source& source, const OrderedJson& messages, bool generate) {
  const OrderedJson context = {{"messages", messages},
                               {"tools", OrderedJson::parse(example_tools().dump())},
                               {"add_generation_prompt", generate},
                               {"thinking", false},
                               {"bos_token", ""},
                               {"eos_token", ""}};
  return Template::parse(source.text).render(context, "2026-03-07T08:09:05");
}

// What the template puts behind the prompt, without the marks that end a turn.
std::string answer_text(const Source& source, OrderedJson messages, const OrderedJson& assistant) {
  const std::string prompt = render(source, messages, false);
  messages.push_back(assistant);
  std::string turn = render(source, messages, false).substr(prompt.size());
  for (const std::string begin : {"<|im_start|>assistant\n", "<|im_start|>assistant", "<｜Assistant｜>", "<|start|>assistant", "<|assistant|>",
                                  "]~b]ai\n", "<|im_assistant|>assistant<|im_middle|>"}) {
    if (!turn.starts_with(begin)) continue;
    turn.erase(0, begin.size());
    break;
  }
  for (const std::string end : {"<|im_end|>\n", "<|im_end|>", "<｜end▁of▁sentence｜>", "<|call|>", "[e~[\n"}) {
    if (!turn.ends_with(end)) continue;
    turn.resize(turn.size() - end.size());
    break;
  }
  return turn;
}

OrderedJson user() { return OrderedJson::array({{{"role", "user"}, {"content", "Do it."}}}); }

class RoundTrip : public ::testing::Test {
 protected:
  void SetUp() override {
    if (templates().empty()) GTEST_SKIP() << "no templates at " << shared_data() << ": set MOEGEN_SHARED";
  }
};

TEST_F(RoundTrip, FormatsAreDetected) {
  std::map<std::string, OutputFormat> found;
  for (const Source& source : templates()) found[source.name] = detect_format(source.text);
  EXPECT_EQ(found.at("openai-gpt-oss-120b"), OutputFormat::harmony);
  EXPECT_EQ(found.at("Qwen3-Coder"), OutputFormat::qwen3_coder);
  EXPECT_EQ(found.at("deepseek-ai-DeepSeek-V3.1"), OutputFormat::deepseek_v31);
  EXPECT_EQ(found.at("moonshotai-Kimi-K2"), OutputFormat::kimi_k2);
  EXPECT_EQ(found.at("GLM-4.6"), OutputFormat::glm45);
  EXPECT_EQ(found.at("MiniMax-M2"), OutputFormat::minimax_m2);
  EXPECT_EQ(found.at("qwen3"), OutputFormat::qwen3);
  EXPECT_EQ(found.at("deepseek_v3"), OutputFormat::deepseek_v3);
  EXPECT_EQ(found.at("mixtral"), OutputFormat::none);
}

TEST_F(RoundTrip, CallsComeBack) {
  size_t checked = 0;
  for (const Source& source : templates()) {
    const OutputFormat format = detect_format(source.text);
    if (format == OutputFormat::none) continue;
    SCOPED_TRACE(source.name);
    const bool text_arguments = format == OutputFormat::deepseek_v3;  // its template adds them to texts, and wants content none
    OrderedJson arguments = kArguments;
    if (format == OutputFormat::qwen3_coder) arguments.erase("b");  // written as Python's True
    const OrderedJson given = text_arguments ? OrderedJson(arguments.dump()) : arguments;
    const OrderedJson nothing = text_arguments ? OrderedJson("{}") : OrderedJson::object();
    OrderedJson assistant = {{"role", "assistant"}, {"tool_calls", OrderedJson::array({call("x", "f", given), call("y", "g", nothing)})}};
    assistant["content"] = text_arguments ? OrderedJson() : OrderedJson("");
    std::vector<Call> expected = {{"f", arguments.dump()}, {"g", "{}"}};
    if (format == OutputFormat::harmony) expected.pop_back();  // one call a message
    const std::string text = answer_text(source, user(), assistant);
    SCOPED_TRACE(text);
    expect(parse(format, text), "", expected);
    if (text_arguments || format == OutputFormat::harmony) continue;
    assistant["content"] = "I will.";
    expect(parse(format, answer_text(source, user(), assistant)), "I will.", expected);
    ++checked;
  }
  EXPECT_EQ(checked, 6U);
}

TEST_F(RoundTrip, ReasoningComesBack) {
  size_t checked = 0;
  for (const Source& source : templates()) {
    const OutputFormat format = detect_format(source.text);
    const bool writes_it = format == OutputFormat::qwen3 || format == OutputFormat::glm45 || format == OutputFormat::minimax_m2;
    const bool harmony = format == OutputFormat::harmony;
    if (!writes_it && !harmony) continue;
    SCOPED_TRACE(source.name);
    OrderedJson assistant = {{"role", "assistant"}, {"content", "So."}, {harmony ? "thinking" : "reasoning_content", "Why?\n\nBecause é."}};
    expect(parse(format, answer_text(source, user(), assistant)), "So.", {}, "Why?\n\nBecause é.");
    assistant["content"] = "";
    assistant["tool_calls"] = OrderedJson::array({call("x", "f", kArguments)});
    expect(parse(format, answer_text(source, user(), assistant)), "", {{"f", kArguments.dump()}}, "Why?\n\nBecause é.");
    ++checked;
  }
  EXPECT_EQ(checked, 4U);
}

}  // namespace
}  // namespace moegen::testing
