#include "model/kv_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "kernels/functions.h"

namespace moegen {
namespace {

using ::testing::ElementsAre;

struct Kind {
  int count, window, chunk, kv_heads, head_dim;
};

// Layers of these kinds in turn, until there are none left of any.
ModelSpec spec_of(std::vector<Kind> kinds) {
  ModelSpec out;
  for (bool some = true; some;) {
    some = false;
    for (Kind& k : kinds) {
      if (k.count-- <= 0) continue;
      AttentionSpec& a = out.layers.emplace_back().attention;
      a.window = k.window;
      a.chunk = k.chunk;
      a.num_kv_heads = k.kv_heads;
      a.head_dim = k.head_dim;
      some = true;
    }
  }
  return out;
}

// Bytes of the pages of some positions, over those that layers have in them; of all groups, or of those that no window bounds.
double padding(const ModelSpec& spec, const KvLayout& kv, bool all = true) {
  double used = 0;
  for (const LayerSpec& layer : spec.layers) {
    const AttentionSpec& a = layer.attention;
    if (all || a.window + a.chunk == 0) used += static_cast<double>(layer_page_bytes(a, kv.dtype));
  }
  const auto pages = std::count_if(kv.groups.begin(), kv.groups.end(), [&](const KvGroup& g) { return all || !g.bounded(); });
  return static_cast<double>(static_cast<size_t>(pages) * kv.page_bytes) / used;
}

// Every layer lies within its page, beside others that see as far, and none over another.
void check(const ModelSpec& spec, const KvLayout& kv) {
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const AttentionSpec& a = spec.layers[i].attention;
    const size_t bytes = layer_page_bytes(a, kv.dtype);
    if (bytes == 0) continue;
    EXPECT_EQ(kv.groups.at(kv.layer_group[i]), (KvGroup{a.window, a.chunk}));
    EXPECT_LE(kv.layer_offset[i] + bytes, kv.page_bytes);
    for (size_t j = 0; j < i; ++j) {
      const bool apart =
          kv.layer_group[j] != kv.layer_group[i] || kv.layer_offset[i] >= kv.layer_offset[j] + layer_page_bytes(spec.layers[j].attention, kv.dtype);
      EXPECT_TRUE(apart) << i << " lies over " << j;
    }
  }
}

TEST(KvLayout, OnePageForLayersThatSeeEquallyFar) {
  for (const Kind& kind : {Kind{48, 0, 0, 4, 128}, Kind{32, 4096, 0, 8, 128}}) {
    const ModelSpec spec = spec_of({kind});
    const KvLayout kv(spec, DType::bf16);
    EXPECT_THAT(kv.groups, ElementsAre(KvGroup{kind.window, 0}));
    EXPECT_EQ(padding(spec, kv), 1);
    check(spec, kv);
  }
}

TEST(KvLayout, KindsThatAlternateTakeEqualPages) {
  const ModelSpec gpt_oss = spec_of({{18, 128, 0, 8, 64}, {18, 0, 0, 8, 64}});
  const KvLayout kv(gpt_oss, DType::bf16);
  EXPECT_THAT(kv.groups, ElementsAre(KvGroup{128, 0}, KvGroup{}));
  EXPECT_EQ(padding(gpt_oss, kv), 1);
  check(gpt_oss, kv);
  EXPECT_EQ(kv.page_index(0, 95), 4U);
  EXPECT_EQ(kv.page_index(1, 96), 7U);

  const ModelSpec llama4 = spec_of({{36, 0, 8192, 8, 128}, {12, 0, 0, 8, 128}});
  const KvLayout of_chunks(llama4, DType::bf16);
  EXPECT_EQ(of_chunks.groups.size(), 4U);
  EXPECT_EQ(padding(llama4, of_chunks), 1);
  check(llama4, of_chunks);
}

// Gemma-4-26B-A4B: layers with a window have twice the bytes of the others, of which there are five.
TEST(KvLayout, UnequalLayersLeaveLittleEmpty) {
  const ModelSpec gemma = spec_of({{25, 1024, 0, 8, 256}, {5, 0, 0, 2, 512}});
  for (const DType dtype : {DType::bf16, DType::f32, DType::i8}) {
    const KvLayout kv(gemma, dtype);
    EXPECT_LT(padding(gemma, kv) + padding(gemma, kv, false), 2.3);
    check(gemma, kv);
  }
  const ModelSpec odd = spec_of({{17, 64, 0, 3, 48}, {7, 0, 0, 3, 48}, {2, 0, 96, 5, 32}});
  const KvLayout kv(odd, DType::bf16);
  EXPECT_LT(padding(odd, kv) + padding(odd, kv, false), 2.3);
  check(odd, kv);
}

TEST(KvLayout, LayersOfLinearAttentionTakeNoPages) {
  ModelSpec spec = spec_of({{3, 0, 0, 0, 0}, {3, 64, 0, 2, 32}});
  for (size_t i = 0; i < 6; i += 2) spec.layers[i].attention.delta = {.key_heads = 2, .value_heads = 4, .key_dim = 5, .value_dim = 7, .taps = 4};
  const KvLayout kv(spec, DType::bf16);
  EXPECT_THAT(kv.groups, ElementsAre(KvGroup{64, 0}));
  EXPECT_EQ(padding(spec, kv), 1);
  check(spec, kv);
  const int64_t head = 4 * (5 + 5 + 14) + 5 * 14 + kDeltaChunk * (5 + 14) + 2 * (kDeltaChunk + 1);
  EXPECT_EQ(kv.state_offset[4], 2 * 2 * ((head + 15) / 16 * 16));
  EXPECT_EQ(kv.state_floats, 3 * 2 * ((head + 15) / 16 * 16));
  spec.layers = {spec.layers[0]};
  EXPECT_EQ(KvLayout(spec, DType::bf16).groups.size(), 1U) << "pages of nothing";
}

TEST(KvGroups, AQuerySeesItsWindowOrItsChunk) {
  const KvGroup window{.window = 5}, chunk{.chunk = 8}, all;
  EXPECT_EQ(window.first_seen(4), 0);
  EXPECT_EQ(window.first_seen(5), 1);
  EXPECT_EQ(window.first_seen(100), 96);
  EXPECT_EQ(chunk.first_seen(7), 0);
  EXPECT_EQ(chunk.first_seen(8), 8);
  EXPECT_EQ(all.first_seen(1000), 0);
}

// By counting, pass by pass, over all positions: the most that a sequence has at once is what is promised.
TEST(KvGroups, PagesHeldAreThoseThatPassesOfSoManyNeed) {
  constexpr int64_t kPage = 4;
  for (const KvGroup& g : {KvGroup{.window = 1}, KvGroup{.window = 2}, KvGroup{.window = 5}, KvGroup{.window = 6}, KvGroup{.window = 8},
                           KvGroup{.window = 9}, KvGroup{}}) {
    for (const int64_t pass : {1, 2, 3, 4, 7, 30}) {
      for (const int64_t tokens : {1, 3, 4, 5, 29, 64}) {
        int64_t most = 0;
        for (int64_t begin = 0; begin < tokens; ++begin) {
          const int64_t end = std::min(tokens, begin + pass);
          most = std::max(most, (end - 1) / kPage - g.first_seen(begin) / kPage + 1);
        }
        EXPECT_GE(pages_held(std::span(&g, 1), kPage, tokens, pass), most) << g.window << " " << pass << " " << tokens;
        if (tokens == 64) {
          EXPECT_EQ(pages_held(std::span(&g, 1), kPage, tokens, pass), most) << g.window << " " << pass;
        }
      }
    }
  }
}

TEST(KvGroups, TheLongestIsThatWhosePagesFit) {
  const std::vector<KvGroup> groups{{}, {.window = 40}, {.chunk = 64}};
  for (int64_t pages = 0; pages < 100; ++pages) {
    const int64_t longest = longest_held(groups, 32, pages);
    EXPECT_LE(pages_held(groups, 32, longest), pages);
    EXPECT_GT(pages_held(groups, 32, longest + 1), pages);
  }
  EXPECT_EQ(longest_held(std::span(groups).subspan(1), 32, 6), std::numeric_limits<int64_t>::max());
}

}  // namespace
}  // namespace moegen
