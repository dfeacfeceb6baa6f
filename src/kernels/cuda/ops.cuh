#pragma once

#include <algorithm>
#include <initializer_list>

#include "base/checked.h"
#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/expand.cuh"
#include "kernels/cuda/grouped_gemm.cuh"
#include "kernels/cuda/place.cuh"
#include "kernels/cuda/route.cuh"
#include "kernels/cuda/row_ops.cuh"
#include "kernels/cuda/sample.cuh"
#include "kernels/cuda/tensor_attention.cuh"

namespace moegen::gpu {

/// How a kernel is launched: blocks, bytes of shared memory. Threads are the kernel's own.
struct Grid {
  int64_t x = 0;
  int64_t y = 1;
  size_t shared_bytes = 0;
};

inline size_t size_of(DType dtype) { return dtype == DType::f32 ? 4 : dtype == DType::i8 || dtype == DType::u8 || dtype == DType::f8_e4m3 ? 1 : 2; }
/// `rows` rows of `cols` elements that begin `stride` elements apart.
inline Region region(const void* data, DType dtype, int64_t rows, int64_t stride, int64_t cols) {
  return {data, data == nullptr || rows == 0 ? 0 : static_cast<size_t>((rows - 1) * stride + cols) * size_of(dtype)};
}
inline Region region(const void* data, DType dtype, int64_t rows, int64_t cols) { return region(data, dtype, rows, cols, cols); }
template <typename T>
Region region(const T* data, int64_t count) {
  return {data, data == nullptr ? 0 : static_cast<size_t>(count) * sizeof(T)};
}

/// Every op in terms of kernels. Launch::run<Kernel>(device, stream, name, grid, args, reads, writes) starts one; the regions are all that it
/// reads and writes.
template <typename Launch>
struct Ops {
  using Regions = std::initializer_list<Region>;

  template <typename Op>
  static void elements(Device& device, const Stream& stream, const char* name, const typename Op::Args& op, int64_t rows, int64_t cols, Regions reads,
                       Regions writes) {
    if (rows == 0 || cols == 0) return;
    constexpr int64_t kMostBlocks = 65535;  // in y
    using Kernel = ElementKernel<Op>;
    Launch::template run<Kernel>(device, stream, name, Grid{ceil_div<int64_t>(cols, Kernel::kThreads), std::min(rows, kMostBlocks)}, op, reads,
                                 writes);
  }

  /// What a matrix is read from.
  struct MatrixRegions {
    Region w, scales, zeros;
  };
  static MatrixRegions regions_of(const GpuExpand& op) {
    if (op.w == nullptr) return {};
    const auto count = static_cast<size_t>(op.matrix_rows * op.cols);
    MatrixRegions out{region(op.w, op.w_dtype, op.matrix_rows, op.cols), {op.scales, 0}, {op.zeros, 0}};
    if (op.w_dtype == DType::f4 || op.w_dtype == DType::i4) out.w.bytes = count / 2;
    if (op.w_dtype == DType::f8_e4m3)
      out.scales.bytes = sizeof(float) * static_cast<size_t>(ceil_div(op.matrix_rows, op.block_rows) * ceil_div(op.cols, op.group));
    if (op.w_dtype == DType::f4) out.scales.bytes = count / kF4Block;
    if (op.w_dtype == DType::i4 || op.w_dtype == DType::u8) {
      out.scales.bytes = size_of(op.scale_dtype) * count / static_cast<size_t>(op.group);
      if (op.zeros != nullptr) out.zeros.bytes = count / static_cast<size_t>(op.group);
    }
    return out;
  }
  static void expand(Device& device, const Stream& stream, const GpuExpand& op) {
    const auto [w, scales, zeros] = regions_of(op);
    elements<Expand>(device, stream, "expand", op, op.rows, ceil_div<int64_t>(op.cols, Expand::kEach), {w, scales, zeros},
                     {region(op.y, op.y_dtype, op.rows, op.cols)});
  }

  static void convert(Device& device, const Stream& stream, const GpuConvert& op) {
    elements<Convert>(device, stream, "convert", op, op.rows, op.cols, {region(op.x, op.x_dtype, op.rows, op.x_stride, op.cols)},
                      {region(op.y, op.y_dtype, op.rows, op.y_stride, op.cols)});
  }

  static void norm(Device& device, const Stream& stream, const GpuNorm& op) {
    if (op.rows == 0) return;
    const int64_t x_rows = op.picked != nullptr ? op.x_rows : op.rows;
    Launch::template run<NormKernel>(
        device, stream, "norm", Grid{op.rows, 1, 2 * sizeof(float) * NormKernel::kThreads / 32}, op,
        {region(op.x, op.x_dtype, x_rows, op.x_stride, op.width), region(op.picked, op.rows), region(op.weight, op.weight_dtype, 1, op.width),
         region(op.bias, op.bias_dtype, 1, op.width), region(op.scale, op.scale_dtype, 1, 1)},
        {region(op.y, op.y_dtype, op.rows, op.y_stride, op.width)});
  }

