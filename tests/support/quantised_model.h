#pragma once

#include <bit>
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

/// A quantization_config of compressed-tensors: all linear layers, but those of routers and of the head.
inline nlohmann::json compressed_config(const char* format, nlohmann::json weights) {
  const nlohmann::json group_0 = {{"targets", {"Linear"}}, {"weights", std::move(weights)}, {"input_activations", nullptr}};
  return {{"quant_method", "compressed-tensors"},
          {"format", format},
          {"config_groups", {{"group_0", group_0}}},
          {"ignore", {"lm_head", "re:.*mlp\\.gate$"}}};
}
/// `group` 0: a scale for each row.
inline nlohmann::json int_weights(int bits, int64_t group, bool symmetric) {
  nlohmann::json out = {{"num_bits", bits}, {"type", "int"}, {"symmetric", symmetric}, {"strategy", group > 0 ? "group" : "channel"}};
  if (group > 0) out["group_size"] = group;
  return out;
}

/// Codes of a tensor of the table as the files have them, independent of what reads them. Zero points likewise.
inline std::string packed_codes(const TensorSpec& t, const std::vector<uint8_t>& codes) {
  const auto rows = static_cast<size_t>(t.shape[0]), cols = static_cast<size_t>(t.shape[1]);
  const size_t bits = t.part == Part::values && t.quantised == DType::u8 ? 8 : static_cast<size_t>(t.code_bits), in_word = 32 / bits;
  const size_t half = size_t{1} << (bits - 1), mask = 2 * half - 1;
  size_t words = 1;
  for (const int64_t dim : t.file_shape) words *= static_cast<size_t>(dim);
  if (t.file_dtype == DType::i8) {
    std::string out;
    for (const uint8_t code : codes) out += static_cast<char>(code - half);
    return out;
  }
  std::vector<uint32_t> out(words);
  for (size_t r = 0; r < rows; ++r) {
    for (size_t c = 0; c < cols; ++c) {
      size_t word = 0, place = r % in_word, code = codes[r * cols + c];
      if (t.form == Form::rows) word = (r * cols + c) / in_word, place = c % in_word;
      if (t.form == Form::words_along) word = c / in_word * rows + r, place = c % in_word;
      if (t.form == Form::words_down) word = r / in_word * cols + c;
      if (t.form == Form::words || t.form == Form::words_less_one || t.form == Form::awq_words) word = c * (rows / in_word) + r / in_word;
      if (t.form == Form::words_less_one) code = (code - 1) & mask;
      if (t.form == Form::awq_words) place = std::string_view("04152637")[place] - '0';
      out[word] |= static_cast<uint32_t>(code << place * bits);
    }
  }
  return bytes_of_all(out);
}

/// Three random checkpoints of the same values: `coded` as `quantization` has them, and what they expand to in `bfloat16` and in `float32`.
class CodedModels {
 public:
  CodedModels(const std::filesystem::path& dir, const nlohmann::json& config, const nlohmann::json& quantization) {
    for (const char* name : {"coded", "bfloat16", "float32"}) std::filesystem::create_directories(dir / name);
    for (const char* name : {"bfloat16", "float32"}) std::ofstream(dir / name / "config.json") << config.dump();
    nlohmann::json quantised = config;
    quantised["quantization_config"] = quantization;
    std::ofstream(dir / "coded" / "config.json") << quantised.dump();
    const auto table = tensor_table(load_spec(dir / "coded"));
    for (size_t i = 0; i < table.size(); ++i) {
      const TensorSpec& t = table[i];
      if (t.part != Part::values) continue;
      if (t.quantised == DType::f8_e4m3) {
        add_f8(t);
      } else if (t.quantised) {
        const bool zeros = i + 2 < table.size() && table[i + 2].part == Part::zeros;
        add_codes(t, table[i + 1], zeros ? &table[i + 2] : nullptr);
      } else {
        std::vector<bf16> values(static_cast<size_t>(elements_of(t)));
        for (bf16& x : values) x = to_bf16(t.shape.size() == 1 && t.name.ends_with("norm.weight") ? 1 : 0.2F * normal_(rng_));
        for (SafetensorsWriter* w : {&coded_, &halves_, &floats_}) w->add(t.name, DType::bf16, t.file_shape, bytes_of_all(values));
      }
    }
    std::ofstream(dir / "coded" / "model.safetensors", std::ios::binary) << coded_.file();
    std::ofstream(dir / "bfloat16" / "model.safetensors", std::ios::binary) << halves_.file();
    std::ofstream(dir / "float32" / "model.safetensors", std::ios::binary) << floats_.file();
  }

