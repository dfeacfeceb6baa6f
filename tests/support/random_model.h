#pragma once

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <string>

#include "spec/tensor_table.h"

namespace moegen::testing {

/// Writes config.json and one model.safetensors of bfloat16 weights of 0.016 to 0.031, both signs; norms are 1.
inline void write_random_model(const std::filesystem::path& dir, const nlohmann::json& config, const ModelSpec& spec) {
  std::ofstream(dir / "config.json") << config.dump();
  nlohmann::json header;
  std::string data;
  std::mt19937_64 random(1);
  for (const TensorSpec& t : tensor_table(spec)) {
    size_t count = 1;
    for (const int64_t dim : t.shape) count *= static_cast<size_t>(dim);
    header[t.name] = {{"dtype", "BF16"}, {"shape", t.shape}, {"data_offsets", {data.size(), data.size() + 2 * count}}};
    for (size_t i = 0; i < count; ++i) {
      const uint64_t bits = random();
      const bool norm = t.shape.size() == 1;
      data += norm ? '\x80' : static_cast<char>(bits | 0x80U);
      data += norm ? '\x3f' : static_cast<char>(0x3cU | (bits >> 8 & 0x80U));
    }
  }
  const std::string text = header.dump();
  const uint64_t bytes = text.size();
  std::ofstream out(dir / "model.safetensors", std::ios::binary);
  out.write(reinterpret_cast<const char*>(&bytes), sizeof(bytes));
  out << text << data;
}

}  // namespace moegen::testing
