#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "kernels/kv_page.h"

namespace moegen {

/// Rows or columns [begin, end).
struct Range {
  int64_t begin = 0;
  int64_t end = 0;
  [[nodiscard]] int64_t size() const { return end - begin; }
};

/// y[i, n] (+)= scale * (sum_k x[row(i), k] * w[n, k] + bias[n]). row(i) is rows[i], or i where rows is null.
/// Weights are row-major [n, k], rows k elements apart. Those in f8_e4m3, f4, i4 and u8 are expanded where they are loaded: a weight is
/// code * scale, or (code - zero) * scale, in float, rounded to x's type.
struct Gemm {
  const void* x = nullptr;  ///< [*, k], float or bf16
  DType x_dtype = DType::f32;
  int64_t x_stride = 0;           ///< elements
  const int32_t* rows = nullptr;  ///< gather, or null
  const void* w = nullptr;        ///< [w_first + (n - 1) * w_step + 1, k], float, bf16, f16, f8_e4m3, f4, i4 or u8
  DType w_dtype = DType::bf16;
  const void* w_scales = nullptr;
  DType w_scale_dtype = DType::bf16;
  const uint8_t* w_zeros = nullptr;
  int64_t w_group = 0;
  int64_t w_block_rows = 1;  ///< all of TensorView
  int64_t w_first = 0;       ///< column n of y is row w_first + n * w_step of w
  int64_t w_step = 1;
  const void* bias = nullptr;  ///< [n] in w's dtype, or null
  DType bias_dtype = DType::bf16;
  void* y = nullptr;  ///< [m, n], float or bf16
  DType y_dtype = DType::f32;
  int64_t y_stride = 0;     ///< elements
  bool add = false;         ///< y += instead of y =
  float scale = 1;          ///< of what is stored or added
  int64_t k = 0;            ///< with f4 a multiple of kF4Block, with i4 and u8 of w_group, which is one of kGroupUnit
  void* scratch = nullptr;  ///< kGemmScratchBytes, aligned to 64
  /// Another one of the same x, rows and k, over the same ranges, which shares what is packed of x; or null.
  const Gemm* also = nullptr;
};

/// What a GEMM takes at a time; larger ranges are taken apart.
constexpr int64_t kGemmBlockRows = 256;
constexpr int64_t kGemmBlockCols = 384;    ///< half as many with another one beside it
constexpr int64_t kGemmColUnit = 32;       ///< a part of as many columns may cost what all of them do
constexpr int64_t kGemmStreamedRows = 24;  ///< for as many it streams weights, and takes more columns
constexpr int64_t kGemmStreamedCols = 2 * kGemmBlockCols;
constexpr int64_t kGemmRowBytes = 2048;  ///< of a packed row at a time
constexpr size_t kGemmScratchBytes = 512 << 10;

/// y[i] = x[i] * rsqrt(mean(x[i]^2) + eps) * (weight + offset), the mean in float. x and y may be the same.
struct RmsNorm {
  const void* x = nullptr;  ///< [*, width], float or bf16
  DType x_dtype = DType::f32;
  int64_t x_stride = 0;
  const void* weight = nullptr;  ///< [width], float, bf16 or f16; or null: ones
  DType weight_dtype = DType::bf16;
  void* y = nullptr;  ///< [*, width], float or bf16
  DType y_dtype = DType::f32;
  int64_t y_stride = 0;
  int64_t width = 0;
  float eps = 0;
  float offset = 0;
};

/// Neighbouring tokens of a sequence, at positions [i * kDeltaChunk, (i + 1) * kDeltaChunk), share a reading and a writing of the state.
constexpr int kDeltaChunk = 8;

/// Tokens of one chunk in the gated delta rule (arXiv 2412.06464, equation 10), for the value heads of one key head, in float. Token by token that is
///   state = decay * state; change = beta * (value - state^T key); state += key change^T; out = state^T query.
/// Here the state stays as it was before the chunk until the chunk's last token. With k_i and c_i of its tokens, and decays d_i from behind
/// token i up to token t, and d from before the chunk,
///   c_t = beta (v_t - d state^T k_t - sum_{i<t} d_i (k_i . k_t) c_i),  out_t = d state^T q_t + sum_{i<=t} d_i (k_i . q_t) c_i,
/// and then state = d state + sum_i d_i k_i c_i^T (the chunked form of arXiv 2406.06484). The bits of a token do not depend on the tokens that are
/// computed in the same call.
struct DeltaTokens {
  int first = 0;  ///< token of the chunk that these begin with
  int count = 0;  ///< first + count is at most kDeltaChunk
  int heads = 0;  ///< value heads
  int key_dim = 0;
  int value_dim = 0;
  float* state = nullptr;          ///< [heads, key_dim, value_dim]
  const float* keys = nullptr;     ///< [kDeltaChunk, key_dim] of the chunk's tokens, these and those before
  float* changes = nullptr;        ///< [kDeltaChunk, heads, value_dim] c of those before, and of these
  float* decays = nullptr;         ///< [heads, kDeltaChunk + 1] d, then the d_i, up to the last token before these, and then of these
  const float* queries = nullptr;  ///< [count, key_dim]
  const float* values = nullptr;   ///< [count, heads, value_dim]
  const float* decay = nullptr;    ///< [count, heads]
  const float* beta = nullptr;     ///< [count, heads]
  float* out = nullptr;            ///< [count, heads, value_dim]
};

/// Causal attention of consecutive queries of one sequence over KV pages, for some neighbouring KV heads and the query heads that share them.
/// Softmax in float, online over the pages in order of position: the bits of a query's result depend on nothing but the query
/// and the keys it sees, whichever queries are computed beside it.
struct Attention {
  const void* q = nullptr;  ///< [queries, kv_heads, heads, head_dim], float or bf16
  int64_t q_stride = 0;     ///< elements from one query to the next
  void* out = nullptr;      ///< [queries, kv_heads, heads, value_dim()], as q
  int64_t out_stride = 0;
  DType dtype = DType::f32;     ///< of q and out
  DType kv_dtype = DType::f32;  ///< of keys and values: that of q, or int8
  int kv_heads = 0;
  int heads = 0;       ///< query heads of each KV head
  int head_dim = 0;    ///< even
  int latent_dim = 0;  ///< even; 0: keys have values beside them, else a key's first so many elements are its value. Not with int8.
  int64_t num_queries = 0;
  int64_t first_position = 0;           ///< of the first query
  const std::byte* pages = nullptr;     ///< page p begins at pages + p * page_bytes
  size_t page_bytes = 0;                ///< multiple of 64
  const int32_t* page_table = nullptr;  ///< entry i * table_stride: page of positions [i * kPageTokens, (i + 1) * kPageTokens). Those of positions
                                        ///< that no query sees are not read, nor are their pages
  int64_t table_stride = 1;
  size_t kv_offset = 0;      ///< within a page: of this layer and the first KV head what kv_page.h says
  size_t kv_head_bytes = 0;  ///< from one KV head to the next
  int64_t window = 0;        ///< keys a query sees, itself included; 0: all
  int64_t chunk = 0;         ///< a query sees keys of its own chunk of so many positions; 0: all
  float scale = 0;
  const float* sinks = nullptr;  ///< [kv_heads, heads] one more logit in the softmax of each head, whose weight goes nowhere; or null
  float* scratch = nullptr;      ///< attention_scratch() floats
  int value_width = 0;           ///< of values beside keys; 0: head_dim. Not with int8.
  /// Where num_keys > 0 only the keys of positions [first_key, first_key + num_keys) are there, both multiples of kPageTokens, and page_table
  /// begins with the page of first_key; no query is before it. What a query that saw keys before has of its softmax comes from `carry`, and of one
  /// that sees keys behind it stays there: calls over one range of keys after the other have the bits of one call.
  int64_t first_key = 0;
  int64_t num_keys = 0;
  float* carry = nullptr;    ///< [queries, kv_heads, heads] of attention_carry() floats; may be null where no query sees keys beyond the range
  int64_t carry_stride = 0;  ///< floats from one query to the next
  /// The keys that the next call of this thread meets first, which are fetched while this one ends; or null. Changes no result.
  const std::byte* next = nullptr;