  static void bias(Device& device, const Stream& stream, const GpuBias& op) {
    elements<AddBias>(device, stream, "bias", op, op.rows, op.cols, {region(op.bias, op.bias_dtype, 1, op.cols)},
                      {region(op.y, DType::f32, op.rows, op.y_stride, op.cols)});
  }

  static void add_rows(Device& device, const Stream& stream, const GpuAddRows& op) {
    elements<AddRows>(device, stream, "add rows", op, op.rows, op.width, {region(op.x, op.dtype, op.all_rows, op.width), region(op.picked, op.rows)},
                      {region(op.y, op.rows * op.width)});
  }

  template <typename T, typename S>
  static void place_as(Device& device, const Stream& stream, const GpuPlace& op) {
    using Kernel = PlaceKernel<T, S>;
    const int64_t pairs = op.rows * (op.rope_dim / 2);
    const bool whole = op.norm == GpuPlace::Norm::whole;
    Launch::template run<Kernel>(
        device, stream, "place", Grid{op.rows, 1, sizeof(float) * static_cast<size_t>(Kernel::kWarps * (op.head_dim + 2))}, op,
        {region(op.qkv, DType::f32, op.rows, op.stride, op.q_heads * op.q_step + (op.k_is_v ? 1 : 2) * op.kv_heads * op.head_dim),
         region(op.row, op.rows), region(op.cos, pairs), region(op.sin, pairs), region(op.q_norm, op.norm_dtype, whole ? op.q_heads : 1, op.head_dim),
         region(op.k_norm, op.norm_dtype, whole ? op.kv_heads : 1, op.head_dim)},
        {region(op.q, op.act, op.rows, op.q_heads * op.head_dim), {op.slots, static_cast<size_t>(op.num_slots) * op.slot_bytes}});
  }
  static void place(Device& device, const Stream& stream, const GpuPlace& op) {
    if (op.rows == 0) return;
    const bool small = op.kv_dtype == DType::i8;
    if (op.act == DType::f32) return small ? place_as<float, int8_t>(device, stream, op) : place_as<float, float>(device, stream, op);
    small ? place_as<bf16, int8_t>(device, stream, op) : place_as<bf16, bf16>(device, stream, op);
  }

  template <typename T>
  static void place_latent_as(Device& device, const Stream& stream, const GpuPlaceLatent& op) {
    using Kernel = PlaceLatentKernel<T>;
    const int64_t pairs = op.rows * (op.rope_dim / 2), heads = op.rows * op.num_heads;
    Launch::template run<Kernel>(
        device, stream, "place latent", Grid{op.rows, 1, sizeof(float) * static_cast<size_t>(Kernel::kWarps * op.rope_dim)}, op,
        {region(op.latent, DType::f32, op.rows, op.latent_stride, op.kv_rank + op.rope_dim), region(op.row, op.rows), region(op.cos, pairs),
         region(op.sin, pairs), region(op.norm, op.norm_dtype, 1, op.kv_rank),
         region(op.heads, op.act, heads, op.head_stride, op.plain_dim + op.rope_dim)},
        {region(op.q, op.act, heads, op.kv_rank + op.rope_dim), {op.slots, static_cast<size_t>(op.num_slots) * op.slot_bytes}});
  }
  static void place_latent(Device& device, const Stream& stream, const GpuPlaceLatent& op) {
    if (op.rows == 0) return;
    op.act == DType::f32 ? place_latent_as<float>(device, stream, op) : place_latent_as<bf16>(device, stream, op);
  }

