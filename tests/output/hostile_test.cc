// Text that nobody meant: cut off anywhere, changed anywhere, and long. Nothing throws, nothing is lost, time is linear.
#include <random>

#include "tests/output/support.h"
#include "tests/support/cpu_timer.h"

namespace moegen::testing {
namespace {

void expect_nothing_lost(OutputFormat format, const std::string& text, Thinking thinking) {
  const ParsedOutput got = parse(format, text, thinking);
  for (const ToolCall& call : got.tool_calls) {
    EXPECT_FALSE(call.name.empty());
    EXPECT_TRUE(Json::parse(call.arguments).is_object()) << call.arguments;
  }
  if (got.plain) {
    EXPECT_EQ(got.content, text);
    EXPECT_FALSE(got.reasoning);
  } else if (got.tool_calls.empty() && format != OutputFormat::harmony) {  // all but the marks of the reasoning and line feeds
    const size_t marks = std::string("[THINK][/THINK]").size() + 1;
    size_t newlines = 0;
    for (const char c : text) newlines += c == '\n' || c == ' ' ? 1 : 0;
    EXPECT_GE(got.content.size() + got.reasoning.value_or("").size() + marks + newlines, text.size()) << text;
  }
}

std::vector<std::pair<OutputFormat, std::string>> seeds() {
  std::vector<std::pair<OutputFormat, std::string>> out;
  for (const Sample& s : samples()) out.emplace_back(s.format, "<think>\nWhy?\n</think>\n\nText. " + s.text(2));
  out.emplace_back(OutputFormat::harmony,
                   "<|channel|>analysis<|message|>Why?<|end|><|start|>assistant<|channel|>commentary<|message|>Now.<|end|><|start|>assistant"
                   "<|channel|>commentary to=functions.f <|constrain|>json<|message|>{\"a\": [1, \"é\"]}<|call|>");
  return out;
}

TEST(Hostile, CutOffAnywhere) {
  for (const auto& [format, text] : seeds()) {
    for (size_t n = 0; n < text.size(); ++n) {
      for (const Thinking t : {Thinking::unsaid, Thinking::open, Thinking::closed}) {
        expect_nothing_lost(format, text.substr(0, n), t);
        expect_nothing_lost(format, text.substr(n), t);
      }
    }
  }
}

TEST(Hostile, ChangedAnywhere) {
  std::mt19937 random(7);
  const auto pick = [&](size_t n) { return static_cast<size_t>(random() % n); };
  const auto all = seeds();
  for (int round = 0; round < 20000; ++round) {
    auto [format, text] = all[pick(all.size())];
    for (size_t edits = 1 + pick(4); edits > 0 && !text.empty(); --edits) {
      const size_t at = pick(text.size());
      const size_t n = pick(std::min<size_t>(12, text.size() - at) + 1);
      const std::string& other = all[pick(all.size())].second;
      switch (pick(4)) {
        case 0:
          text.erase(at, n);
          break;
        case 1:
          text[at] = static_cast<char>(random());
          break;
        case 2:
          text.insert(at, text.substr(pick(text.size()), pick(30)));
          break;
        default:
          text.insert(at, other.substr(pick(other.size()), pick(40)));
      }
    }
    expect_nothing_lost(format, text, static_cast<Thinking>(pick(3)));
  }
}

// 200 kB of the same few bytes, and of calls: a parser that looks back or ahead for each of them would take minutes.
TEST(Hostile, LongTextsTakeLinearTime) {
  constexpr size_t kBytes = 200 << 10;
  const auto repeated = [](const std::string& unit) {
    std::string out;
    while (out.size() < kBytes) out += unit;
    return out;
  };
  const std::vector<std::string> units = {"<",
                                          "<tool_call>",
                                          "<tool_call>\n",
                                          "{",
                                          "[",
                                          "\"",
                                          "{\"a\":",
                                          "<think>",
                                          "</think>",
                                          "<|channel|>final<|message|>",
                                          "<|start|>",
                                          "<|end|>",
                                          "<|",
                                          "</parameter> ",
                                          "\n</function>\n",
                                          "\n<parameter=s>",
                                          "<function=g></function>",
                                          "<tool_call><function=g></function></tool_call>",
                                          "[TOOL_CALLS]g{}",
                                          "<tool_call>{\"name\": \"g\", \"arguments\": {}}</tool_call>",
                                          "<tool_call>g</tool_call>",
                                          " ",
                                          "\n",
                                          "<arg_key>",
                                          "</arg_value>",
                                          "<|channel|>analysis<|message|>a<|end|>",
                                          "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>g<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"};
  const std::vector<std::string> starts = {"",
                                           "<tool_call><function=f><parameter=s>",
                                           "<tool_call>f\n<arg_key>s</arg_key><arg_value>",
                                           "<minimax:tool_call><invoke name=\"f\"><parameter name=\"s\">",
                                           "[TOOL_CALLS]",
                                           "<tool_call>{\"name\": ["};
  const CpuTimer timer;
  for (const std::string& unit : units) {
    const std::string body = repeated(unit);
    for (const std::string& start : starts) {
      for (const auto& [format, seed] : seeds()) static_cast<void>(parse(format, start + body));
    }
  }
  EXPECT_LT(timer.seconds(), 60) << "for " << units.size() * starts.size() * seeds().size() << " texts of 200 kB";
}

}  // namespace
}  // namespace moegen::testing
