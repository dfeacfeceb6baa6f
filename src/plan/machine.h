#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "plan/curve.h"
#include "spec/model_spec.h"

namespace moegen {

struct AttentionShape {
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int latent_dim = 0;  ///< as the kernels' Attention has it
  int plain_dim = 0;   ///< of latent attention: LatentSpec
  int v_dim = 0;       ///< likewise

  AttentionShape() = default;
  AttentionShape(int num_heads, int num_kv_heads, int dim, int latent = 0, int plain = 0, int v = 0)
      : heads(num_heads), kv_heads(num_kv_heads), head_dim(dim), latent_dim(latent), plain_dim(plain), v_dim(v) {}
  explicit AttentionShape(const AttentionSpec& a)
      : AttentionShape(a.num_heads, a.num_kv_heads, a.head_dim, a.latent.kv_rank, a.latent.plain_dim, a.latent.v_dim) {}
  /// Of the products of a generated token's heads with a key and its value.
  [[nodiscard]] double flops() const { return 2.0 * heads * (head_dim + (latent_dim > 0 ? latent_dim : head_dim)); }
  /// Likewise of a prompt's token, which has the expanded form in latent attention,
  [[nodiscard]] double prompt_flops() const { return latent_dim > 0 ? 2.0 * heads * (plain_dim + head_dim - latent_dim + v_dim) : flops(); }
  /// where a key and its value are made of the latent for all queries of a chunk.
  [[nodiscard]] double expansion_flops() const { return 2.0 * heads * latent_dim * (plain_dim + v_dim); }
  bool operator==(const AttentionShape&) const = default;
};

/// What a matrix is in.
struct MatrixFormat {
  DType dtype = DType::bf16;  ///< f32, bf16 (of 16 bits in general), or f8_e4m3, f4, i4, u8
  double bytes = 2;           ///< of an element, its part of scales and zero points included
  int64_t group = 0;          ///< neighbours in a row that share a scale; 0: a whole row, or none

  /// What is not quantised: f16 has the size of bf16, and its rate.
  static MatrixFormat plain(DType dtype) { return dtype == DType::f32 ? MatrixFormat{DType::f32, 4} : MatrixFormat{}; }
  bool operator==(const MatrixFormat&) const = default;
};

/// Of a token's K and V in a layer, in pages.
[[nodiscard]] double kv_token_bytes(const AttentionShape& shape, DType kv);

/// From DRAM, or to it, for a generated token in a layer of linear attention.
[[nodiscard]] double delta_decode_bytes(const DeltaSpec& d);

/// How fast the steps of a pass are on one machine, for one model's shapes and dtypes, on all threads of `cpu.cores`.
struct StepRates {
  /// down(act(gate) * up): FLOP/s over tokens of the MLP; weights come from DRAM, as in a sweep over all experts.
  struct Mlp {
    int64_t hidden = 0;
    int64_t width = 0;
    Curve flops;
    DType weights = DType::bf16;  ///< MatrixFormat's
    bool operator==(const Mlp&) const = default;
  };
  /// [rows, k] x [outputs, k]^T: FLOP/s over rows, weights from DRAM.
  struct Linear {
    int64_t outputs = 0;
    int64_t k = 0;
    Curve flops;
    DType weights = DType::bf16;
    bool operator==(const Linear&) const = default;
  };
  struct Attention {
    AttentionShape shape;
    Surface decode;  ///< bytes/s of K and V over the context, for numbers of sequences
    Curve prefill;   ///< FLOP/s (prompt_flops() a query and key, expansion_flops() a key) over the context, where a prompt ends
    bool operator==(const Attention&) const = default;
  };
  /// What goes row by row: elements/s over rows, in parentheses the elements of a row.
  struct Rows {
    Curve embed;    ///< begin_pass: embedding, angles (hidden)
    Curve norm;     ///< (hidden)
    Curve place;    ///< norms of heads, rope, rounding, K and V to their pages (q, k and v together)
    Curve route;    ///< softmax, the best k, the sort by expert (experts)
    Curve combine;  ///< the weighted sum of experts' outputs (top k x hidden)
    Curve argmax;   ///< a greedy token (vocabulary)
    Curve draw;     ///< a token at a temperature (vocabulary)
    bool operator==(const Rows&) const = default;
  };

