#pragma once

#include <cstdint>

#include "base/dtype.h"
#include "device/device.h"
#include "kernels/kv_page.h"
#include "kernels/logit_summary.h"

namespace moegen {

/// The ops of a pass on a GPU. All pointers are to device memory; "act" is float or bf16. Each is put into a stream and allocates nothing. Like those
/// of kernels/functions.h they give the same bits for an output element whatever rows are computed beside it.

/// y[b][i, n] (+)= scale * sum_k x[b][i, k] * w[b][n, k], for b in [0, batch). x and w have one type, float or bf16; sums are floats.
struct GpuGemm {
  const void* x = nullptr;
  const void* w = nullptr;
  void* y = nullptr;
  DType dtype = DType::bf16;   ///< of x and w
  DType y_dtype = DType::f32;  ///< float, or as x and w
  int64_t m = 0, n = 0, k = 0;
  int64_t x_stride = 0, w_stride = 0, y_stride = 0;  ///< elements, from row to row
  float scale = 1;
  bool add = false;  ///< y += instead of y =; with float only
  int64_t batch = 1;
  int64_t x_step = 0, w_step = 0, y_step = 0;  ///< elements, from one of the batch to the next
};

/// y[i, k] = value of w[first + i * step, k] (TensorView), rounded to y's type; any weight type there is.
struct GpuExpand {
  const void* w = nullptr;
  DType w_dtype = DType::bf16;
  const void* scales = nullptr;
  DType scale_dtype = DType::bf16;
  const uint8_t* zeros = nullptr;
  int64_t group = 0;
  int64_t block_rows = 1;   ///< all of TensorView
  int64_t matrix_rows = 0;  ///< of what lies at `w`, with all that the view leaves out
  int64_t first = 0, step = 1;
  int64_t rows = 0, cols = 0;
  void* y = nullptr;  ///< [rows, cols]
  DType y_dtype = DType::bf16;
};

/// y[i, j] = scale * x[i, j], for any of float, bf16 and f16 in, float and bf16 out.
struct GpuConvert {
  const void* x = nullptr;
  DType x_dtype = DType::bf16;
  int64_t x_stride = 0;
  void* y = nullptr;
  DType y_dtype = DType::f32;
  int64_t y_stride = 0;
  int64_t rows = 0, cols = 0;
  float scale = 1;
};

/// y[i] (+)= rms_norm(x[row(i)]) * (weight + offset); row(i) is picked[i], or i where `picked` is null. With a bias LayerNorm. x may be y.
struct GpuNorm {
  const void* x = nullptr;
  DType x_dtype = DType::f32;
  int64_t x_stride = 0;
  int64_t x_rows = 0;  ///< that `picked` picks from
  const int32_t* picked = nullptr;
  const void* weight = nullptr;
  DType weight_dtype = DType::bf16;
  const void* bias = nullptr;
  DType bias_dtype = DType::bf16;
  void* y = nullptr;
  DType y_dtype = DType::bf16;
  int64_t y_stride = 0;
  int64_t rows = 0, width = 0;
  float eps = 0, offset = 0;
  bool add = false;             ///< y += instead of y =
  const void* scale = nullptr;  ///< of one element, by which y is multiplied at last, or null
  DType scale_dtype = DType::bf16;
};

/// y[i, n] += scale * bias[n].
struct GpuBias {
  float* y = nullptr;
  int64_t y_stride = 0;
  int64_t rows = 0, cols = 0;
  const void* bias = nullptr;
  DType bias_dtype = DType::bf16;
  float scale = 1;
};

/// y[i] += x[picked[i]].
struct GpuAddRows {
  const void* x = nullptr;  ///< [all_rows, width]
  DType dtype = DType::bf16;
  int64_t all_rows = 0;
  const int32_t* picked = nullptr;  ///< [rows]
  float* y = nullptr;               ///< [rows, width]
  int64_t rows = 0, width = 0;
};

/// A row of an attention micro-batch. Pages of K and V are staged in slots, those of a sequence one behind the other.
struct GpuRow {
  int32_t position = 0;  ///< negative: of no sequence that is staged; nothing is done with the row
  int32_t slot = 0;      ///< slot of position p: slot + p / kPageTokens; may be negative where first pages are not staged
  int32_t end = 0;       ///< position behind the sequence's last token of the micro-batch
};

/// Rows of q, k and v as projected -> norm, clip, rope -> q in act; K and V to their slots.
struct GpuPlace {
  const float* qkv = nullptr;  ///< [rows, stride]: q heads, k heads, v heads
  int64_t stride = 0;
  int64_t q_step = 0;  ///< from a head of q to the next: head_dim, or more where something lies between them
  int64_t rows = 0;
  const GpuRow* row = nullptr;                 ///< [rows]
  const float *cos = nullptr, *sin = nullptr;  ///< [rows, rope_dim / 2]
  int q_heads = 0, kv_heads = 0, head_dim = 0, rope_dim = 0;
  bool interleaved = false, rope_first = false;
  enum class Norm { none, per_head, whole };  ///< of q and k; whole: over all heads
  Norm norm = Norm::none;
  const void *q_norm = nullptr, *k_norm = nullptr;  ///< [head_dim], or of all heads, or null: no weights
  DType norm_dtype = DType::bf16;
  float eps = 0, offset = 0;
  bool k_is_v = false;                ///< there are no v heads: a value is its key before norm and rope
  bool v_norm = false;                ///< RMSNorm of a value, without weights
  float clip = 0;                     ///< 0: none
  float tuning = 0, tuning_step = 1;  ///< at position p queries are multiplied by 1 + tuning * ln(1 + floor((p + 1) / tuning_step))
  void* q = nullptr;                  ///< [rows, q_heads * head_dim] act
  DType act = DType::bf16;
  std::byte* slots = nullptr;  ///< [.., slot_bytes], in which kv heads lie one behind the other (kv_page.h)
  size_t slot_bytes = 0, head_bytes = 0;
  int64_t num_slots = 0;
  DType kv_dtype = DType::bf16;  ///< act or i8
};

/// The cached part of latent attention: row [latent | rotated key] in float -> norm of the latent, rope of the key, into the slots; and
/// the rotated part of queries.
struct GpuPlaceLatent {
  const float* latent = nullptr;  ///< [rows, latent_stride]: kv_rank, then rope_dim values
  int64_t latent_stride = 0;
  int64_t rows = 0;
  const GpuRow* row = nullptr;
  const float *cos = nullptr, *sin = nullptr;
  int kv_rank = 0, rope_dim = 0;
  bool interleaved = false;
  const void* norm = nullptr;  ///< [kv_rank]
  DType norm_dtype = DType::bf16;
  float eps = 0, offset = 0;
  const void* heads = nullptr;  ///< [rows, num_heads, head_stride] act: the last rope_dim of each head's plain_dim + rope_dim are turned
  int64_t head_stride = 0;
  int num_heads = 0, plain_dim = 0;
  void* q = nullptr;  ///< [rows, num_heads, kv_rank + rope_dim] act: the last rope_dim of each are written
  DType act = DType::bf16;
  std::byte* slots = nullptr;
  size_t slot_bytes = 0;
  int64_t num_slots = 0;
};

/// Consecutive queries of one sequence.
struct GpuTile {
  int32_t row = 0;  ///< of q and out
  int32_t count = 0;
  int32_t position = 0;  ///< of the first
  int32_t slot = 0;      ///< GpuRow::slot
};

/// Attention as kernels/functions.h has it, over staged pages; pages go to warps by their place in the sequence, so that the bits depend on nothing
/// but the query and the keys it sees. With bf16 the weights of the values are rounded to it.
struct GpuAttention {
  const void* q = nullptr;  ///< [rows, kv_heads, heads, head_dim] act
  void* out = nullptr;      ///< [rows, kv_heads, heads, value_dim()] act
  DType act = DType::bf16;
  DType kv_dtype = DType::bf16;
  int64_t rows = 0;  ///< of q and out
  const GpuTile* tiles = nullptr;
  int64_t num_tiles = 0;
  int64_t max_count = 1;  ///< queries of a tile, at most
  int kv_heads = 0, heads = 0, head_dim = 0, latent_dim = 0;
  const std::byte* slots = nullptr;
  size_t slot_bytes = 0, head_bytes = 0;
  int64_t num_slots = 0;
  int64_t window = 0, chunk = 0;
  float scale = 0;
  const float* sinks = nullptr;  ///< [kv_heads * heads] or null