  template <typename Kernel>
  static void attention_by(Device& device, const Stream& stream, const GpuAttention& op) {
    const int64_t row_blocks = ceil_div<int64_t>(op.max_count * op.heads, Kernel::kRows), heads = int64_t{op.kv_heads} * op.heads;
    Launch::template run<Kernel>(device, stream, "attention", Grid{op.num_tiles, op.kv_heads * row_blocks, Kernel::shared_bytes(op)}, op,
                                 {region(op.q, op.act, op.rows, heads * op.head_dim),
                                  region(op.tiles, op.num_tiles),
                                  {op.slots, static_cast<size_t>(op.num_slots) * op.slot_bytes},
                                  region(op.sinks, heads)},
                                 {region(op.out, op.act, op.rows, heads * op.value_dim())});
  }
  template <typename S>
  static void attention_of(Device& device, const Stream& stream, const GpuAttention& op) {
    const int dims = op.value_dim();
    if (dims <= 64) return attention_by<AttentionKernel<S, 8, 2>>(device, stream, op);
    if (dims <= 128) return attention_by<AttentionKernel<S, 8, 4>>(device, stream, op);
    if (dims <= 256) return attention_by<AttentionKernel<S, 4, 8>>(device, stream, op);
    attention_by<AttentionKernel<S, 4, kGpuMaxValueDim / 32>>(device, stream, op);
  }
  // Blocks of one tile of rows where none has more, as with generated tokens: they need fewer registers. The bits are the same.
  template <typename S, int kTiles, int kValueTiles>
  static void tensor_attention_as(Device& device, const Stream& stream, const GpuAttention& op) {
    if (op.max_count * op.heads <= 16) return attention_by<TensorAttentionKernel<S, 1, kValueTiles>>(device, stream, op);
    attention_by<TensorAttentionKernel<S, kTiles, kValueTiles>>(device, stream, op);
  }
  template <typename S>
  static void tensor_attention_of(Device& device, const Stream& stream, const GpuAttention& op) {
    const int dims = op.value_dim();
    if (dims <= 64) return tensor_attention_as<S, 4, 2>(device, stream, op);
    if (dims <= 128) return tensor_attention_as<S, 4, 4>(device, stream, op);
    if (dims <= 256) return tensor_attention_as<S, 2, 8>(device, stream, op);
    tensor_attention_as<S, 2, kGpuMaxValueDim / 32>(device, stream, op);
  }
  static void attention(Device& device, const Stream& stream, const GpuAttention& op) {
    if (op.num_tiles == 0) return;
    const bool small = op.kv_dtype == DType::i8;
    if (op.act == DType::f32) return small ? attention_of<int8_t>(device, stream, op) : attention_of<float>(device, stream, op);
    small ? tensor_attention_of<int8_t>(device, stream, op) : tensor_attention_of<bf16>(device, stream, op);
  }

  static void route(Device& device, const Stream& stream, const GpuRoute& op) {
    if (op.tokens == 0) return;
    const Region logits = region(op.logits, op.tokens * op.num_experts);
    Launch::template run<RouteKernel>(
        device, stream, "route",
        Grid{ceil_div<int64_t>(op.tokens, RouteKernel::kWarps), 1,
             sizeof(float) * static_cast<size_t>(RouteKernel::kWarps * (op.num_experts + op.num_groups))},
        op, {logits, region(op.bias, op.bias_dtype, 1, op.num_experts), region(op.expert_scales, op.expert_scales_dtype, 1, op.num_experts)},
        {region(op.chosen, op.tokens * op.top_k), region(op.weight, op.tokens * op.top_k)});
  }

  static void sort(Device& device, const Stream& stream, const GpuSort& op) {
    if (op.tokens == 0) return;
    const int64_t chunks = ceil_div(op.tokens, kGpuSortTokens);
    const Region chosen = region(op.chosen, op.tokens * op.top_k), counts = region(op.counts, chunks * op.num_experts),
                 begin = region(op.expert_begin, op.num_experts + 1);
    Launch::template run<SortCount>(device, stream, "sort: count", Grid{chunks}, op, {chosen}, {counts});
    Launch::template run<SortScan>(device, stream, "sort: scan", Grid{1, 1, sizeof(int32_t) * static_cast<size_t>(op.num_experts)}, op, {},
                                   {counts, begin});
    const int64_t rows = op.tokens * op.top_k;
    Launch::template run<SortPlace>(device, stream, "sort: place", Grid{chunks}, op,
                                    {chosen, counts, begin, region(op.row_weight != nullptr ? op.weight : nullptr, rows)},
                                    {region(op.row_of, rows), region(op.row_token, rows), region(op.row_weight, rows)});
  }

  static void move(Device& device, const Stream& stream, const GpuMove& op) {
    const int64_t from = op.scatter ? op.rows : op.all_rows, to = op.scatter ? op.all_rows : op.rows;
    elements<Move>(device, stream, op.scatter ? "scatter" : "gather", op, op.rows, op.width,
                   {region(op.x, op.dtype, from, op.x_stride, op.width), region(op.picked, op.rows), region(op.scale, op.rows)},
                   {region(op.y, op.dtype, to, op.y_stride, op.width)});
  }

  static void activate(Device& device, const Stream& stream, const GpuActivate& op) {
    elements<Activate>(device, stream, "activate", op, op.rows, op.width, {region(op.gate, op.rows * op.width), region(op.up, op.rows * op.width)},
                       {region(op.out, op.out_dtype, op.rows, op.width)});
  }

