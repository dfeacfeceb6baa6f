#include "pipeline/executor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>
#include <numeric>

#include "checkpoint/weight_store.h"
#include "tests/checkpoint/safetensors_writer.h"
#include "tests/spec/configs.h"
#include "tests/support/temp_dir.h"

namespace {

// Counts every allocation of this program while it is on.
std::atomic<bool> counting{false};
std::atomic<int> allocations{0};

void* counted(std::size_t bytes) {
  if (counting) ++allocations;
  void* p = std::malloc(bytes == 0 ? 1 : bytes);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}

}  // namespace

void* operator new(std::size_t bytes) { return counted(bytes); }
void* operator new[](std::size_t bytes) { return counted(bytes); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }

namespace moegen {
namespace {

ModelSpec small_spec() {
  ModelSpec s;
  s.family = "qwen2_moe";
  s.hidden = 48;
  s.vocab = 100;
  s.norm_eps = 1e-6F;
  s.max_positions = 512;
  LayerSpec layer;
  layer.attention.num_heads = 4;
  layer.attention.num_kv_heads = 2;
  layer.attention.head_dim = 16;
  layer.attention.scale = 0.25F;
  layer.attention.qkv_bias = true;
  layer.attention.rope.dim = 16;
  layer.mlp.width = 40;
  s.layers.push_back(layer);  // dense
  layer.mlp.num_experts = 6;
  layer.mlp.top_k = 2;
  layer.mlp.shared_width = 24;
  s.layers.push_back(layer);
  return s;
}

// Latent attention: queries from a latent or not, an odd width of keys.
ModelSpec latent_spec() {
  ModelSpec s = small_spec();
  s.family = "deepseek_v3";
  for (LayerSpec& layer : s.layers) {
    AttentionSpec& a = layer.attention;
    a.latent = {20, 24, 9, 6, 14};
    a.num_kv_heads = 1;
    a.head_dim = 30;
    a.qkv_bias = false;
    a.rope.dim = 6;
    a.scale = 0.4F;
  }
  s.layers[0].attention.latent.q_rank = 0;
  return s;
}

class Nothing : public LogitsConsumer {
 public:
  void take(int64_t, std::span<LogitRow> some) override {
    rows += static_cast<int64_t>(some.size());
    last = some[0].logits[0];
  }
  int64_t rows = 0;
  float last = 0;
};

class All : public LogitsConsumer {
 public:
  void take(int64_t, std::span<LogitRow> rows) override {
    for (const LogitRow& row : rows) logits.insert(logits.end(), row.logits, row.logits + 100);
  }
  std::vector<float> logits;
};

// Two passes over two sequences; the allocations they made, on any thread.
int run_counted(Executor& executor) {
  std::vector<int32_t> tokens(40);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(i);
  const std::vector<int32_t> first_pages{3, 0};
  const std::vector<int32_t> second_pages{1};
  const std::vector<PassSequence> sequences{{0, 35, 0, first_pages.data(), 33}, {35, 5, 0, second_pages.data(), 5}};
  const std::vector<int32_t> rows{34, 39};
  Nothing consumer;
  const Pass pass{tokens, sequences, rows};
  counting = true;
  executor.run(pass, consumer);
  executor.run(pass, consumer);
  counting = false;
  EXPECT_EQ(consumer.rows, 4);
  EXPECT_TRUE(consumer.last == consumer.last && consumer.last != 0);
  return allocations.exchange(0);
}

int64_t elements(const TensorSpec& t) {
  int64_t n = 1;
  for (const int64_t dim : t.shape) n *= dim;
  return n;
}

// A model with weights that all stay.
class ExecutorTest : public ::testing::Test {
 protected:
  explicit ExecutorTest(const ModelSpec& spec = small_spec()) : spec_(spec) {
    input_.spec = &spec_;
    input_.host_memory = 256 << 20;
    input_.threads = 2;
  }

  Executor executor(const Plan& plan) { return {spec_, weights_, nullptr, select_kernels("auto"), pool_, plan, DType::bf16}; }