  [[nodiscard]] constexpr int value_dim() const { return latent_dim > 0 ? latent_dim : head_dim; }
};
constexpr int kGpuAttentionWarps = 4;
constexpr int kGpuTileRows = 64;  ///< queries x heads of a KV head that read pages together, where it is not more heads
constexpr int kGpuMaxValueDim = 512;

/// logits -> chosen experts and their weights, as model/router.h; logits are overwritten.
struct GpuRoute {
  float* logits = nullptr;  ///< [tokens, num_experts]
  int64_t tokens = 0;
  int num_experts = 0, top_k = 0;
  enum class Scores { softmax, sigmoid, sparse_mixer };
  Scores scores = Scores::softmax;
  float jitter = 0;            ///< sparse_mixer
  const void* bias = nullptr;  ///< [num_experts] or null
  DType bias_dtype = DType::f32;
  int num_groups = 1, top_groups = 1, group_best = 1;
  bool renormalize = false;
  float scaling = 1;
  const void* expert_scales = nullptr;  ///< [num_experts] or null: weights are multiplied by that of their expert at last
  DType expert_scales_dtype = DType::f32;
  int32_t* chosen = nullptr;  ///< [tokens, top_k]
  float* weight = nullptr;    ///< [tokens, top_k]
};
constexpr int kGpuMaxExperts = 1024;

/// Stable sort of (token, j) by expert; what goes into experts may be weighed, not what comes out.
struct GpuSort {
  const int32_t* chosen = nullptr;  ///< [tokens, top_k]
  int64_t tokens = 0;
  int num_experts = 0, top_k = 0;
  int32_t* counts = nullptr;        ///< [ceil(tokens / kGpuSortTokens), num_experts] scratch
  int32_t* expert_begin = nullptr;  ///< [num_experts + 1]
  int32_t* row_of = nullptr;        ///< [tokens, top_k]
  int32_t* row_token = nullptr;     ///< [tokens * top_k]
  const float* weight = nullptr;    ///< [tokens, top_k]
  float* row_weight = nullptr;      ///< [tokens * top_k] weights of rows, or null: they are not wanted
};
constexpr int64_t kGpuSortTokens = 64;

/// y[i] = scale[i] * x[picked[i]]; or, where they are scattered, y[picked[i]] = scale[i] * x[i], with no row picked twice.
struct GpuMove {
  const void* x = nullptr;
  int64_t x_stride = 0;
  const int32_t* picked = nullptr;  ///< [rows]
  void* y = nullptr;
  int64_t y_stride = 0;
  int64_t rows = 0, width = 0;
  int64_t all_rows = 0;  ///< that are picked from
  bool scatter = false;
  DType dtype = DType::bf16;     ///< float or bf16
  const float* scale = nullptr;  ///< [rows] or null: ones
};

/// out = act(gate) * up, as an MLP's activation says.
struct GpuActivate {
  enum class Kind { silu, clamped_silu, gelu, relu };
  Kind kind = Kind::silu;
  const float* gate = nullptr;  ///< [rows, width]
  const float* up = nullptr;    ///< [rows, width]; relu has none
  float clamp = 0;
  void* out = nullptr;  ///< [rows, width]
  DType out_dtype = DType::bf16;
  int64_t rows = 0, width = 0;
};

/// Where the weights of an expert lie in device memory; null: they do not.
struct GpuExpertWeights {
  struct Matrix {
    const void* w = nullptr;
    const void* scales = nullptr;
    const uint8_t* zeros = nullptr;
    const void* bias = nullptr;

