#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "output/parse_output.h"

namespace moegen::testing {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

/// One tool with a parameter of every type.
inline Json example_tools() {
  return Json::parse(R"([{"type":"function","function":{"name":"f","description":"F","parameters":{"type":"object","properties":{
    "s":{"type":"string"},"i":{"type":"integer"},"n":{"type":"number"},"b":{"type":"boolean"},"o":{"type":"object"},"a":{"type":"array"},
    "maybe":{"anyOf":[{"type":"string"},{"type":"null"}]},"either":{"type":["integer","string"]},"untyped":{}}}}},
    {"type":"function","function":{"name":"g","description":"G","parameters":{"type":"object","properties":{}}}}])");
}

inline OutputContext context_of(OutputFormat format, Thinking thinking = Thinking::unsaid) {
  OutputContext out;
  out.format = format;
  out.thinking = thinking;
  out.tools = example_tools();
  return out;
}

inline ParsedOutput parse(OutputFormat format, std::string_view text, Thinking thinking = Thinking::unsaid) {
  return parse_output(context_of(format, thinking), text);
}

using Call = std::pair<std::string, std::string>;  // a name, and arguments as JSON

inline void expect(const ParsedOutput& got, const std::string& content, const std::vector<Call>& calls, const std::string& reasoning = "") {
  EXPECT_EQ(got.reasoning.value_or(""), reasoning);
  EXPECT_EQ(got.content, content);
  ASSERT_EQ(got.tool_calls.size(), calls.size()) << got.content;
  for (size_t i = 0; i < calls.size(); ++i) {
    EXPECT_EQ(got.tool_calls[i].name, calls[i].first);
    EXPECT_EQ(OrderedJson::parse(got.tool_calls[i].arguments), OrderedJson::parse(calls[i].second)) << got.tool_calls[i].arguments;
  }
}

inline void expect_plain(const ParsedOutput& got, std::string_view text) {
  EXPECT_TRUE(got.plain) << text;
  EXPECT_FALSE(got.reasoning.has_value()) << text;
  EXPECT_EQ(got.content, text);
  EXPECT_TRUE(got.tool_calls.empty()) << text;
}

struct Sample {
  OutputFormat format;
  std::string before;  // what stands before the calls in this format
  std::vector<std::string> calls;
  std::string after;
  std::vector<Call> expected;

  [[nodiscard]] std::string text(size_t count) const {
    std::string out = before;
    for (size_t i = 0; i < count; ++i) out += calls[i];
    return out + after;
  }
};

/// Two calls, with arguments that are nested, escaped and not ASCII, as every format writes them.
inline std::vector<Sample> samples() {
  const std::string s = "a \"q\"\n</x> \\ é";
  const std::string json = R"({"s": "a \"q\"\n</x> \\ é", "o": {"k": [1, {"z": "}"}]}, "i": 12345678901234567890})";
  const std::string object = R"({"k": [1, {"z": "}"}]})";
  const std::string big = "12345678901234567890";
  const std::vector<Call> calls = {{"f", json}, {"g", "{}"}};
  const std::string named = R"({"name": "f", "arguments": )" + json + "}";
  return {
      {OutputFormat::qwen3,
       "",
       {"<tool_call>\n" + named + "\n</tool_call>", "\n<tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>"},
       "",
       calls},
      {OutputFormat::qwen3_coder,
       "",
       {"<tool_call>\n<function=f>\n<parameter=s>\n" + s + "\n</parameter>\n<parameter=o>\n" + object + "\n</parameter>\n<parameter=i>\n" + big +
            "\n</parameter>\n</function>\n</tool_call>",
        "\n<tool_call>\n<function=g>\n</function>\n</tool_call>"},
       "",
       calls},
      {OutputFormat::deepseek_v3,
       "<｜tool▁calls▁begin｜>",
       {"<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n" + json + "\n```<｜tool▁call▁end｜>",
        "\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n```json\n{}\n```<｜tool▁call▁end｜>"},
       "<｜tool▁calls▁end｜>",
       calls},
      {OutputFormat::deepseek_v31,
       "<｜tool▁calls▁begin｜>",
       {"<｜tool▁call▁begin｜>f<｜tool▁sep｜>" + json + "<｜tool▁call▁end｜>", "<｜tool▁call▁begin｜>g<｜tool▁sep｜>{}<｜tool▁call▁end｜>"},
       "<｜tool▁calls▁end｜>",
       calls},
      {OutputFormat::glm45,
       "",
       {"\n<tool_call>f\n<arg_key>s</arg_key>\n<arg_value>" + s + "</arg_value>\n<arg_key>o</arg_key>\n<arg_value>" + object +
            "</arg_value>\n<arg_key>i</arg_key>\n<arg_value>" + big + "</arg_value>\n</tool_call>",
        "\n<tool_call>g\n</tool_call>"},
       "",
       calls},
      {OutputFormat::minimax_m2,
       "\n<minimax:tool_call>\n",
       {"<invoke name=\"f\"><parameter name=\"s\">" + s + "</parameter>\n<parameter name=\"o\">" + object + "</parameter>\n<parameter name=\"i\">" +
            big + "</parameter>\n</invoke>\n",
        "<invoke name=\"g\"></invoke>\n"},
       "</minimax:tool_call>",
       calls},
      {OutputFormat::kimi_k2,
       "<|tool_calls_section_begin|>",
       {"<|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>" + json + "<|tool_call_end|>",
        "<|tool_call_begin|>functions.g:1<|tool_call_argument_begin|>{}<|tool_call_end|>"},
       "<|tool_calls_section_end|>",
       calls},
      {OutputFormat::mistral, "", {"[TOOL_CALLS]f[ARGS]" + json, "[TOOL_CALLS]g[ARGS]{}"}, "", calls},
      {OutputFormat::mistral, "[TOOL_CALLS][" + named, {"", R"(, {"name": "g", "arguments": {}})"}, "]", calls},
  };
}

inline std::filesystem::path shared_data() {
  const char* set = std::getenv("MOEGEN_SHARED");
  return std::filesystem::path(set != nullptr ? set : MOEGEN_SOURCE_DIR "/../shared") / "data";
}

inline std::string read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace moegen::testing