  DType act = DType::bf16;  ///< f32 or bf16
  DType kv = DType::bf16;   ///< f32, bf16 or i8
  std::vector<Mlp> mlps;
  std::vector<Linear> linears;
  std::vector<Attention> attentions;
  Rows rows;
  double fork_join_seconds = 0;  ///< of a job that has nothing to do
  double pass_seconds = 0;       ///< of one token through a layer so small that only fixed costs are left
  bool operator==(const StepRates&) const = default;
};

/// A machine as data: what moegen bench machine measured, or what a file says about one that is not here. Bytes, bytes/s, FLOP/s.
struct Machine {
  struct Gpu {
    std::string name;
    uint64_t memory_bytes = 0;
    double bf16_flops = 0;
    std::optional<double> fp8_flops;
    double memory_bandwidth = 0;
    Curve products;                             ///< FLOP/s of an expert over its tokens, weights from device memory
    Curve grouped;                              ///< likewise of several experts in a launch; empty: each has its own
    std::optional<double> attention_flops;      ///< of prompts
    std::optional<double> attention_bandwidth;  ///< of K and V that generated tokens see
    bool operator==(const Gpu&) const = default;
  };
  /// Between host and GPU.
  struct Link {
    double h2d = 0;
    double d2h = 0;
    std::optional<double> both;  ///< at once, the sum
    bool operator==(const Link&) const = default;
  };
  /// Multiply-adds in registers: FLOP/s over threads.
  struct Peak {
    std::string path;
    DType dtype = DType::bf16;
    Curve flops;
    bool operator==(const Peak&) const = default;
  };
  struct Cpu {
    int cores = 0;     ///< threads that compute
    std::string path;  ///< of the kernels; empty: not known
    double bf16_flops = 0;
    double attention_flops = 0;  ///< where K and V are at hand
    std::vector<Peak> peaks;     ///< of every path
    bool operator==(const Cpu&) const = default;
  };
  struct Dram {
    uint64_t bytes = 0;
    double bandwidth = 0;  ///< of reads
    Curve by_threads;
    bool operator==(const Dram&) const = default;
  };
  struct Ssd {
    uint64_t bytes = 0;
    std::optional<double> read_bandwidth;  ///< past the page cache; empty: no such reads, `note` says why
    Surface by_depth;                      ///< bytes/s over the bytes of a read, for numbers of reads under way
    double beside_compute = 1;             ///< share of its rate that is left while the cores compute
    double compute_beside = 1;             ///< share of the cores' rate that is left while it is read
    std::string note;
    bool operator==(const Ssd&) const = default;
  };
  struct Origin {
    std::string at;      ///< "2026-11-23T20:20:00Z"
    double seconds = 0;  ///< that measuring took
    std::string build;   ///< of moegen
    bool operator==(const Origin&) const = default;
  };

  std::string name;
  std::optional<Gpu> gpu;
  std::optional<Link> link;
  Cpu cpu;
  Dram dram;
  std::optional<Ssd> ssd;
  std::optional<StepRates> steps;  ///< empty: rates come from peak and bandwidth
  std::optional<Origin> measured;
  bool operator==(const Machine&) const = default;

  /// Seconds that steps take here: from their curves, those of the shape that is nearest, or else from peak and bandwidth alone.
  /// Sizes are above 0.
  /// @{
  /// One MLP over `tokens`, its weights from DRAM.
  [[nodiscard]] double mlp_seconds(int64_t hidden, int64_t width, double tokens, const MatrixFormat& weights) const;
  /// [rows, k] x [outputs, k]^T.
  [[nodiscard]] double linear_seconds(int64_t outputs, int64_t k, double rows, const MatrixFormat& weights) const;
  /// One generated token each of `sequences`, which have `context` tokens each, with K and V in `kv`.
  [[nodiscard]] double decode_seconds(const AttentionShape& shape, double sequences, double context, DType kv) const;
  /// Of linear attention, over tokens of which `decodes` are generated ones, each with its own state; estimated, not measured.
  [[nodiscard]] double delta_seconds(const DeltaSpec& d, double tokens, double decodes) const;
  /// Queries of prompts that end at `context` and see `keys` keys in all; `chunk_ends`: positions up to the end of each chunk, together.
  [[nodiscard]] double prefill_seconds(const AttentionShape& shape, double context, double keys, double chunk_ends) const;
  /// `rows` rows of `width` elements.
  [[nodiscard]] double row_seconds(Curve StepRates::Rows::*step, double rows, double width) const;
  /// @}
};

}  // namespace moegen