    /// The matrix, of which `format` is all but where it lies.
    [[nodiscard]] constexpr GpuExpand in(GpuExpand format) const {
      format.w = w;
      format.scales = scales;
      format.zeros = zeros;
      return format;
    }
  };
  Matrix gate, up, down;

  [[nodiscard]] constexpr const Matrix& matrix(bool gated, int j) const { return !gated ? down : j == 0 ? gate : up; }
};

/// Products of rows of several experts with the weights of each, in one launch: grouped GEMM. For rows i of [first, last) of those that are sorted by
/// expert (GpuSort), y[i - first] = activation(x_i gate^T, x_i up^T) or x_i down^T, biases added; x and y are bf16, sums floats. Rows of experts
/// whose weights are not in the table are left out. `format`: of all these matrices, GpuExpand but for where they lie; not float. Rows and columns of
/// matrices, strides, and neighbours that share a scale, are multiples of 8.
struct GpuGroupedGemm {
  const void* x = nullptr;
  int64_t x_stride = 0;
  const int32_t* picked = nullptr;  ///< row i is x[picked[i]]; null: x[i - first]
  int64_t x_rows = 0;               ///< that are picked from
  int64_t first = 0, last = 0;
  const int32_t* expert_begin = nullptr;    ///< [num_experts + 1]
  const GpuExpertWeights* table = nullptr;  ///< [num_experts]; null: all rows are of one expert, `one`
  int num_experts = 0;
  int64_t num_tiles = 0;     ///< tiles of kGpuGroupRows rows that experts have of these, together
  Region table_memory = {};  ///< in which all lies that `table` points to
  GpuExpertWeights one = {};
  bool gated = false;
  GpuExpand format[2] = {};  ///< gate and up, or down
  DType bias_dtype = DType::bf16;
  GpuActivate::Kind kind = GpuActivate::Kind::silu;  ///< not relu
  float clamp = 0;
  void* y = nullptr;
  int64_t y_stride = 0;
};
constexpr int kGpuGroupRows = 64;

/// hidden[t] += sum_j scale * weight[t, j] * out[row_of[t, j]], in the order of j.
struct GpuCombine {
  float* hidden = nullptr;  ///< [tokens, width]
  int64_t tokens = 0, width = 0;
  const void* out = nullptr;  ///< [tokens * top_k, width] act
  DType act = DType::bf16;
  const int32_t* row_of = nullptr;
  const float* weight = nullptr;  ///< [tokens, top_k] or null: ones
  int top_k = 0;
  float scale = 1;
};

/// x[i, h, d] *= sigmoid(gate[i * gate_stride + h * gate_step + d]).
struct GpuGate {
  void* x = nullptr;  ///< [rows, heads, head_dim] act
  DType act = DType::bf16;
  const float* gate = nullptr;
  int64_t gate_stride = 0, gate_step = 0;
  int64_t rows = 0;
  int heads = 0, head_dim = 0;
};

/// hidden[t] += scale * sigmoid(logit[t]) * x[t]; logit may be null: ones for the sigmoid.
struct GpuAddGated {
  float* hidden = nullptr;  ///< [rows, width]
  const void* x = nullptr;  ///< [rows, width] act
  DType act = DType::bf16;
  const float* logit = nullptr;  ///< [rows]
  int64_t rows = 0, width = 0;
  float scale = 1;
};

/// Of a row's kGpuSegmentIds ids side by side: the largest logit and, where they are asked for, the sums beside it.
struct GpuSegment {
  float top, sum, heated_sum;  ///< as LogitSummary
};
constexpr int kGpuSegmentIds = 128;

/// What each row's query asks.
struct GpuSummarize {
  const float* logits = nullptr;  ///< [rows, width]
  int64_t rows = 0, width = 0;
  const LogitQuery* queries = nullptr;   ///< [rows]; rows that are wanted whole are passed over
  GpuSegment* segments = nullptr;        ///< [rows, segments_of_row()] scratch
  LogitSummary* summaries = nullptr;     ///< [rows]
  LogitCandidate* candidates = nullptr;  ///< [rows, kLogitCandidates], best first

