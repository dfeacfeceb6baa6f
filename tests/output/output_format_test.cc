#include "output/output_format.h"

#include <gtest/gtest.h>

namespace moegen::testing {
namespace {

TEST(OutputFormat, DetectedFromTheTemplate) {
  EXPECT_EQ(detect_format("{{ '<｜tool▁calls▁begin｜>' }}```json {{ '<｜Assistant｜><think>\\n' }}"), OutputFormat::deepseek_r1);
  EXPECT_EQ(detect_format("{{ '<｜tool▁calls▁begin｜>' }}```json"), OutputFormat::deepseek_v3);
  EXPECT_EQ(detect_format("{{ '<｜tool▁calls▁begin｜>' }}<think>"), OutputFormat::deepseek_v31);
  EXPECT_EQ(detect_format("[INST] [TOOL_CALLS]"), OutputFormat::mistral);
  EXPECT_EQ(detect_format("<tool_call> <think>"), OutputFormat::qwen3);
  EXPECT_EQ(detect_format("<tool_call> <function=x> <parameter=y>"), OutputFormat::qwen3_coder);
  EXPECT_EQ(detect_format("content.split('</think>')"), OutputFormat::deepseek_r1);  // reasoning only
  EXPECT_EQ(detect_format("<|im_start|>{{ role }}\n{{ content }}<|im_end|>"), OutputFormat::none);
  EXPECT_EQ(detect_format(""), OutputFormat::none);
}

TEST(OutputFormat, NamesAreVllms) {
  EXPECT_EQ(format_by_name("hermes"), OutputFormat::qwen3);
  EXPECT_EQ(format_by_name("openai"), OutputFormat::harmony);
  EXPECT_EQ(format_by_name("qwen3_xml"), OutputFormat::qwen3_coder);
  EXPECT_EQ(format_by_name("glm47"), OutputFormat::glm45);
  EXPECT_EQ(format_by_name("none"), OutputFormat::none);
  EXPECT_FALSE(format_by_name("auto"));
  EXPECT_FALSE(format_by_name(""));
  EXPECT_NE(format_names().find("kimi_k2"), std::string::npos);
}

}  // namespace
}  // namespace moegen::testing
