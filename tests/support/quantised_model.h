#pragma once

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "base/checked.h"
#include "checkpoint/checkpoint.h"
#include "tests/checkpoint/safetensors_writer.h"

namespace moegen::testing {

template <typename T>
std::string bytes_of_all(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

/// Three random checkpoints of the same values: `fp8` in e4m3 with `weight_scale_inv` (every other one in BF16), and what it expands to
/// in `bfloat16` and in `float32`. Scales of neighbouring blocks are far apart.
inline void write_quantised_models(const std::filesystem::path& dir, nlohmann::json config) {
  for (const char* name : {"fp8", "bfloat16", "float32"}) std::filesystem::create_directories(dir / name);
  for (const char* name : {"bfloat16", "float32"}) std::ofstream(dir / name / "config.json") << config.dump();
  config["quantization_config"] = {
      {"quant_method", "fp8"}, {"fmt", "e4m3"}, {"activation_scheme", "dynamic"}, {"weight_block_size", {kF8Block, kF8Block}}};
  std::ofstream(dir / "fp8" / "config.json") << config.dump();
  SafetensorsWriter fp8, halves, floats;
  std::mt19937 rng(5);
  std::normal_distribution<float> normal;
  size_t index = 0;
  for (const TensorSpec& t : tensor_table(load_spec(dir / "fp8"))) {
    const int64_t cols = t.shape.back();
    const int64_t rows = t.shape.size() > 1 ? t.shape[0] : 1;
    const std::vector<int64_t> grid{ceil_div(rows, kF8Block), ceil_div(cols, kF8Block)};
    std::vector<bf16> scales(static_cast<size_t>(grid[0] * grid[1]));
    for (bf16& s : scales) s = to_bf16(std::exp2(-12 + normal(rng)));
    std::vector<f8_e4m3> codes;
    std::vector<float> values;
    for (int64_t i = 0; i < rows * cols; ++i) {
      codes.push_back(to_f8_e4m3(normal(rng) * 100));
      const float scale = to_float(scales[static_cast<size_t>(i / cols / kF8Block * grid[1] + i % cols / kF8Block)]);
      values.push_back(t.shape.size() == 1 ? 1 : to_float(codes.back()) * scale);
    }
    std::vector<bf16> rounded;
    for (const float value : values) rounded.push_back(to_bf16(value));
    halves.add(t.name, DType::bf16, t.shape, bytes_of_all(rounded));
    floats.add(t.name, t.quantised ? DType::f32 : DType::bf16, t.shape, t.quantised ? bytes_of_all(values) : bytes_of_all(rounded));
    if (!t.quantised) {
      fp8.add(t.name, DType::bf16, t.shape, bytes_of_all(rounded));
      continue;
    }
    fp8.add(t.name, DType::f8_e4m3, t.shape, bytes_of_all(codes));
    if (index++ % 2 == 0) {
      fp8.add(t.name + "_scale_inv", DType::bf16, grid, bytes_of_all(scales));
    } else {
      std::vector<float> wide;
      for (const bf16 s : scales) wide.push_back(to_float(s));
      fp8.add(t.name + "_scale_inv", DType::f32, grid, bytes_of_all(wide));
    }
  }
  std::ofstream(dir / "fp8" / "model.safetensors", std::ios::binary) << fp8.file();
  std::ofstream(dir / "bfloat16" / "model.safetensors", std::ios::binary) << halves.file();
  std::ofstream(dir / "float32" / "model.safetensors", std::ios::binary) << floats.file();
}

inline nlohmann::json int4_config(nlohmann::json config, int64_t group) {
  const nlohmann::json weights = {{"num_bits", 4},       {"type", "int"},       {"symmetric", true},
                                  {"strategy", "group"}, {"group_size", group}, {"actorder", nullptr}};
  const nlohmann::json group_0 = {{"targets", {"Linear"}}, {"weights", weights}, {"input_activations", nullptr}, {"output_activations", nullptr}};
  config["quantization_config"] = {
      {"quant_method", "compressed-tensors"}, {"format", "pack-quantized"}, {"config_groups", {{"group_0", group_0}}}, {"ignore", {"lm_head"}}};
  return config;
}

/// Three random checkpoints of the same values: `int4` with experts as compressed-tensors packs them, and what they expand to in `bfloat16`
/// and in `float32`.
inline void write_int4_models(const std::filesystem::path& dir, const nlohmann::json& config, int64_t group) {
  for (const char* name : {"int4", "bfloat16", "float32"}) std::filesystem::create_directories(dir / name);
  for (const char* name : {"bfloat16", "float32"}) std::ofstream(dir / name / "config.json") << config.dump();
  std::ofstream(dir / "int4" / "config.json") << int4_config(config, group).dump();
  SafetensorsWriter packed, halves, floats;
  std::mt19937 rng(7);
  std::normal_distribution<float> normal;
  const auto table = tensor_table(load_spec(dir / "int4"));
  for (const TensorSpec& t : table) {
    if (is_scales(t.role)) continue;
    const auto count = static_cast<size_t>(elements_of(t));
    if (t.quantised != DType::i4) {
      std::vector<bf16> values(count);
      for (bf16& x : values) x = to_bf16(t.shape.size() == 1 && t.name.ends_with("norm.weight") ? 1 : 0.2F * normal(rng));
      for (SafetensorsWriter* w : {&packed, &halves, &floats}) w->add(t.name, DType::bf16, t.file_shape, bytes_of_all(values));
      continue;
    }
    std::vector<uint8_t> pairs(count / 2);
    std::vector<bf16> scales(count / static_cast<size_t>(group)), rounded(count);
    std::vector<float> values(count);
    for (uint8_t& x : pairs) x = static_cast<uint8_t>(rng());
    for (bf16& s : scales) s = to_bf16(0.02F + 0.01F * normal(rng));
    for (size_t i = 0; i < count; ++i) {
      values[i] = static_cast<float>(static_cast<int>(pairs[i / 2] >> (i % 2 * 4) & 15U) - 8) * to_float(scales[i / static_cast<size_t>(group)]);
      rounded[i] = to_bf16(values[i]);
    }
    const std::string plain = t.name.substr(0, t.name.size() - std::string("_packed").size());
    packed.add(t.name, DType::i32, t.file_shape, bytes_of_all(pairs));
    packed.add(plain + "_scale", DType::bf16, {t.shape[0], t.shape[1] / group}, bytes_of_all(scales));
    packed.add(plain + "_shape", DType::i64, {2}, bytes_of_all(t.shape));
    halves.add(plain, DType::bf16, t.shape, bytes_of_all(rounded));
    floats.add(plain, DType::f32, t.shape, bytes_of_all(values));
  }
  std::ofstream(dir / "int4" / "model.safetensors", std::ios::binary) << packed.file();
  std::ofstream(dir / "bfloat16" / "model.safetensors", std::ios::binary) << halves.file();
  std::ofstream(dir / "float32" / "model.safetensors", std::ios::binary) << floats.file();
}

/// Two random checkpoints of the same values: `mxfp4` with experts in MXFP4, and what they expand to in `bfloat16`, [experts, in, out].
inline void write_mxfp4_models(const std::filesystem::path& dir, nlohmann::json config) {
  for (const char* name : {"mxfp4", "bfloat16"}) std::filesystem::create_directories(dir / name);
  std::ofstream(dir / "bfloat16" / "config.json") << config.dump();
  config["quantization_config"] = {{"quant_method", "mxfp4"}};
  std::ofstream(dir / "mxfp4" / "config.json") << config.dump();
  SafetensorsWriter codes, halves;
  std::mt19937 rng(6);
  std::normal_distribution<float> normal;
  const auto table = tensor_table(load_spec(dir / "mxfp4"));
  for (const TensorSpec& t : table) {
    if (t.slice > 0 || t.quantised == DType::f8_e8m0) continue;
    size_t count = 1;
    for (const int64_t dim : t.file_shape) count *= static_cast<size_t>(dim);
    if (t.quantised != DType::f4) {
      std::vector<bf16> values(count);
      for (bf16& x : values) x = to_bf16(t.shape.size() == 1 && t.name.ends_with("norm.weight") ? 1 : 0.2F * normal(rng));
      codes.add(t.name, DType::bf16, t.file_shape, bytes_of_all(values));
      halves.add(t.name, DType::bf16, t.file_shape, bytes_of_all(values));
      continue;
    }
    const size_t rows = static_cast<size_t>(t.shape[0]), cols = static_cast<size_t>(t.shape[1]);
    std::vector<uint8_t> pairs(count), scales(2 * count / kF4Block);
    for (uint8_t& x : pairs) x = static_cast<uint8_t>(rng());
    for (uint8_t& x : scales) x = static_cast<uint8_t>(118 + rng() % 5);
    std::vector<bf16> values(2 * count);
    for (size_t i = 0; i < 2 * count; ++i) {
      const float value = f4_to_float(pairs[i / 2] >> (i % 2 * 4) & 15U) * to_float(f8_e8m0{scales[i / kF4Block]});
      const size_t expert = i / (rows * cols), row = i / cols % rows, col = i % cols;
      values[(expert * cols + col) * rows + row] = to_bf16(value);
    }
    const std::string name = t.name.substr(0, t.name.size() - std::string_view("_blocks").size());
    const auto in_out = std::vector<int64_t>{t.file_shape[0], t.shape[1], t.shape[0]};
    codes.add(t.name, DType::u8, t.file_shape, bytes_of_all(pairs));
    codes.add(name + "_scales", DType::u8, {t.file_shape[0], t.shape[0], t.shape[1] / kF4Block}, bytes_of_all(scales));
    halves.add(name, DType::bf16, in_out, bytes_of_all(values));
  }
  std::ofstream(dir / "mxfp4" / "model.safetensors", std::ios::binary) << codes.file();
  std::ofstream(dir / "bfloat16" / "model.safetensors", std::ios::binary) << halves.file();
}

}  // namespace moegen::testing