  [[nodiscard]] constexpr int64_t segments_of_row() const { return (width + kGpuSegmentIds - 1) / kGpuSegmentIds; }
};

/// x = cap * tanh(x / cap).
struct GpuCap {
  float* x = nullptr;  ///< [rows, width]
  int64_t rows = 0, width = 0;
  float cap = 1;
};

struct GpuKernels {
  void (*gemm)(Device& device, const Stream& stream, const GpuGemm& op);
  void (*expand)(Device& device, const Stream& stream, const GpuExpand& op);
  void (*convert)(Device& device, const Stream& stream, const GpuConvert& op);
  void (*norm)(Device& device, const Stream& stream, const GpuNorm& op);
  void (*bias)(Device& device, const Stream& stream, const GpuBias& op);
  void (*add_rows)(Device& device, const Stream& stream, const GpuAddRows& op);
  void (*place)(Device& device, const Stream& stream, const GpuPlace& op);
  void (*place_latent)(Device& device, const Stream& stream, const GpuPlaceLatent& op);
  void (*attention)(Device& device, const Stream& stream, const GpuAttention& op);
  void (*route)(Device& device, const Stream& stream, const GpuRoute& op);
  void (*sort)(Device& device, const Stream& stream, const GpuSort& op);
  void (*move)(Device& device, const Stream& stream, const GpuMove& op);
  void (*activate)(Device& device, const Stream& stream, const GpuActivate& op);
  void (*grouped_gemm)(Device& device, const Stream& stream, const GpuGroupedGemm& op);
  void (*combine)(Device& device, const Stream& stream, const GpuCombine& op);
  void (*gate)(Device& device, const Stream& stream, const GpuGate& op);
  void (*add_gated)(Device& device, const Stream& stream, const GpuAddGated& op);
  void (*cap)(Device& device, const Stream& stream, const GpuCap& op);
  void (*summarize)(Device& device, const Stream& stream, const GpuSummarize& op);
};

}  // namespace moegen