  const ModelSpec spec_;
  ThreadPool pool_{2};
  const std::vector<TensorSpec> table_ = tensor_table(spec_);
  const WeightStore store_{table_, DType::bf16, DType::bf16, pool_};
  const ModelWeights weights_ = assign_weights(spec_, table_, store_.views());
  PlanInput input_;
};

TEST_F(ExecutorTest, APassAllocatesNothing) {
  input_.max_pass_tokens = 64;
  input_.expert_micro_batch = 5;
  Executor executor = this->executor(make_plan(input_));
  EXPECT_EQ(run_counted(executor), 0);
}

// Prompts cut anywhere, also within a page, and single tokens at the end.
TEST_F(ExecutorTest, WavesOfAttentionGiveTheSameBits) {
  input_.max_pass_tokens = 160;
  Plan plan = make_plan(input_);
  std::vector<int32_t> tokens(150);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(i * 7 % 100);
  const std::vector<std::vector<int32_t>> pages{{3, 0, 5}, {1}, {2, 4, 7}, {6}, {8}};
  const std::vector<PassSequence> prompts{{0, 70, 0, pages[0].data()},
                                          {70, 3, 0, pages[1].data()},
                                          {73, 75, 0, pages[2].data()},
                                          {148, 1, 0, pages[3].data()},
                                          {149, 1, 0, pages[4].data()}};
  std::vector<int32_t> rows(tokens.size());
  std::iota(rows.begin(), rows.end(), 0);
  const auto logits = [&](int64_t wave_tokens, int64_t sequences) {
    plan.sizes.wave_tokens = wave_tokens;
    plan.sizes.attention_micro_batch = sequences;
    Executor executor = this->executor(plan);
    All all;
    executor.run({tokens, prompts, rows}, all);
    const std::vector<PassSequence> next{{0, 1, 70, pages[0].data()}, {1, 2, 3, pages[1].data()}, {3, 4, 75, pages[2].data()}};
    executor.run({std::span(tokens).first(7), next, std::span(rows).first(7)}, all);
    return all.logits;
  };
  const auto want = logits(160, 1024);
  EXPECT_EQ(want.size(), 157U * 100);
  for (const int64_t wave : {1, 2, 31, 32, 33, 71, 149, 150}) {
    for (const int64_t sequences : {1, 2, 1024}) EXPECT_EQ(logits(wave, sequences), want) << wave << " " << sequences;
  }
}

// A sequence that was preempted brings its answer's tokens behind its prompt's, in the same page: one of a pair of values.
TEST_F(ExecutorTest, WhereAPromptEndsChangesNoBits) {
  input_.max_pass_tokens = 256;
  const Plan plan = make_plan(input_);
  std::vector<int32_t> tokens(256);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(i * 7 % 100);
  std::vector<int32_t> rows(tokens.size());
  std::iota(rows.begin(), rows.end(), 0);
  const std::vector<int32_t> pages{0, 1, 2, 3, 4, 5, 6, 7};
  Executor executor = this->executor(plan);
  const auto logits = [&](int64_t prompt_len) {
    std::vector<PassSequence> sequences;
    for (int32_t i = 0; i < 8; ++i) sequences.push_back({32 * i, 32, 0, &pages[static_cast<size_t>(i)], prompt_len});
    All all;
    executor.run({tokens, sequences, rows}, all);
    return all.logits;
  };
  const auto want = logits(32);
  for (int i = 0; i < 60; ++i) EXPECT_EQ(logits(1 + i % 30), want) << i;
}

class LatentExecutorTest : public ExecutorTest {
 protected:
  LatentExecutorTest() : ExecutorTest(latent_spec()) { input_.max_pass_tokens = 400; }

