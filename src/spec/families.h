#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "spec/config.h"
#include "spec/model_spec.h"
#include "spec/tensor_table.h"

namespace moegen {

/// What is read or called otherwise than usual, and not by Family::read.
struct FamilyTraits {
  bool latent_attention = false;
  bool partial_rope = false;       ///< partial_rotary_factor says how much of a head is turned
  bool rotary_dim = false;         ///< where it does not, rotary_dim does
  bool layers_differ = false;      ///< per_layer_config has some of what layers differ in
  std::string_view own_rope = {};  ///< a rope type that means something here alone: "dynamic" with a fixed alpha, "longrope"
  std::string_view rope_of = {};   ///< where rope_parameters differ by layer type: the type whose are read for all layers
  std::string_view prefix = {};    ///< of tensors that are called "model." in the common names; the model is in config.json's text_config
  std::string_view also = {};      ///< another name of the architecture
  bool mxfp4 = false;              ///< its experts may be so
  bool splits = false;             ///< experts are one tensor, but each its own, under the common names, where they are quantised otherwise
  std::string_view tested = {};    ///< formats in which it has golden outputs, beside the plain ones: "FP8 INT4"
  std::string_view same_as = {};   ///< the family that this one is but for names, and by whose golden outputs it is tested
};

/// One architecture: its names in config.json, how its spec is read, how its tensors are called.
struct Family {
  std::string_view model_type;                          ///< "mixtral"
  std::string_view architecture;                        ///< "MixtralForCausalLM"
  void (*read)(const Config& config, ModelSpec& spec);  ///< fills what differs from the common parts
  std::span<const TensorName> names;                    ///< where they differ from the common ones
  FamilyTraits traits = {};
};

[[nodiscard]] std::span<const Family> families();

/// Whether gate and up of a routed expert are one tensor.
[[nodiscard]] bool has_fused_experts(const Family& family);
/// Whether its linear layers may be quantised, other than in MXFP4.
[[nodiscard]] bool takes_quantised(const Family& family);
/// In which it reads weights: "F32 F16 BF16 FP8 INT8 INT4".
[[nodiscard]] std::string formats_of(const Family& family);

/// In which its original has golden outputs: "plain FP8".
[[nodiscard]] std::string tested_formats_of(const Family& family);

/// The model_type by whose golden outputs and defaults it goes: its own, or that of the family that it is but for names.
[[nodiscard]] std::string_view original(const Family& family);

/// Throws Error(unsupported) naming the architecture and those that are supported.
[[nodiscard]] const Family& find_family(const Config& config);

/// Reads config.json, for contexts of up to `max_model_len` tokens: a model with longrope has other frequencies where they may be longer than those
/// of its first training. Throws Error(corrupt) for a field that is missing or out of range, Error(unsupported) for a feature.
[[nodiscard]] ModelSpec read_spec(const Config& whole, std::optional<int64_t> max_model_len = std::nullopt);

}  // namespace moegen
