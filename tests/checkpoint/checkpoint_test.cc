#include "checkpoint/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/checkpoint/table_writer.h"
#include "tests/spec/configs.h"
#include "tests/support/errors.h"
#include "tests/support/temp_dir.h"

namespace moegen {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;

std::string shard(const std::vector<std::string>& names) {
  SafetensorsWriter w;
  for (const std::string& name : names) w.add(name, DType::bf16, {4});
  return w.file();
}

std::string index_of(const json& weight_map) { return json{{"metadata", {{"total_size", 1}}}, {"weight_map", weight_map}}.dump(); }

std::vector<std::string> names_in(const Checkpoint& checkpoint) {
  std::vector<std::string> out;
  for (const TensorInfo& t : checkpoint.tensors()) out.push_back(t.name);
  return out;
}

// A whole model as its table wants it; a test changes what the writer then writes.
SafetensorsWriter whole_model(const ModelSpec& spec) {
  SafetensorsWriter w;
  for (const TensorSpec& t : tensor_table(spec)) w.add(t.name, DType::bf16, t.shape);
  return w;
}

TEST(CheckpointOpen, ASingleFile) {
  const TempDir dir;
  dir.write("model.safetensors", shard({"a", "b"}));
  const Checkpoint c = Checkpoint::open(dir.path());
  EXPECT_THAT(names_in(c), ::testing::ElementsAre("a", "b"));
  EXPECT_NE(c.find("b"), nullptr);
  EXPECT_EQ(c.find("c"), nullptr);
}

TEST(CheckpointOpen, Shards) {
  const TempDir dir;
  dir.write("model-00001-of-00002.safetensors", shard({"a"}));
  dir.write("model-00002-of-00002.safetensors", shard({"b", "c"}));
  dir.write(
      "model.safetensors.index.json",
      index_of({{"a", "model-00001-of-00002.safetensors"}, {"b", "model-00002-of-00002.safetensors"}, {"c", "model-00002-of-00002.safetensors"}}));
  const Checkpoint c = Checkpoint::open(dir.path());
  EXPECT_EQ(c.files().size(), 2U);
  EXPECT_EQ(c.files()[c.find("c")->file_idx].path().filename(), "model-00002-of-00002.safetensors");
}

TEST(CheckpointOpen, TheSingleFileComesBeforeAnIndexAsInTransformers) {
  const TempDir dir;
  dir.write("model.safetensors", shard({"a"}));
  dir.write("model.safetensors.index.json", index_of({{"a", "model-00001-of-00099.safetensors"}}));
  EXPECT_THAT(names_in(Checkpoint::open(dir.path())), ::testing::ElementsAre("a"));
}

// As the cache of huggingface_hub lays it out: every file of a snapshot is a link to a blob named by its hash.
TEST(CheckpointOpen, LinksAsInTheHuggingFaceCache) {
  const TempDir dir;
  dir.write("blobs/1f3a", shard({"a"}));
  dir.write("blobs/77aa", shard({"b"}));
  dir.write("blobs/c0de", index_of({{"a", "model-00001-of-00002.safetensors"}, {"b", "model-00002-of-00002.safetensors"}}));
  dir.write("blobs/beef", mixtral_config().dump());
  const fs::path snapshot = dir.path() / "snapshots" / "0123456789abcdef";
  fs::create_directories(snapshot);
  fs::create_symlink("../../blobs/1f3a", snapshot / "model-00001-of-00002.safetensors");
  fs::create_symlink("../../blobs/77aa", snapshot / "model-00002-of-00002.safetensors");
  fs::create_symlink("../../blobs/c0de", snapshot / "model.safetensors.index.json");
  fs::create_symlink("../../blobs/beef", snapshot / "config.json");
  EXPECT_EQ(names_in(Checkpoint::open(snapshot)).size(), 2U);
  EXPECT_EQ(load_spec(snapshot).family, "mixtral");
  fs::create_directory_symlink(snapshot, dir.path() / "model");
  EXPECT_EQ(names_in(Checkpoint::open(dir.path() / "model")).size(), 2U);
}

TEST(CheckpointOpen, ALinkToNowhereOrToItselfIsAnError) {
  const TempDir dir;
  fs::create_symlink("blobs/gone", dir.path() / "model.safetensors");
  EXPECT_ERROR(Checkpoint::open(dir.path()), ErrorCode::not_found, "no weights");
  const TempDir loop;
  fs::create_symlink("model.safetensors", loop.path() / "model.safetensors");
  EXPECT_ERROR(Checkpoint::open(loop.path()), ErrorCode::not_found, "no weights");
  fs::create_symlink("generation_config.json", loop.path() / "generation_config.json");
  EXPECT_FALSE(load_generation_defaults(loop.path(), true).top_k);
}

TEST(CheckpointOpen, NoDirectory) {
  const TempDir dir;
  EXPECT_ERROR(Checkpoint::open(dir.path() / "none"), ErrorCode::not_found, "no such directory");
  EXPECT_ERROR(load_spec(dir.path() / "none"), ErrorCode::not_found, "no such directory");
  EXPECT_ERROR(Checkpoint::open(dir.write("file", "x")), ErrorCode::not_found, "no such directory");
  EXPECT_ERROR(load_spec(dir.path()), ErrorCode::not_found, "config.json");
}

TEST(CheckpointOpen, AnIndexThatNamesFilesElsewhereIsRefused) {
  const TempDir outside;
  outside.write("x.safetensors", shard({"a"}));
  const std::string absolute = (outside.path() / "x.safetensors").string();
  for (const std::string& name :
       {std::string("../x.safetensors"), std::string("/etc/passwd"), absolute, std::string("sub/x.safetensors"), std::string("."), std::string(".."),
        std::string(""), std::string("..safetensors"), std::string(".hidden.safetensors"), std::string("x.safetensors\0.bin", 18),
        std::string("x\0.safetensors", 14), std::string("pytorch_model.bin"), std::string(300, 'x') + ".safetensors"}) {
    const TempDir dir;
    dir.write("model.safetensors.index.json", index_of({{"a", name}}));
    EXPECT_ERROR(Checkpoint::open(dir.path()), ErrorCode::corrupt, "expected the plain name of a .safetensors file");
  }
}

TEST(CheckpointOpen, AnIndexOfTheWrongForm) {
  for (const std::string& text :
       {std::string("{}"), std::string("[]"), std::string(R"({"weight_map":[]})"), std::string(R"({"weight_map":null})"),
        std::string(R"({"weight_map":{"a":1}})"), std::string("{"), std::string(R"({"weight_map":{"a":"x.safetensors","a":"y.safetensors"}})")}) {
    const TempDir dir;
    dir.write("model.safetensors.index.json", text);
    EXPECT_ERROR(Checkpoint::open(dir.path()), ErrorCode::corrupt, "model.safetensors.index.json");
  }
}

TEST(CheckpointOpen, AMissingShardIsNamed) {
  const TempDir dir;
  dir.write("x.safetensors", shard({"a"}));
  dir.write("model.safetensors.index.json", index_of({{"a", "x.safetensors"}, {"b", "y.safetensors"}}));
  EXPECT_ERROR(Checkpoint::open(dir.path()), ErrorCode::not_found, "y.safetensors");
}

TEST(CheckpointOpen, ATensorInTwoShardsIsRefused) {
  const TempDir dir;
  dir.write("x.safetensors", shard({"a", "twice"}));
  dir.write("y.safetensors", shard({"b", "twice"}));
  dir.write("model.safetensors.index.json", index_of({{"a", "x.safetensors"}, {"b", "y.safetensors"}}));
  EXPECT_ERROR(Checkpoint::open(dir.path()), ErrorCode::corrupt, "tensor twice is also in");
}

TEST(CheckpointOpen, AnIndexThatDisagreesWithItsShardsIsRefused) {
  const TempDir dir;
  dir.write("x.safetensors", shard({"a"}));
  dir.write("y.safetensors", shard({"b"}));
  dir.write("model.safetensors.index.json", index_of({{"a", "y.safetensors"}, {"b", "x.safetensors"}}));
  EXPECT_ERROR(Checkpoint::open(dir.path()), ErrorCode::corrupt, "tensor a should be in y.safetensors, but is not");
  dir.write("model.safetensors.index.json", index_of({{"a", "x.safetensors"}, {"ghost", "y.safetensors"}}));
  EXPECT_ERROR(Checkpoint::open(dir.path()), ErrorCode::corrupt, "tensor ghost should be in");
}

TEST(CheckpointOpen, PicklesAreRefusedByName) {
  for (const char* name : {"pytorch_model.bin", "consolidated.00.pth", "model.pt", "model.ckpt", "weights.pkl"}) {
    const TempDir dir;
    dir.write(name, "\x80\x02.");
    EXPECT_ERROR(Checkpoint::open(dir.path()), ErrorCode::not_found, std::string(name) + " is a pickle file");
  }
  const TempDir both;
  both.write("pytorch_model.bin", "\x80\x02.");
  both.write("model.safetensors", shard({"a"}));
  EXPECT_NO_THROW(Checkpoint::open(both.path())) << "beside safetensors it is not looked at";
}

TEST(CheckpointOpen, GgufIsRefusedByName) {
  const TempDir dir;
  dir.write("model-Q4_K_M.gguf", "GGUF");
  EXPECT_ERROR(Checkpoint::open(dir.path()), ErrorCode::not_found, "model-Q4_K_M.gguf is a GGUF file");
}

TEST(Bind, AWholeModelFits) {
  const TempDir dir;
  dir.write("config.json", qwen2_moe_config().dump());
  const ModelSpec spec = load_spec(dir.path());
  dir.write("model.safetensors", whole_model(spec).file());
  const Checkpoint checkpoint = Checkpoint::open(dir.path());
  const Binding binding = bind(spec, checkpoint);
  EXPECT_TRUE(binding.fits());
  EXPECT_NO_THROW(check_fits(binding, dir.path()));
  for (size_t i = 0; i < binding.table.size(); ++i) ASSERT_EQ(binding.tensors[i]->name, binding.table[i].name);
}

TEST(Bind, EveryGoldenModelFits) {
  for (const char* name : {"llama", "mistral", "mixtral", "olmoe", "qwen2_moe", "qwen3", "qwen3_moe"}) {
    const fs::path dir = fs::path(MOEGEN_SOURCE_DIR) / "tests/data/models" / name;
    const ModelSpec spec = load_spec(dir);
    EXPECT_EQ(spec.family, name);
    const Checkpoint checkpoint = Checkpoint::open(dir);
    EXPECT_NO_THROW(check_fits(bind(spec, checkpoint), dir));
    EXPECT_FALSE(load_generation_defaults(dir, true).eos_ids.empty());
  }
}

TEST(Bind, AllThatIsWrongIsInOneMessage) {
  const TempDir dir;
  dir.write("config.json", llama_config().dump());
  const ModelSpec spec = load_spec(dir.path());
  SafetensorsWriter w;
  for (const TensorSpec& t : tensor_table(spec)) {
    if (t.name == "model.norm.weight" || t.name == "model.layers.1.mlp.up_proj.weight") continue;
    const bool turned = t.name == "model.layers.0.mlp.down_proj.weight";
    const bool integers = t.name == "lm_head.weight";
    w.add(t.name, integers ? DType::i8 : DType::f32, turned ? std::vector<int64_t>{t.shape[1], t.shape[0]} : t.shape);
  }
  w.add("model.layers.3.input_layernorm.weight", DType::bf16, {64});
  w.add("model.layers.0.self_attn.q_proj.bias", DType::bf16, {64});
  w.add("model.layers.0.self_attn.rotary_emb.inv_freq", DType::f32, {8});
  w.add("model.layers.0.mlp.shared_experts.up_proj.weight", DType::f32, {0, 64});
  dir.write("model.safetensors", w.file());
  const Checkpoint checkpoint = Checkpoint::open(dir.path());
  const Binding binding = bind(spec, checkpoint);
  const std::string text = error_of([&] { check_fits(binding, dir.path()); }).what();
  EXPECT_THAT(text, HasSubstr("2 missing:"));
  EXPECT_THAT(text, HasSubstr("model.norm.weight [64]"));
  EXPECT_THAT(text, HasSubstr("model.layers.1.mlp.up_proj.weight [96,64]"));
  EXPECT_THAT(text, HasSubstr("2 superfluous:"));
  EXPECT_THAT(text, HasSubstr("model.layers.3.input_layernorm.weight"));
  EXPECT_THAT(text, HasSubstr("model.layers.0.self_attn.q_proj.bias"));
  EXPECT_THAT(text, HasSubstr("2 of the wrong shape or type:"));
  EXPECT_THAT(text, HasSubstr("model.layers.0.mlp.down_proj.weight: expected [64,96], found [96,64]"));
  EXPECT_THAT(text, HasSubstr("lm_head.weight: dtype I8"));
  EXPECT_THAT(text, ::testing::Not(HasSubstr("inv_freq")));
  EXPECT_EQ(binding.skipped.size(), 2U) << "and a shared expert of no width";
}

json fp8_config(json config) {
  config["quantization_config"] = {{"quant_method", "fp8"}, {"weight_block_size", {128, 128}}};
  return config;
}

// One line for a tensor, however many experts are slices of it.
TEST(Bind, SlicesThatDoNotFitAreNamedOnce) {
  const TempDir dir;
  dir.write("config.json", mxfp4_config(gpt_oss_config()).dump());
  const ModelSpec spec = load_spec(dir.path());
  SafetensorsWriter w;
  for (TensorSpec t : tensor_table(spec)) {
    const std::string_view name = std::string_view(t.name).substr(t.name.rfind('.') + 1);
    if (t.layer == 0 && name == "down_proj_blocks") continue;
    if (t.layer == 0 && name == "down_proj_scales") t.file_shape[0] -= 1;
    if (t.layer == 0 && name == "gate_up_proj_bias") t.file_shape = {t.file_shape[0], 2, t.file_shape[1] / 2};
    if (t.layer == 0 && name == "gate_up_proj_blocks") t.file_dtype = {};
    add_tensor(w, t, DType::bf16);
  }
  dir.write("model.safetensors", w.file());
  const Checkpoint checkpoint = Checkpoint::open(dir.path());
  const Binding binding = bind(spec, checkpoint);
  const std::string layer = "model.layers.0.mlp.experts.";
  EXPECT_THAT(binding.missing, ::testing::ElementsAre(layer + "down_proj_blocks [6,64,3,16]"));
  EXPECT_THAT(binding.misshapen,
              ::testing::UnorderedElementsAre(layer + "down_proj_scales: expected [6,64,3], found [5,64,3]",
                                              layer + "gate_up_proj_bias: expected [6,192], found [6,2,96]",
                                              layer + "gate_up_proj_blocks: dtype BF16, expected U8, as quantization_config has it"));
  EXPECT_TRUE(binding.superfluous.empty());
}

TEST(Bind, QuantisedTensorsHaveTheirScales) {
  const TempDir dir;
  auto config = fp8_config(llama_config());
  config["intermediate_size"] = 130;
  dir.write("config.json", config.dump());
  const ModelSpec spec = load_spec(dir.path());
  SafetensorsWriter w;
  for (const TensorSpec& t : tensor_table(spec)) {
    const bool quantised = t.quantised && t.role != Role::o;  // what is quantised, the files decide
    w.add(t.name, quantised ? DType::f8_e4m3 : DType::bf16, t.shape);
    if (quantised) w.add(t.name + "_scale_inv", DType::f32, {(t.shape[0] + 127) / 128, (t.shape[1] + 127) / 128});
  }
  dir.write("model.safetensors", w.file());
  const Checkpoint checkpoint = Checkpoint::open(dir.path());
  const Binding binding = bind(spec, checkpoint);
  EXPECT_NO_THROW(check_fits(binding, dir.path()));
  for (size_t i = 0; i < binding.table.size(); ++i) {
    const bool quantised = binding.tensors[i]->dtype == DType::f8_e4m3;
    ASSERT_EQ(binding.scales[i] != nullptr, quantised);
    ASSERT_TRUE(!quantised || binding.scales[i]->name == binding.table[i].name + "_scale_inv");
  }
}

TEST(Bind, WrongScalesAreNamed) {
  const TempDir dir;
  dir.write("config.json", fp8_config(llama_config()).dump());
  const ModelSpec spec = load_spec(dir.path());
  SafetensorsWriter w;
  for (const TensorSpec& t : tensor_table(spec)) {
    if (t.layer != 0 || !t.quantised) {
      w.add(t.name, t.role == Role::lm_head || t.role == Role::embedding ? DType::f8_e4m3 : DType::bf16, t.shape);
      if (t.layer == 1 && t.role == Role::q) w.add(t.name + "_scale_inv", DType::f32, {1, 1});
      continue;
    }
    w.add(t.name, DType::f8_e4m3, t.shape);
    if (t.role == Role::q) continue;
    w.add(t.name + "_scale_inv", t.role == Role::k ? DType::i32 : DType::f32,
          t.role == Role::up ? std::vector<int64_t>{1, 2} : std::vector<int64_t>{1, 1});
  }
  dir.write("model.safetensors", w.file());
  const Checkpoint checkpoint = Checkpoint::open(dir.path());
  const std::string text = error_of([&] { check_fits(bind(spec, checkpoint), dir.path()); }).what();
  const std::string layer = "model.layers.0.";
  EXPECT_THAT(text,
              HasSubstr(layer + "self_attn.q_proj.weight_scale_inv [1,1], the scales of " + layer + "self_attn.q_proj.weight, which is F8_E4M3"));
  EXPECT_THAT(text, HasSubstr(layer + "self_attn.k_proj.weight_scale_inv: dtype I32"));
  EXPECT_THAT(text, HasSubstr(layer + "mlp.up_proj.weight_scale_inv: expected [1,1], found [1,2]"));
  EXPECT_THAT(text, HasSubstr("lm_head.weight_scale_inv [3,1], the scales of lm_head.weight"));
  EXPECT_THAT(text, HasSubstr("model.embed_tokens.weight: dtype F8_E4M3, but config.json has no quantization_config that says so of it"));
  EXPECT_THAT(text, HasSubstr("1 superfluous:\n  model.layers.1.self_attn.q_proj.weight_scale_inv"));
}

TEST(Bind, AnotherHeadThanTheEmbeddingIsNotPassedOver) {
  const TempDir dir;
  json config = llama_config();
  config["tie_word_embeddings"] = true;
  dir.write("config.json", config.dump());
  const ModelSpec spec = load_spec(dir.path());
  for (const bool same : {true, false}) {
    SafetensorsWriter w = whole_model(spec);
    std::string head = SafetensorsWriter::pattern("model.embed_tokens.weight", 320 * 64 * 2);
    if (!same) head.back() = static_cast<char>(head.back() ^ 1);
    w.add("lm_head.weight", DType::bf16, {320, 64}, head);
    dir.write("model.safetensors", w.file());
    const Checkpoint checkpoint = Checkpoint::open(dir.path());
    const Binding binding = bind(spec, checkpoint);
    EXPECT_EQ(binding.fits(), same);
    EXPECT_EQ(binding.skipped.size(), same ? 1U : 0U);
    if (!same) {
      EXPECT_THAT(binding.superfluous.at(0), HasSubstr("tie_word_embeddings"));
    }
  }
}

TEST(Bind, CodesThatConfigDoesNotMentionAreSaidToBeSome) {
  const TempDir dir;
  dir.write("config.json", llama_config().dump());
  dir.write("quantize_config.json", R"({"bits": 4})");
  const ModelSpec spec = load_spec(dir.path());
  SafetensorsWriter w;
  w.add("model.layers.0.self_attn.q_proj.qweight", DType::i32, {8, 64});
  dir.write("model.safetensors", w.file());
  const Checkpoint checkpoint = Checkpoint::open(dir.path());
  const std::string text = error_of([&] { check_fits(bind(spec, checkpoint), dir.path()); }).what();
  EXPECT_THAT(text, HasSubstr("quantised in a way that config.json does not say"));
  EXPECT_THAT(text, HasSubstr("quantize_config.json is not read"));
}

TEST(Bind, AThousandFaultsAreCountedButNotAllListed) {
  const TempDir dir;
  dir.write("config.json", mixtral_config().dump());
  const ModelSpec spec = load_spec(dir.path());
  SafetensorsWriter w;
  for (int i = 0; i < 1000; ++i) w.add("junk." + std::to_string(i), DType::u8, {1});
  dir.write("model.safetensors", w.file());
  const Checkpoint checkpoint = Checkpoint::open(dir.path());
  const std::string text = error_of([&] { check_fits(bind(spec, checkpoint), dir.path()); }).what();
  EXPECT_THAT(text, HasSubstr("1000 superfluous:"));
  EXPECT_THAT(text, HasSubstr("and 800 more"));
  EXPECT_LT(text.size(), 60000U);
}

TEST(GenerationDefaults, EosAsAnIntegerOrAListAndTheSamplingDefaults) {
  const TempDir dir;
  EXPECT_TRUE(load_generation_defaults(dir.path(), true).eos_ids.empty()) << "no file: nothing";
  dir.write("generation_config.json",
            R"({"eos_token_id": 5, "temperature": 0.6, "top_p": 0.95, "top_k": 20, "do_sample": true, "repetition_penalty": 1.05})");
  const GenerationDefaults one = load_generation_defaults(dir.path(), true);
  EXPECT_EQ(one.eos_ids, (std::vector<int32_t>{5}));
  EXPECT_EQ(one.temperature, 0.6);
  EXPECT_EQ(one.top_p, 0.95);
  EXPECT_EQ(one.top_k, 20);
  EXPECT_EQ(one.repetition_penalty, 1.05);
  EXPECT_FALSE(one.min_p);
  dir.write("generation_config.json", R"({"eos_token_id": [5, 6], "temperature": null, "top_k": 50.0, "max_new_tokens": 2048, "min_p": 0.1})");
  const GenerationDefaults list = load_generation_defaults(dir.path(), true);
  EXPECT_EQ(list.eos_ids, (std::vector<int32_t>{5, 6}));
  EXPECT_FALSE(list.temperature);
  EXPECT_EQ(list.top_k, 50);
  EXPECT_EQ(list.max_new_tokens, 2048);
  EXPECT_EQ(list.min_p, 0.1);
}

TEST(GenerationDefaults, NonsenseIsRefusedWithItsField) {
  for (const char* text : {R"({"eos_token_id": "</s>"})", R"({"eos_token_id": [1, -2]})", R"({"temperature": -1})", R"({"top_p": 1.5})",
                           R"({"top_k": 1.5})", R"({"repetition_penalty": 0})", R"({"max_new_tokens": 0})", R"([])", R"({"eos_token_id":)"}) {
    const TempDir dir;
    dir.write("generation_config.json", text);
    EXPECT_ERROR(load_generation_defaults(dir.path(), true), ErrorCode::corrupt, "generation_config.json");
  }
}

json gptq_config() {
  json config = llama_config();
  config["quantization_config"] = {{"quant_method", "gptq"}, {"bits", 4}, {"group_size", 32}};
  return config;
}

// What does not fit what config.json says of codes, scales, zero points and groups is named.
TEST(Bind, CodesThatDoNotFitAreNamed) {
  const TempDir dir;
  dir.write("config.json", gptq_config().dump());
  const ModelSpec spec = load_spec(dir.path());
  SafetensorsWriter w;
  const std::string layer = "model.layers.0.self_attn.";
  for (const TensorSpec& t : tensor_table(spec)) {
    const DType dtype = t.file_dtype.value_or(t.quantised.value_or(DType::bf16));
    std::vector<int64_t> shape = t.file_shape;
    if (t.name == layer + "q_proj.scales" || t.name == layer + "k_proj.qzeros") continue;
    if (t.name == layer + "v_proj.qweight") shape[0] *= 2;
    if (t.name == layer + "v_proj.qzeros") shape = {shape[1], shape[0]};
    w.add(t.name, t.name == layer + "o_proj.qweight" ? DType::u8 : t.name == layer + "o_proj.scales" ? DType::i16 : dtype, shape);
  }
  w.add(layer + "q_proj.g_idx", DType::i32, {63});
  w.add(layer + "k_proj.g_idx", DType::i64, {64});
  dir.write("model.safetensors", w.file());
  const Checkpoint checkpoint = Checkpoint::open(dir.path());
  const Binding binding = bind(spec, checkpoint);
  EXPECT_THAT(binding.missing, ::testing::UnorderedElementsAre(layer + "q_proj.scales [2,64]", layer + "k_proj.qzeros [2,4]"));
  EXPECT_THAT(binding.misshapen, ::testing::UnorderedElementsAre(layer + "v_proj.qweight: expected [8,32], found [16,32]",
                                                                 layer + "v_proj.qzeros: expected [2,4], found [4,2]",
                                                                 layer + "o_proj.qweight: dtype U8, expected I32, as quantization_config has it",
                                                                 layer + "o_proj.scales: dtype I16 is not supported here (BF16, F16, F32 are)",
                                                                 layer + "q_proj.g_idx: expected I32 [64], found I32 [63]",
                                                                 layer + "k_proj.g_idx: expected I32 [64], found I64 [64]"));
  EXPECT_TRUE(binding.superfluous.empty());
}

TEST(Bind, GroupsOfInputsThatAreNoNeighboursAreRefused) {
  ThreadPool pool(2);
  for (const int32_t changed : {0, 1}) {
    const TempDir dir;
    dir.write("config.json", gptq_config().dump());
    const ModelSpec spec = load_spec(dir.path());
    SafetensorsWriter w;
    for (const TensorSpec& t : tensor_table(spec)) {
      w.add(t.name, t.file_dtype.value_or(t.quantised.value_or(DType::bf16)), t.file_shape);
      if (!t.order_beside) continue;
      std::string order;
      for (int32_t i = 0; i < t.shape[1]; ++i) {
        const int32_t group = i / 32 ^ (t.layer == 1 && t.role == Role::o && i == 40 ? changed : 0);
        order.append(reinterpret_cast<const char*>(&group), sizeof(group));
      }
      w.add(t.name.substr(0, t.name.rfind('.')) + ".g_idx", DType::i32, {t.shape[1]}, order);
    }
    dir.write("model.safetensors", w.file());
    const Checkpoint checkpoint = Checkpoint::open(dir.path());
    const Binding binding = bind(spec, checkpoint);
    EXPECT_NO_THROW(check_fits(binding, dir.path()));
    if (changed == 0) {
      EXPECT_NO_THROW(check_orders(binding, checkpoint, pool));
    } else {
      EXPECT_ERROR(check_orders(binding, checkpoint, pool), ErrorCode::unsupported, "model.layers.1.self_attn.o_proj.g_idx: input 40 is in group 0");
    }
  }
}

TEST(Bind, ABiasOfZerosBesideCodesIsSkipped) {
  const TempDir dir;
  dir.write("config.json", gptq_config().dump());
  const ModelSpec spec = load_spec(dir.path());
  const std::string layer = "model.layers.0.self_attn.";
  SafetensorsWriter w;
  for (const TensorSpec& t : tensor_table(spec)) w.add(t.name, t.file_dtype.value_or(t.quantised.value_or(DType::bf16)), t.file_shape);
  w.add(layer + "q_proj.bias", DType::f16, {64}, std::string(128, '\0'));
  w.add(layer + "k_proj.bias", DType::f16, {64}, std::string(127, '\0') + '\1');
  w.add("model.norm.bias", DType::f16, {64}, std::string(128, '\0'));  // of no codes
  dir.write("model.safetensors", w.file());
  const Binding binding = bind(spec, Checkpoint::open(dir.path()));
  ASSERT_EQ(binding.skipped.size(), 1U);
  EXPECT_EQ(binding.skipped[0].first, layer + "q_proj.bias");
  EXPECT_THAT(binding.superfluous, ::testing::UnorderedElementsAre(layer + "k_proj.bias", "model.norm.bias"));
}

}  // namespace
}  // namespace moegen