  // Logits of all tokens, [vocab] each: those of the sequences in turn, which come in chunks, of sequence i of at most chunks[i], in passes
  // together. The first prompt_len[i] tokens of a sequence are its prompt.
  std::vector<float> logits(const Plan& plan, const std::vector<int32_t>& lengths, const std::vector<int64_t>& prompt_len,
                            const std::vector<int32_t>& chunks) {
    Executor executor = this->executor(plan);
    std::vector<std::vector<int32_t>> pages(lengths.size());
    std::vector<std::vector<float>> found(lengths.size());
    std::vector<int32_t> done(lengths.size());
    int32_t page = 0;
    for (size_t i = 0; i < lengths.size(); ++i) {
      for (int32_t at = 0; at < lengths[i]; at += kPageTokens) pages[i].push_back(page++);
      std::reverse(pages[i].begin(), pages[i].end());
    }
    for (;;) {
      std::vector<int32_t> tokens;
      std::vector<PassSequence> parts;
      std::vector<size_t> which;
      for (size_t i = 0; i < lengths.size(); ++i) {
        const int32_t count = std::min(chunks[i], lengths[i] - done[i]);
        if (count == 0) continue;
        parts.push_back({static_cast<int32_t>(tokens.size()), count, done[i], pages[i].data(), prompt_len[i]});
        which.push_back(i);
        for (int32_t t = done[i]; t < done[i] + count; ++t) tokens.push_back((t * 7 + static_cast<int32_t>(i) * 31) % 100);
        done[i] += count;
      }
      if (parts.empty()) break;
      std::vector<int32_t> rows(tokens.size());
      std::iota(rows.begin(), rows.end(), 0);
      All all;
      executor.run({tokens, parts, rows}, all);
      for (size_t p = 0; p < parts.size(); ++p) {
        const auto* from = all.logits.data() + parts[p].first_row * 100;
        found[which[p]].insert(found[which[p]].end(), from, from + parts[p].num_tokens * 100);
      }
    }
    std::vector<float> out;
    for (const auto& f : found) out.insert(out.end(), f.begin(), f.end());
    return out;
  }
};

// Short prompts share a range of pages, a long one goes through several; generated tokens follow, one by one or recomputed at once.
TEST_F(LatentExecutorTest, ChunksWavesAndRecomputationGiveTheSameBits) {
  Plan plan = make_plan(input_);
  const std::vector<int32_t> lengths{3, 200, 40, 1, 70, 20, 33};
  const std::vector<int64_t> prompts{2, 170, 39, 1, 64, 20, 5};
  const auto want = logits(plan, lengths, prompts, lengths);
  EXPECT_EQ(want.size(), 367U * 100);
  EXPECT_EQ(logits(plan, lengths, prompts, {1, 1, 1, 1, 1, 1, 1}), want) << "token by token";
  EXPECT_EQ(logits(plan, lengths, prompts, {3, 31, 7, 1, 33, 19, 5}), want);
  for (const int64_t wave : {1, 33, 100, 367}) {
    for (const int64_t sequences : {1, 3, 400}) {
      plan.sizes.wave_tokens = wave;
      plan.sizes.attention_micro_batch = sequences;
      EXPECT_EQ(logits(plan, lengths, prompts, lengths), want) << wave << " " << sequences;
      EXPECT_EQ(logits(plan, lengths, prompts, {2, 90, 40, 1, 64, 2, 6}), want) << wave << " " << sequences;
    }
  }
}

// The form of a token is that of its kind: the bits of generated tokens and of a prompt's differ, by rounding alone.
TEST_F(LatentExecutorTest, FormsDifferByRoundingAlone) {
  const Plan plan = make_plan(input_);
  const auto expanded = logits(plan, {60}, {60}, {60});
  const auto absorbed = logits(plan, {60}, {0}, {60});
  EXPECT_NE(expanded, absorbed);
  for (size_t i = 0; i < expanded.size(); ++i) ASSERT_NEAR(expanded[i], absorbed[i], 0.02) << i;
  const auto both = logits(plan, {60}, {30}, {60});
  EXPECT_TRUE(std::equal(both.begin(), both.begin() + 30 * 100, expanded.begin())) << "a prompt's tokens";
}

TEST_F(LatentExecutorTest, APassAllocatesNothing) {
  Executor executor = this->executor(make_plan(input_));
  EXPECT_EQ(run_counted(executor), 0);
}

// The same spec's weights from a file, its experts through two slots.
TEST(Executor, AStreamingPassAllocatesNothing) {
  auto config = mixtral_config();
  const TempDir dir;
  dir.write("config.json", config.dump());
  const ModelSpec spec = load_spec(dir.path());
  SafetensorsWriter writer;
  for (const TensorSpec& t : tensor_table(spec)) writer.add(t.name, DType::bf16, t.shape, std::string(static_cast<size_t>(elements(t)) * 2, '\x3c'));
  dir.write("model.safetensors", writer.file());
  const Checkpoint checkpoint = Checkpoint::open(dir.path());
  const Binding binding = bind(spec, checkpoint);
  const auto units = weight_units(binding);
  PlanInput input;
  input.spec = &spec;
  input.weight_bytes = WeightStore::bytes_needed(binding, DType::bf16);
  input.units = units;
  input.weight_memory = least_weight_bytes({units, input.weight_bytes, {}});
  input.host_memory = 256 << 20;
  input.max_pass_tokens = 64;
  input.threads = 2;
  const Plan plan = make_plan(input);
  std::vector<bool> left_out(binding.table.size());
  for (size_t i = 0; i < left_out.size(); ++i) left_out[i] = binding.table[i].expert >= 0;
  ThreadPool pool(2);
  const WeightStore store(binding, DType::bf16, checkpoint, pool, left_out);
  const ModelWeights weights = assign_weights(spec, binding.table, store.views());
  WeightStream stream(spec, store.views(), checkpoint, units, plan.weights);
  Executor executor(spec, weights, &stream, select_kernels("auto"), pool, plan, DType::bf16);
  EXPECT_EQ(run_counted(executor), 0);
  EXPECT_GT(stream.counters().bytes_read, 0U);
}

}  // namespace
}  // namespace moegen
