// config.json of published models, with all the fields that their repositories have.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "base/file.h"
#include "spec/families.h"
#include "spec/tensor_table.h"
#include "tests/support/errors.h"

namespace moegen {
namespace {

ModelSpec published(const std::string& name) {
  const std::filesystem::path file = std::filesystem::path(MOEGEN_SOURCE_DIR) / "tests/data/configs" / (name + ".json");
  return read_spec(Config(nlohmann::json::parse(read_text_file(file, 1 << 20)), name));
}

// Without the scales of quantised weights.
int64_t parameters_of(const ModelSpec& spec) {
  int64_t sum = 0;
  for (const TensorSpec& t : tensor_table(spec)) {
    if (t.part == Part::values) sum += static_cast<int64_t>(elements_of(t));
  }
  return sum;
}

// Elements that a token adds to the cache, where no window ends.
int64_t cached_of(const ModelSpec& spec) {
  int64_t sum = 0;
  for (const LayerSpec& layer : spec.layers) sum += layer.attention.cached_width();
  return sum;
}

struct Published {
  const char* name;
  int64_t parameters;     ///< as transformers counts them in the text model, without MTP; layer scales of Gemma beside
  int64_t cached;         ///< elements
  int64_t max_positions;  ///< of the repository, or where its yarn ends, or its longrope's short factors
};

constexpr Published kPublished[] = {
    {"DeepSeek-R1", 671026419200, 61 * 576, 163840},
    {"DeepSeek-V2", 235741434880, 60 * 576, 163840},
    {"DeepSeek-V2-Lite", 15706484224, 27 * 576, 163840},
    {"DeepSeek-V3", 671026419200, 61 * 576, 163840},
    {"DeepSeek-V3.1", 671026419200, 61 * 576, 163840},
    {"ERNIE-4.5-21B-A3B-PT", 21825437888, 28 * 2 * 4 * 128, 131072},
    {"ERNIE-4.5-300B-A47B-PT", 299484163264, 54 * 2 * 8 * 128, 131072},
    {"GLM-4.5", 352797829024, 92 * 2 * 8 * 128, 131072},
    {"GLM-4.5-Air", 106852251264, 46 * 2 * 8 * 128, 131072},
    {"GLM-4.6", 352797829024, 92 * 2 * 8 * 128, 202752},
    {"Hunyuan-A13B-Instruct", 80393183232, 32 * 2 * 8 * 128, 32768},
    {"Kimi-K2-Instruct", 1026408232448, 61 * 576, 131072},
    {"Kimi-K2-Thinking", 1026408232448, 61 * 576, 262144},
    {"Llama-3.2-1B", 1235814400, 16 * 2 * 8 * 64, 131072},
    {"Llama-4-Maverick-17B-128E-Instruct", 400711848960, 48 * 2 * 8 * 128, 1048576},
    {"Llama-4-Scout-17B-16E-Instruct", 107769861120, 48 * 2 * 8 * 128, 10485760},
    {"Meta-Llama-3-8B-Instruct", 8030261248, 32 * 2 * 8 * 128, 8192},
    {"MiniMax-M2", 228689764864, 62 * 2 * 8 * 128, 196608},
    {"Mistral-7B-v0.1", 7241732096, 32 * 2 * 8 * 128, 32768},
    {"Mixtral-8x22B-Instruct-v0.1", 140630071296, 56 * 2 * 8 * 128, 65536},
    {"Mixtral-8x7B-Instruct-v0.1", 46702792704, 32 * 2 * 8 * 128, 32768},
    {"Moonlight-16B-A3B", 15960110208, 27 * 576, 8192},
    {"OLMoE-1B-7B-0924", 6919161856, 16 * 2 * 16 * 128, 4096},
    {"Phi-3.5-MoE-instruct", 41873153344, 32 * 2 * 8 * 128, 4096},
    {"Qwen1.5-MoE-A2.7B", 14315784192, 24 * 2 * 16 * 128, 8192},
    {"Qwen2-57B-A14B-Instruct", 57408658944, 28 * 2 * 4 * 128, 32768},
    {"Qwen3-235B-A22B", 235093634560, 94 * 2 * 4 * 128, 40960},
    {"Qwen3-235B-A22B-Thinking-2507-1M", 235093634560, 94 * 2 * 4 * 128, 1048576},
    {"Qwen3-30B-A3B", 30532122624, 48 * 2 * 4 * 128, 40960},
    {"Qwen3-30B-A3B-FP8", 30532122624, 48 * 2 * 4 * 128, 40960},
    {"Qwen3-8B", 8190735360, 36 * 2 * 8 * 128, 40960},
    {"Qwen3-Coder-480B-A35B-Instruct", 480154875392, 62 * 2 * 8 * 128, 262144},
    {"Qwen3-Next-80B-A3B-Instruct", 79674391296, 12 * 2 * 2 * 256, 262144},
    {"Qwen3.5-35B-A3B", 34660610688, 10 * 2 * 2 * 256, 262144},
    {"Qwen3.5-397B-A17B", 396346350336, 15 * 2 * 2 * 256, 262144},
    {"dots.llm1.inst", 142774381696, 62 * 2 * 32 * 128, 32768},
    {"gemma-4-26B-A4B-it", 25233141760 + 30, 25 * 2 * 8 * 256 + 5 * 2 * 2 * 512, 262144},
    {"gpt-oss-120b", 116829156672, 36 * 2 * 8 * 64, 131072},
    {"gpt-oss-20b", 20914757184, 24 * 2 * 8 * 64, 131072},
    {"granite-3.1-3b-a800m-instruct", 3298793472, 32 * 2 * 8 * 64, 131072},
    {"opt-6.7b", 6658473984, 32 * 2 * 32 * 128, 2048},
};

TEST(PublishedModels, HaveTheirParametersAndTheirCache) {
  for (const Published& p : kPublished) {
    const ModelSpec s = published(p.name);
    EXPECT_EQ(parameters_of(s), p.parameters) << p.name;
    EXPECT_EQ(cached_of(s), p.cached) << p.name;
    EXPECT_EQ(s.max_positions, p.max_positions) << p.name;
  }
}

TEST(PublishedModels, OthersAreRefusedByName) {
  EXPECT_ERROR(published("granite-4.0-h-tiny"), ErrorCode::unsupported, "GraniteMoeHybridForCausalLM");
}

}  // namespace
}  // namespace moegen