  [[nodiscard]] int value_dim() const { return latent_dim > 0 ? latent_dim : value_width > 0 ? value_width : head_dim; }
};

/// Keys and values of one head, as attention over pages wants them, from what latent attention keeps of tokens: a key is
/// [w[0 .. plain_dim) latent | rotated key], a value w[plain_dim ..) latent.
struct LatentExpansion {
  const std::byte* const* pages = nullptr;  ///< [num_pages] latents and rotated keys: keys of width kv_rank + rope_dim, as kv_page.h has them
  const int32_t* tokens = nullptr;          ///< [num_pages] that are there, from the first slot of a page on; at most kExpandedTokens together
  int64_t num_pages = 0;
  DType dtype = DType::f32;  ///< of everything here, f32 or bf16
  const void* w = nullptr;   ///< [plain_dim + v_dim, kv_rank]
  int kv_rank = 0;           ///< even
  int plain_dim = 0;
  int rope_dim = 0;  ///< even
  int v_dim = 0;
  std::byte* out = nullptr;  ///< [num_pages] of page_bytes() each: keys of width key_dim(), then values; what is not there is not written
  void* scratch = nullptr;   ///< scratch_bytes(), aligned to 64

  [[nodiscard]] int key_dim() const { return key_dim(plain_dim, rope_dim); }
  /// Keys have an even width: behind an odd number of plain elements is a zero.
  [[nodiscard]] static constexpr int key_dim(int plain, int rope) { return plain + plain % 2 + rope; }
  [[nodiscard]] size_t page_bytes() const { return static_cast<size_t>(kPageTokens) * static_cast<size_t>(key_dim() + v_dim) * bytes_of(dtype); }
  [[nodiscard]] size_t scratch_bytes() const;
};
constexpr int64_t kExpandedTokens = 128;
/// Latents as rows, keys with tokens in columns (a page more than there are), values, a GEMM's own.
inline size_t LatentExpansion::scratch_bytes() const {
  const int64_t elements = kExpandedTokens * (int64_t{kv_rank} + v_dim) + (kExpandedTokens + kPageTokens) * int64_t{plain_dim};
  return (static_cast<size_t>(elements) * bytes_of(dtype) + 255) / 64 * 64 + kGemmScratchBytes;
}

constexpr float kSwigluSlope = 1.702F;
/// gelu in its tanh form: x / 2 (1 + tanh(s / 2 (x + c x^3))) = x sigmoid(s (x + c x^3)), s = sqrt(8 / pi).
constexpr float kGeluSlope = 1.5957691216F;
constexpr float kGeluCubic = 0.044715F;

/// Rows, (query, head), of a generated token that go through the pages together; those of a prompt are fewer at a time.
constexpr int kAttentionRowsInFlight = 128;
[[nodiscard]] constexpr int64_t attention_row_scratch(int64_t head_dim) { return 2 * (head_dim + 16) + kPageTokens; }
/// What a row has between calls: sums by lanes, the largest score, what was summed of values.
constexpr int64_t kCarryTop = 16, kCarrySum = 32;
[[nodiscard]] constexpr int64_t attention_carry(int64_t value_dim) { return kCarrySum + (value_dim + 15) / 16 * 16; }
/// The rows, and a page of values.
[[nodiscard]] constexpr int64_t attention_scratch(int64_t head_dim) {
  return kAttentionRowsInFlight * attention_row_scratch(head_dim) + kPageTokens * head_dim;
}

/// One implementation of every op of a pass. Functions work on the ranges they are given, on one thread, allocate nothing, and
/// give the same bits for an output element whatever the range. Shapes and dtypes are checked by the caller.
struct Kernels {
  std::string_view name;
  void (*gemm)(const Gemm& op, Range rows, Range cols);
  void (*rms_norm)(const RmsNorm& op, Range rows);
  /// Pairs (i, i + dim/2) of head[0, dim) turn by the angles whose cosines and sines are given: [dim/2] each.
  void (*rotate)(float* head, const float* cos, const float* sin, int64_t dim);
  void (*attention)(const Attention& op);
  void (*expand_latents)(const LatentExpansion& op);
  void (*delta_tokens)(const DeltaTokens& op);
  /// gate[i] = silu(gate[i]) * up[i], in the dtype given. `up` may be null: ones.
  void (*silu_mul)(void* gate, const void* up, DType dtype, int64_t count);
  /// gate[i] = g * sigmoid(kSwigluSlope * g) * (u + 1), g = min(gate[i], limit), u = up[i] clamped to [-limit, limit] (gpt-oss).
  void (*clamped_swiglu)(float* gate, const float* up, float limit, int64_t count);
  /// gate[i] = gelu(gate[i]) * up[i], in its tanh form.
  void (*gelu_mul)(float* gate, const float* up, int64_t count);
  /// y += a * x; y float, x in the dtype given.
  void (*axpy)(float* y, float a, const void* x, DType x_dtype, int64_t count);
  /// y = x, rounded or widened; any of float and bf16, x also f16.
  void (*convert)(const void* x, DType x_dtype, void* y, DType y_dtype, int64_t count);
  /// The largest of x.
  float (*maximum)(const float* x, int64_t count);
  /// y[i] = exp(x[i] - shift); returns their sum. y may be x, or null where only the sum is wanted.
  float (*exp_sum)(const float* x, float shift, float* y, int64_t count);
  /// Multiplies and adds as gemm does with x and weights of this dtype (float or bf16), in registers alone, a few dozen instructions
  /// a round. Returns the FLOPs done: over time, the roof of every product above.
  double (*multiply_only)(DType dtype, int64_t rounds);
};

/// Plain loops with double accumulators: what every other implementation is compared with.
[[nodiscard]] const Kernels& reference_kernels();
[[nodiscard]] const Kernels& avx2_kernels();
[[nodiscard]] const Kernels& avx512_kernels();
[[nodiscard]] const Kernels& avx512_bf16_kernels();
[[nodiscard]] const Kernels& amx_kernels();

/// Those that this processor can run, best first; the reference is last.
[[nodiscard]] std::vector<const Kernels*> usable_kernels();
/// "auto" is the best. Throws Error(invalid_argument) for a name that is unknown or that this processor cannot run.
[[nodiscard]] const Kernels& select_kernels(std::string_view name);

}  // namespace moegen
