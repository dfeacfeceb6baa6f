// Model outputs in, what is read in them out, as JSON lines: {"parser", "prompt", "tools", "text"} to {"content", "reasoning_content",
// "tool_calls", "plain"}. For random_parses.py.
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "output/parse_output.h"

namespace {

using Json = nlohmann::json;

Json answer(const Json& line) {
  moegen::OutputContext context;
  context.format = moegen::format_by_name(line.at("parser").get<std::string>()).value();
  context.thinking = moegen::thinking_of_prompt(line.at("prompt").get<std::string>(), false);
  context.tools = line.at("tools");
  const moegen::ParsedOutput got = moegen::parse_output(context, line.at("text").get<std::string>());
  Json calls = Json::array();
  for (const moegen::ToolCall& call : got.tool_calls) calls.push_back({{"id", call.id}, {"name", call.name}, {"arguments", call.arguments}});
  return {
      {"content", got.content}, {"reasoning_content", got.reasoning ? Json(*got.reasoning) : Json()}, {"tool_calls", calls}, {"plain", got.plain}};
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) std::cout << answer(Json::parse(line)) << '\n';
}