  template <bool kGated, DType kType>
  static void grouped_gemm_by(Device& device, const Stream& stream, const GpuGroupedGemm& op) {
    using Kernel = GroupedGemmKernel<kGated, kType>;
    const int64_t rows = op.last - op.first, cols = op.format[0].rows;
    const auto matrix = [&](int j) { return regions_of(op.one.matrix(kGated, j).in(op.format[j])); };
    const auto bias = [&](int j) { return region(op.one.matrix(kGated, j).bias, op.bias_dtype, 1, cols); };
    const MatrixRegions first = matrix(0), second = kGated ? matrix(1) : MatrixRegions{};
    Launch::template run<Kernel>(device, stream, "grouped gemm",
                                 Grid{ceil_div<int64_t>(cols, Kernel::kMatrixCols), op.num_tiles, Kernel::shared_bytes()}, op,
                                 {region(op.x, DType::bf16, op.picked != nullptr ? op.x_rows : rows, op.x_stride, op.format[0].cols),
                                  region(op.picked != nullptr ? op.picked + op.first : nullptr, rows), region(op.expert_begin, op.num_experts + 1),
                                  region(op.table, op.num_experts), op.table_memory, first.w, first.scales, first.zeros, bias(0), second.w,
                                  second.scales, second.zeros, kGated ? bias(1) : Region{}},
                                 {region(op.y, DType::bf16, rows, op.y_stride, cols)});
  }
  template <DType kType>
  static void grouped_gemm_as(Device& device, const Stream& stream, const GpuGroupedGemm& op) {
    op.gated ? grouped_gemm_by<true, kType>(device, stream, op) : grouped_gemm_by<false, kType>(device, stream, op);
  }
  static void grouped_gemm(Device& device, const Stream& stream, const GpuGroupedGemm& op) {
    if (op.last <= op.first) return;
    switch (op.format[0].w_dtype) {
      case DType::bf16:
        return grouped_gemm_as<DType::bf16>(device, stream, op);
      case DType::f16:
        return grouped_gemm_as<DType::f16>(device, stream, op);
      case DType::f8_e4m3:
        return grouped_gemm_as<DType::f8_e4m3>(device, stream, op);
      case DType::f4:
        return grouped_gemm_as<DType::f4>(device, stream, op);
      case DType::i4:
        return grouped_gemm_as<DType::i4>(device, stream, op);
      default:
        return grouped_gemm_as<DType::u8>(device, stream, op);
    }
  }

  static void combine(Device& device, const Stream& stream, const GpuCombine& op) {
    const int64_t rows = op.tokens * op.top_k;
    elements<Combine>(device, stream, "combine", op, op.tokens, op.width,
                      {region(op.out, op.act, rows, op.width), region(op.row_of, rows), region(op.weight, rows)},
                      {region(op.hidden, op.tokens * op.width)});
  }

  static void gate(Device& device, const Stream& stream, const GpuGate& op) {
    const int64_t width = int64_t{op.heads} * op.head_dim;
    elements<Gate>(device, stream, "gate", op, op.rows, width,
                   {region(op.gate, DType::f32, op.rows, op.gate_stride, (op.heads - 1) * op.gate_step + op.head_dim)},
                   {region(op.x, op.act, op.rows, width)});
  }

  static void add_gated(Device& device, const Stream& stream, const GpuAddGated& op) {
    elements<AddGated>(device, stream, "add gated", op, op.rows, op.width, {region(op.x, op.act, op.rows, op.width), region(op.logit, op.rows)},
                       {region(op.hidden, op.rows * op.width)});
  }

  static void cap(Device& device, const Stream& stream, const GpuCap& op) {
    elements<Cap>(device, stream, "cap", op, op.rows, op.width, {}, {region(op.x, op.rows * op.width)});
  }

  static void summarize(Device& device, const Stream& stream, const GpuSummarize& op) {
    if (op.rows == 0) return;
    const int64_t segments = op.segments_of_row();
    const Region logits = region(op.logits, op.rows * op.width), queries = region(op.queries, op.rows),
                 of_segments = region(op.segments, op.rows * segments);
    Launch::template run<SegmentKernel>(device, stream, "summarize: segments", Grid{ceil_div<int64_t>(segments, SegmentKernel::kWarps), op.rows}, op,
                                        {logits, queries}, {of_segments});
    Launch::template run<SummaryKernel>(device, stream, "summarize", Grid{op.rows, 1, sizeof(SummaryKernel::Room)}, op,
                                        {logits, queries, of_segments},
                                        {region(op.summaries, op.rows), region(op.candidates, op.rows * kLogitCandidates)});
  }

  [[nodiscard]] static GpuKernels table(decltype(GpuKernels::gemm) gemm) {
    return {gemm, expand, convert,  norm,         bias,    add_rows, place,     place_latent, attention, route,
            sort, move,   activate, grouped_gemm, combine, gate,     add_gated, cap,          summarize};
  }
};

}  // namespace moegen::gpu
