#include "output/output_format.h"

#include <utility>

namespace moegen {
namespace {

constexpr std::pair<std::string_view, OutputFormat> kNames[] = {
    {"none", OutputFormat::none},
    {"qwen3", OutputFormat::qwen3},
    {"hermes", OutputFormat::qwen3},
    {"qwen3_coder", OutputFormat::qwen3_coder},
    {"qwen3_xml", OutputFormat::qwen3_coder},
    {"deepseek_r1", OutputFormat::deepseek_r1},
    {"deepseek_v3", OutputFormat::deepseek_v3},
    {"deepseek_v31", OutputFormat::deepseek_v31},
    {"openai", OutputFormat::harmony},
    {"openai_gptoss", OutputFormat::harmony},
    {"gpt_oss", OutputFormat::harmony},
    {"harmony", OutputFormat::harmony},
    {"glm45", OutputFormat::glm45},
    {"glm47", OutputFormat::glm45},
    {"minimax_m2", OutputFormat::minimax_m2},
    {"kimi_k2", OutputFormat::kimi_k2},
    {"mistral", OutputFormat::mistral},
};

}  // namespace

std::optional<OutputFormat> format_by_name(std::string_view name) {
  for (const auto& [known, format] : kNames) {
    if (known == name) return format;
  }
  return std::nullopt;
}

std::string format_names() {
  std::string out;
  for (const auto& [name, format] : kNames) {
    if (!out.empty()) out += ", ";
    out += name;
  }
  return out;
}

// From the marks that only one family has to those that several share.
OutputFormat detect_format(std::string_view chat_template) {
  const auto has = [&](std::string_view mark) { return chat_template.find(mark) != std::string_view::npos; };
  if (has("<|channel|>") && has("<|message|>")) return OutputFormat::harmony;
  if (has("<minimax:tool_call>")) return OutputFormat::minimax_m2;
  if (has("<|tool_calls_section_begin|>")) return OutputFormat::kimi_k2;
  if (has("<｜tool▁calls▁begin｜>")) {
    if (!has("```json")) return OutputFormat::deepseek_v31;
    return has("think>") ? OutputFormat::deepseek_r1 : OutputFormat::deepseek_v3;
  }
  if (has("[TOOL_CALLS]") || has("[THINK]")) return OutputFormat::mistral;
  if (has("<arg_key>")) return OutputFormat::glm45;
  if (has("<function=") && has("<parameter=")) return OutputFormat::qwen3_coder;
  if (has("<tool_call>")) return OutputFormat::qwen3;
  return has("</think>") || has("<think>") ? OutputFormat::deepseek_r1 : OutputFormat::none;
}

}  // namespace moegen