 private:
  void add_values(const std::string& name, const TensorSpec& t, const std::vector<float>& values) {
    std::vector<bf16> rounded;
    for (const float x : values) rounded.push_back(to_bf16(x));
    halves_.add(name, DType::bf16, t.shape, bytes_of_all(rounded));
    floats_.add(name, DType::f32, t.shape, bytes_of_all(values));
  }

  // A scale for each row, or every other time one for all.
  void add_f8(const TensorSpec& t) {
    const auto rows = static_cast<size_t>(t.shape[0]), cols = static_cast<size_t>(t.shape[1]);
    std::vector<f8_e4m3> codes(rows * cols);
    std::vector<bf16> scales(index_++ % 2 == 0 ? rows : 1);
    for (f8_e4m3& c : codes) c = to_f8_e4m3(normal_(rng_) * 100);
    for (bf16& s : scales) s = to_bf16(std::exp2(-9 + normal_(rng_)));
    std::vector<float> values;
    for (size_t i = 0; i < codes.size(); ++i) values.push_back(to_float(codes[i]) * to_float(scales[i / cols % scales.size()]));
    coded_.add(t.name, DType::f8_e4m3, t.shape, bytes_of_all(codes));
    const auto count = static_cast<int64_t>(scales.size());
    coded_.add(t.name + "_scale", DType::bf16, count == 1 ? std::vector<int64_t>{1} : std::vector{count, int64_t{1}}, bytes_of_all(scales));
    add_values(t.name, t, values);
  }

  void add_codes(const TensorSpec& t, const TensorSpec& s, const TensorSpec* z) {
    const auto rows = static_cast<size_t>(t.shape[0]), cols = static_cast<size_t>(t.shape[1]), groups = static_cast<size_t>(s.shape[1]);
    const unsigned codes_there = t.quantised == DType::i4 ? 16 : 256;
    std::vector<uint8_t> codes(rows * cols), zeros(rows * groups, static_cast<uint8_t>(codes_there / 2));
    for (uint8_t& x : codes) x = static_cast<uint8_t>(rng_() % codes_there);
    for (uint8_t& x : zeros) x = z != nullptr ? static_cast<uint8_t>(rng_() % codes_there) : x;
    std::vector<uint16_t> scales(rows * groups);
    std::vector<float> wide(scales.size()), values(codes.size());
    for (size_t i = 0; i < scales.size(); ++i) {
      const float scale = (0.02F + 0.01F * normal_(rng_)) * 16 / static_cast<float>(codes_there);
      const bool half = s.quantised == DType::f16;
      scales[i] = half ? to_f16(scale) : to_bf16(scale).bits;
      wide[i] = half ? to_float(f16{scales[i]}) : to_float(bf16{scales[i]});
    }
    for (size_t i = 0; i < codes.size(); ++i) {
      const size_t at = i / cols * groups + i % cols / (cols / groups);
      values[i] = static_cast<float>(codes[i] - zeros[at]) * wide[at];
    }
    coded_.add(t.name, *t.file_dtype, t.file_shape, packed_codes(t, codes));
    std::vector<uint16_t> turned;
    for (size_t i = 0; i < scales.size(); ++i) turned.push_back(scales[i % rows * groups + i / rows]);
    coded_.add(s.name, *s.quantised, s.file_shape, bytes_of_all(s.form == Form::turned ? turned : scales));
    if (z != nullptr) coded_.add(z->name, *z->file_dtype, z->file_shape, packed_codes(*z, zeros));
    const std::string module = s.name.substr(0, s.name.rfind('.'));
    if (t.name.ends_with("_packed")) coded_.add(module + ".weight_shape", DType::i64, {2}, bytes_of_all(t.shape));
    if (t.order_beside) {
      std::vector<int32_t> order(cols);
      for (size_t i = 0; i < cols; ++i) order[i] = static_cast<int32_t>(i / (cols / groups));
      coded_.add(module + ".g_idx", DType::i32, {t.shape[1]}, bytes_of_all(order));
    }
    add_values(module + ".weight", t, values);
  }

  // Of a number whose half is normal; cut off.
  static uint16_t to_f16(float x) {
    const auto u = std::bit_cast<uint32_t>(x);
    const int exponent = static_cast<int>(u >> 23 & 0xff) - 112;
    return exponent <= 0 ? 0x1000 : static_cast<uint16_t>((u >> 16 & 0x8000) | static_cast<uint32_t>(exponent) << 10 | (u >> 13 & 0x3ff));
  }

  SafetensorsWriter coded_, halves_, floats_;
  std::mt19937 rng_{7};
  std::normal_distribution<float> normal_;
  size_t index_ = 0;
};

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
    if (t.slice > 0 || t.part == Part::scales) continue;
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
