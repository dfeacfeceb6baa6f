#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "spec/config.h"

namespace moegen {

/// How a checkpoint has the matrix of a linear layer, which is "X.weight", [out, in], where it is plain. `group` neighbours in a row share a
/// scale, and where there are such a zero point: a value is (code - zero) * scale. c codes are in an integer of 32 bits, the first in its lowest.
enum class WeightFormat : uint8_t {
  f8_blocks,  ///< X.weight in e4m3; X.weight_scale_inv for each 128 x 128
  f8_rows,    ///< X.weight in e4m3; X.weight_scale [out, 1], or one number (compressed-tensors)
  mxfp4,      ///< of routed experts alone: X_blocks in e2m1, X_scales in e8m0 for 32 neighbours
  packed,     ///< X.weight_packed [out, in / c]; X.weight_scale [out, groups]; X.weight_zero_point [out / c, groups] (compressed-tensors)
  bytes,      ///< X.weight in I8; X.weight_scale, X.weight_zero_point in I8 [out, groups] (compressed-tensors)
  gptq,       ///< X.qweight [in / c, out]; X.scales [groups, out]; X.qzeros [groups, out / c]; X.g_idx [in]
  awq,        ///< X.qweight [in, out / 8], X.qzeros [groups, out / 8], in each integer outputs 0 2 4 6 1 3 5 7; X.scales [groups, out]
};

/// What a name of a module may be: all of `text`, or what the pattern `text` matches from its begin on, or anything of which `text` is a part
/// between dots ("mlp.gate" of "model.layers.0.mlp.gate", "gate" not of "gate_proj"; "" of all).
struct NamePattern {
  enum class Kind : uint8_t { whole, regex, part };
  Kind kind = Kind::whole;
  std::string text;
};

/// One way in which linear layers are quantised.
struct WeightScheme {
  WeightFormat format = WeightFormat::f8_blocks;
  int bits = 8;
  int64_t group = 0;                      ///< 0: a whole row
  bool zeros = false;                     ///< there are zero points; without, a code's is half of the codes
  bool less_one = false;                  ///< gptq: X.qzeros has them less one
  std::vector<NamePattern> targets = {};  ///< the modules; none: all
};

/// quantization_config: at most one scheme applies to a module.
struct Quantisation {
  std::vector<WeightScheme> schemes;
  std::vector<NamePattern> ignored;  ///< modules that are plain

  [[nodiscard]] bool none() const { return schemes.empty(); }
  [[nodiscard]] bool is(WeightFormat format) const { return schemes.size() == 1 && schemes[0].format == format; }
};

/// Of config.json; `mxfp4`: the family's experts may be so. Throws Error(unsupported) naming what is not known, Error(corrupt).
[[nodiscard]] Quantisation read_quantisation(const Config& c, bool mxfp4);

/// Finds schemes by names. Compiles the patterns once: make one for many names. Throws Error(unsupported) for a pattern that is not understood.
class SchemeFinder {
 public:
  explicit SchemeFinder(const Quantisation& quantisation);
  ~SchemeFinder();
  SchemeFinder(const SchemeFinder&) = delete;
  SchemeFinder& operator=(const SchemeFinder&) = delete;

  /// Of the module "model.layers.0.self_attn.q_proj", or null: it is plain.
  [[nodiscard]] const WeightScheme* find(const std::string& module) const;
  /// As if it were not ignored.
  [[nodiscard]] const WeightScheme* find_target(const std::string& module) const;

 private:
  struct Patterns;
  const Quantisation& quantisation_;
  std::unique_ptr<Patterns> patterns_;
};

}  // namespace moegen
