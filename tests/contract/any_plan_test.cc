// Tokens and log-probabilities are the same bits whatever the plan and the order of the input.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "base/file.h"
#include "device/gpu.h"
#include "tests/spec/configs.h"
#include "tests/support/errors.h"
#include "tests/support/quantised_model.h"
#include "tests/support/run.h"
#include "tests/support/temp_dir.h"

namespace moegen::testing {
namespace {

using Answers = std::map<std::string, std::vector<uint32_t>>;

constexpr int kAll = 40;
const int kCount = std::string_view(MOEGEN_SANITIZE).empty() ? kAll : 16;  // sanitizers are slow, and races need no many requests

std::vector<Request> requests(int count = kCount) {
  std::mt19937 rng(3);
  std::vector<Request> out;
  for (int i = 0; i < count; ++i) {
    std::vector<TokenId> prompt;
    for (size_t n = std::vector<size_t>{1, 5, 30, 90, 150}[rng() % 5]; n > 0; --n) prompt.push_back(static_cast<TokenId>(5 + rng() % 260));
    Request r = greedy(fmt::format("r{}", i), prompt, 4 + i);
    r.sampling.logprobs = 2;
    if (i % 4 == 0) r.sampling.prompt_logprobs = 1;
    if (i % 3 == 1) {
      r.sampling.temperature = 0.9;
      r.sampling.top_p = 0.9;
      r.sampling.repetition_penalty = 1.1;
      if (i % 2 == 0) r.sampling.seed = static_cast<uint64_t>(i);
    }
    if (i % 5 == 2) r.sampling.n = 3;
    out.push_back(r);
  }
  return out;
}

uint32_t bits(float x) { return std::bit_cast<uint32_t>(x); }

// Everything that an answer says, as bits.
Answers run(const EngineOptions& options, std::vector<Request> list, Progress* progress = nullptr) {
  Engine engine(options);
  ListJob job(std::move(list));
  EXPECT_TRUE(engine.run(job, job));
  if (progress != nullptr) *progress = job.progress;
  Answers out;
  for (const auto& [id, completion] : job.answers) {
    EXPECT_FALSE(completion.error) << completion.error->message;
    auto& words = out[id];
    for (const Choice& c : completion.choices) {
      EXPECT_EQ(c.logprobs.size(), c.token_ids.size());
      for (const TokenId t : c.token_ids) words.push_back(static_cast<uint32_t>(t));
      for (const auto& l : c.logprobs) {
        words.push_back(bits(l.token.logprob));
        for (const auto& t : l.top) words.push_back(bits(t.logprob));
      }
    }
    for (const auto& l : completion.prompts.at(0).logprobs) words.push_back(l ? bits(l->token.logprob) : 0);
  }
  return out;
}

struct Change {
  std::string name;
  void (*apply)(EngineOptions&);
};

const std::vector<Change> kChanges{
    {"one thread", [](EngineOptions& o) { o.threads = 1; }},
    {"five threads", [](EngineOptions& o) { o.threads = 5; }},
    {"one sequence", [](EngineOptions& o) { o.max_num_seqs = 1; }},
    {"three sequences", [](EngineOptions& o) { o.max_num_seqs = 3; }},
    {"attention one by one", [](EngineOptions& o) { o.attention_micro_batch = 1; }},
    {"experts by three", [](EngineOptions& o) { o.expert_micro_batch = 3; }},
    {"passes of 24", [](EngineOptions& o) { o.max_pass_tokens = 24; }},
    {"passes of 1", [](EngineOptions& o) { o.max_pass_tokens = 1; }},
    {"few KV pages", [](EngineOptions& o) { o.kv_memory = 400 << 10; }},
    {"few KV pages, and a disk",
     [](EngineOptions& o) {
       o.kv_memory = 400 << 10;
       o.swap_folder = std::filesystem::temp_directory_path();
       o.swap_space = 1 << 30;
     }},
    {"few of everything",
     [](EngineOptions& o) {
       o.kv_memory = 500 << 10;
       o.max_pass_tokens = 37;
       o.threads = 3;
       o.expert_micro_batch = 7;
       o.attention_micro_batch = 2;
     }},
};

// The bytes that a refusal of too little names.
uint64_t number_in(const std::string& refusal, const char* option) {
  EXPECT_NE(refusal.find(option), std::string::npos) << refusal;
  return std::stoull(refusal.substr(refusal.find(" (") + 2));
}

// The least --weight-memory, as the refusal of less names it.
uint64_t least_weight_memory(EngineOptions options) {
  options.weight_memory = 1;
  return number_in(error_of([&] { const Engine engine(options); }).what(), "--weight-memory");
}

// Every golden checkpoint that is not of AnyPlanCoded.
std::vector<std::string> plain_models() {
  std::vector<std::string> out;
  for (const auto& entry : std::filesystem::directory_iterator(kModels)) {
    const auto config = nlohmann::json::parse(read_text_file(entry.path() / "config.json", 1 << 20));
    const auto quantisation = config.find("quantization_config");
    if (quantisation == config.end() || (*quantisation)["quant_method"] == "mxfp4") out.push_back(entry.path().filename());
  }
  std::sort(out.begin(), out.end());
  return out;
}

class AnyPlan : public ::testing::TestWithParam<std::tuple<std::string, std::string>> {};
INSTANTIATE_TEST_SUITE_P(Models, AnyPlan, ::testing::Combine(::testing::ValuesIn(plain_models()), ::testing::Values("bfloat16", "float32")),
                         [](const auto& p) { return std::get<0>(p.param) + "_" + std::get<1>(p.param); });

TEST_P(AnyPlan, SameBits) {
  const auto& [model, dtype] = GetParam();
  const bool wide = dtype == "float32" && (model == "opt" || model == "dots1");  // a sequence is more than the plans of few pages have
  EngineOptions options = ids_only(kModels / model);
  options.dtype = dtype;
  const Answers want = run(options, requests());
  for (const Change& change : kChanges) {
    EngineOptions changed = options;
    change.apply(changed);
    if (wide && changed.kv_memory) *changed.kv_memory *= 2;
    EXPECT_TRUE(run(changed, requests()) == want) << change.name;
  }
  auto reversed = requests();
  std::reverse(reversed.begin(), reversed.end());
  EXPECT_TRUE(run(options, reversed) == want) << "reversed input";
}

// Synchronous streaming, streaming ahead, little and more residency: all as if everything stayed in memory.
TEST_P(AnyPlan, SameBitsFromStorage) {
  EngineOptions options = ids_only(kModels / std::get<0>(GetParam()));
  options.dtype = std::get<1>(GetParam());
  const Answers want = run(options, requests());
  for (const auto& [more, slots, pass_tokens] :
       std::vector<std::tuple<uint64_t, int, int>>{{0, 0, 4096}, {0, 1, 4096}, {100'000, 0, 40}, {200'000, 3, 7}}) {
    options.weight_slots = slots > 0 ? std::optional<int64_t>(slots) : std::nullopt;
    options.weight_memory = least_weight_memory(options) + more;
    options.max_pass_tokens = pass_tokens;
    Progress progress;
    EXPECT_TRUE(run(options, requests(), &progress) == want) << more << " " << slots << " " << pass_tokens;
    const bool small = std::set<std::string>{"llama", "llama4_text", "mistral", "opt", "qwen3"}.contains(
        std::get<0>(GetParam()));  // a little more, and all of it stays
    EXPECT_TRUE((small && more > 0) || (progress.weight_bytes_read > 0 && progress.weight_read_seconds > 0));
  }
}

// On the GPU's kernels, in an emulation whose streams run in another order with every seed.
class AnyPlanOnGpu : public ::testing::TestWithParam<std::string> {
 protected:
  static std::vector<Request> some_requests() {
    std::vector<Request> list = requests();
    list.resize(6);
    return list;
  }
  static EngineOptions on_gpu(const std::string& model) {
    EngineOptions options = ids_only(kModels / model);
    options.device = find_gpus().gpus.empty() ? "emulated:1" : "cuda";
    options.max_model_len = 256;
    options.max_num_seqs = 64;  // pages for more, which a run on a device touches, take longer than the run
    return options;
  }
};
INSTANTIATE_TEST_SUITE_P(Models, AnyPlanOnGpu,
                         ::testing::Values("mixtral", "qwen2_moe", "mistral", "deepseek_v2", "gpt_oss_mxfp4", "opt", "phimoe", "llama4_text",
                                           "gemma4", "qwen3_next"),
                         [](const auto& p) { return p.param; });

TEST_P(AnyPlanOnGpu, SameBits) {
  const EngineOptions options = on_gpu(GetParam());
  const Answers want = run(options, some_requests());
  for (const Change& change : kChanges) {
    EngineOptions changed = options;
    change.apply(changed);
    changed.max_pass_tokens = changed.max_pass_tokens.value_or(4096) == 1 ? 2 : changed.max_pass_tokens;  // by one takes long
    EXPECT_TRUE(run(changed, some_requests()) == want) << change.name;
  }
}

// The least --device-memory, and a little more: experts stream, through rings of several sizes, in several orders of the streams.
TEST_P(AnyPlanOnGpu, SameBitsThroughSlots) {
  EngineOptions options = on_gpu(GetParam());
  const Answers want = run(options, some_requests());
  for (const auto& [more, slots, pass_tokens, seed] :
       std::vector<std::tuple<uint64_t, int, int, int>>{{0, 0, 300, 2}, {0, 1, 300, 3}, {100'000, 0, 40, 4}, {200'000, 3, 7, 5}}) {
    if (options.device != "cuda") options.device = fmt::format("emulated:{}", seed);
    options.max_pass_tokens = pass_tokens;
    options.weight_slots = slots > 0 ? std::optional<int64_t>(slots) : std::nullopt;
    options.device_memory = 1;
    options.device_memory = number_in(error_of([&] { const Engine engine(options); }).what(), "--device-memory") + more;
    EXPECT_TRUE(run(options, some_requests()) == want) << more << " " << slots << " " << pass_tokens;
  }
}

// Host memory has few of the experts that are not on the device: the others are read when they are wanted, into slots, and from there to the device.
TEST_P(AnyPlanOnGpu, SameBitsFromStorage) {
  EngineOptions options = on_gpu(GetParam());
  const Answers want = run(options, some_requests());
  for (const auto& [more, more_on_device, pass_tokens, seed] :
       std::vector<std::tuple<uint64_t, uint64_t, int, int>>{{0, 0, 300, 2}, {100'000, 0, 40, 3}, {0, 100'000, 7, 4}}) {
    if (options.device != "cuda") options.device = fmt::format("emulated:{}", seed);
    options.max_pass_tokens = pass_tokens;
    options.weight_memory.reset();
    options.device_memory = 1;
    options.device_memory = number_in(error_of([&] { const Engine engine(options); }).what(), "--device-memory") + more_on_device;
    options.weight_memory = 1;
    const std::string text = error_of([&] { const Engine engine(options); }).what();
    if (text.find("--device-memory") != std::string::npos) {  // a slot more
      options.device_memory = number_in(text, "--device-memory") + more_on_device;
    }
    options.weight_memory = least_weight_memory(options) + more;
    Progress progress;
    EXPECT_TRUE(run(options, some_requests(), &progress) == want) << more << " " << more_on_device << " " << pass_tokens;
    const bool small = GetParam() == "mistral" || GetParam() == "opt";  // a little more, and all of it stays
    EXPECT_TRUE((small && more + more_on_device > 0) || progress.weight_bytes_read > 0);
  }
}

// Where nothing but the best token is wanted the device chooses it.
TEST_P(AnyPlanOnGpu, GreedyTokensWithoutLogprobsAreThose) {
  const EngineOptions options = on_gpu(GetParam());
  std::vector<Request> list;
  for (int i = 0; i < 6; ++i)
    list.push_back(greedy(fmt::format("r{}", i), {static_cast<TokenId>(5 + i), 40, static_cast<TokenId>(90 + 7 * i)}, 5 + i));
  const auto tokens = [&] {
    Engine engine(options);
    ListJob job(list);
    EXPECT_TRUE(engine.run(job, job));
    std::map<std::string, std::vector<TokenId>> out;
    for (const auto& [id, completion] : job.answers) out[id] = completion.choices.at(0).token_ids;
    return out;
  };
  const auto have = tokens();
  for (Request& r : list) r.sampling.logprobs = 1;
  EXPECT_EQ(have, tokens());
}

// The tests above mean something only if the small plans do preempt.
TEST(AnyPlanSetting, FewPagesPreempt) {
  EngineOptions options = ids_only(kModels / "qwen3_moe");
  options.kv_memory = 400 << 10;
  Progress progress;
  const Answers want = run(options, requests(kAll), &progress);
  EXPECT_GT(progress.recomputed, 0);
  EXPECT_EQ(progress.recomputed, progress.preemptions);
  options.swap_folder = std::filesystem::temp_directory_path();
  options.swap_space = 1 << 30;
  Progress kept;
  EXPECT_TRUE(run(options, requests(kAll), &kept) == want);
  EXPECT_GT(kept.preemptions, 0);
  EXPECT_EQ(kept.recomputed, 0);
  EXPECT_LT(kept.prompt_tokens, progress.prompt_tokens);
  options.swap_space = 100 << 10;  // for none of them
  EXPECT_TRUE(run(options, requests(kAll), &kept) == want);
  EXPECT_EQ(kept.recomputed, kept.preemptions);
  options.swap_space = 1 << 30;
  options.swap_folder = "/no/such/folder";
  EXPECT_TRUE(run(options, requests(kAll), &kept) == want);
  EXPECT_EQ(kept.recomputed, kept.preemptions);
}

// What is FP8 in the files is computed with as if they had its expansion: in memory and from storage, in both precisions.
TEST(AnyPlanFp8, SameBitsAsTheExpansion) {
  const TempDir dir;
  auto config = qwen3_moe_config();
  config.update({{"hidden_size", 200}, {"head_dim", 48}, {"moe_intermediate_size", 136}, {"intermediate_size", 270}, {"num_experts", 8}});
  write_quantised_models(dir.path(), config);
  for (const std::string dtype : {"bfloat16", "float32"}) {
    EngineOptions options = ids_only(dir.path() / dtype);
    options.dtype = dtype;
    const Answers want = run(options, requests());
    options.model = dir.path() / "fp8";
    EXPECT_TRUE(run(options, requests()) == want) << dtype;
    options.weight_memory = least_weight_memory(options);
    options.max_pass_tokens = 40;
    Progress progress;
    EXPECT_TRUE(run(options, requests(), &progress) == want) << dtype << " from storage";
    EXPECT_GT(progress.weight_bytes_read, 0);
  }
}

// A checkpoint of a family with all experts in one tensor, written with a tensor for each.
void write_split(const std::filesystem::path& from, const std::filesystem::path& to) {
  std::filesystem::copy_file(from / "config.json", to / "config.json");
  const ModelSpec spec = load_spec(from);
  const Checkpoint checkpoint = Checkpoint::open(from);
  const Binding binding = bind(spec, checkpoint);
  const std::string file = read_text_file(from / "model.safetensors", 1 << 28);
  SafetensorsWriter out;
  for (const TensorSpec& t : tensor_table(spec, true)) {
    const bool half = t.expert >= 0 && t.role != Role::down;
    for (size_t i = 0; i < binding.table.size(); ++i) {
      const TensorSpec& own = binding.table[i];
      if (own.layer != t.layer || own.expert != t.expert || own.role != (half ? Role::gate_up : t.role)) continue;
      const size_t bytes = binding.tensors[i]->bytes / (half ? 2 : 1);
      out.add(t.name, binding.tensors[i]->dtype, t.file_shape,
              file.substr(binding.tensors[i]->offset + (t.role == Role::up && half ? bytes : 0), bytes));
    }
  }
  std::ofstream(to / "model.safetensors", std::ios::binary) << out.file();
}

TEST(AnyPlanSplit, ExpertsEachInTheirOwnTensorAreTheSameModel) {
  const TempDir dir;
  EngineOptions options = ids_only(kModels / "qwen3_5_moe");
  const Answers want = run(options, requests());
  write_split(options.model, dir.path());
  options.model = dir.path();
  EXPECT_TRUE(run(options, requests()) == want);
  options.weight_memory = least_weight_memory(options);
  EXPECT_TRUE(run(options, requests()) == want) << "from storage";
}

// Every format that is not tested above, its layers of attention included.
std::map<std::string, nlohmann::json> coded_formats() {
  const auto packed = [](int bits, int64_t group, bool symmetric) {
    return compressed_config("pack-quantized", int_weights(bits, group, symmetric));
  };
  auto mixed = packed(4, 32, true);
  mixed["config_groups"]["group_0"]["targets"] = {"re:.*experts.*"};
  mixed["config_groups"]["group_1"] = {{"targets", {"re:.*self_attn.*"}}, {"weights", int_weights(8, 0, true)}, {"format", "int-quantized"}};
  const nlohmann::json f8 = {{"num_bits", 8}, {"type", "float"}, {"symmetric", true}, {"strategy", "channel"}, {"dynamic", false}};
  const auto gptq = [](int bits, int64_t group, const char* format) -> nlohmann::json {
    return {{"quant_method", "gptq"}, {"bits", bits}, {"group_size", group}, {"desc_act", false}, {"sym", true}, {"checkpoint_format", format}};
  };
  return {{"int4_32", packed(4, 32, true)},
          {"int4_64_zeros", packed(4, 64, false)},
          {"int4_rows", packed(4, 0, true)},
          {"int8_64", packed(8, 64, true)},
          {"int8_rows_zeros", packed(8, 0, false)},
          {"bytes_rows", compressed_config("int-quantized", int_weights(8, 0, true))},
          {"bytes_32_zeros", compressed_config("naive-quantized", int_weights(8, 32, false))},
          {"f8_rows", compressed_config("float-quantized", f8)},
          {"mixed", mixed},
          {"gptq_4", gptq(4, 64, "gptq")},
          {"gptq_4_v2", gptq(4, 32, "gptq_v2")},
          {"gptq_8_rows", gptq(8, -1, "gptq")},
          {"awq", {{"quant_method", "awq"}, {"bits", 4}, {"group_size", 32}, {"zero_point", true}, {"version", "gemm"}}}};
}

class AnyPlanCoded : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Formats, AnyPlanCoded, ::testing::ValuesIn([] {
                           std::vector<std::string> names;
                           for (const auto& [name, config] : coded_formats()) names.push_back(name);
                           return names;
                         }()),
                         [](const auto& name) { return name.param; });

// What is coded in the files is computed with as if they had its expansion: in memory and from storage, in both precisions. Of latent attention
// what is taken apart by heads is itself expanded.
TEST_P(AnyPlanCoded, SameBitsAsTheExpansion) {
  auto qwen = qwen3_moe_config();
  qwen.update({{"hidden_size", 192}, {"moe_intermediate_size", 64}, {"intermediate_size", 128}, {"num_hidden_layers", 2}});
  auto deepseek = nlohmann::json::parse(read_text_file(kModels / "deepseek_v3" / "config.json", 1 << 20));
  deepseek.update({{"hidden_size", 128},
                   {"intermediate_size", 192},
                   {"moe_intermediate_size", 64},
                   {"q_lora_rank", 64},
                   {"kv_lora_rank", 64},
                   {"num_nextn_predict_layers", 0}});
  for (const nlohmann::json& config : {qwen, deepseek}) {
    const TempDir dir;
    const CodedModels models(dir.path(), config, coded_formats()[GetParam()]);
    for (const std::string dtype : {"bfloat16", "float32"}) {
      EngineOptions options = ids_only(dir.path() / dtype);
      options.dtype = dtype;
      const Answers want = run(options, requests());
      options.model = dir.path() / "coded";
      EXPECT_TRUE(run(options, requests()) == want) << dtype;
      options.weight_memory = least_weight_memory(options);
      options.max_pass_tokens = 40;
      Progress progress;
      EXPECT_TRUE(run(options, requests(), &progress) == want) << dtype << " from storage";
      EXPECT_GT(progress.weight_bytes_read, 0);
    }
  }
}

TEST(AnyPlanMxfp4, SameBitsAsTheExpansion) {
  const TempDir dir;
  write_mxfp4_models(dir.path(), gpt_oss_config());
  for (const std::string dtype : {"bfloat16", "float32"}) {
    for (const char* kv : {"auto", "int8"}) {
      EngineOptions options = ids_only(dir.path() / "bfloat16");
      options.dtype = dtype;
      options.kv_dtype = kv;
      const Answers want = run(options, requests());
      for (const char* model : {"mxfp4", "bfloat16"}) {
        options.model = dir.path() / model;
        options.weight_memory.reset();
        EXPECT_TRUE(run(options, requests()) == want) << dtype << kv;
        options.weight_memory = least_weight_memory(options);
        options.max_pass_tokens = 40;
        Progress progress;
        EXPECT_TRUE(run(options, requests(), &progress) == want) << dtype << kv << " from storage";
        EXPECT_GT(progress.weight_bytes_read, 0);
      }
    }
  }
}

}  // namespace
}  // namespace moegen::testing
