#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/dtype.h"

namespace moegen {

/// A small writer of safetensors files, which can also write wrong ones: the header is JSON that a test may change.
class SafetensorsWriter {
 public:
  void add(const std::string& name, DType dtype, const std::vector<int64_t>& shape, const std::string& bytes) {
    header[name] = {{"dtype", name_of(dtype)}, {"shape", shape}, {"data_offsets", {data.size(), data.size() + bytes.size()}}};
    data += bytes;
  }

  /// With bytes that depend on the name and the position, so that a mistaken place is seen.
  void add(const std::string& name, DType dtype, const std::vector<int64_t>& shape) {
    size_t bytes = bytes_of(dtype);
    for (const int64_t dim : shape) bytes *= static_cast<size_t>(dim);
    add(name, dtype, shape, pattern(name, bytes));
  }

  static std::string pattern(const std::string& name, size_t bytes) {
    std::string out(bytes, '\0');
    uint64_t state = std::hash<std::string>()(name);
    for (char& c : out) {
      state = state * 6364136223846793005U + 1442695040888963407U;
      c = static_cast<char>(state >> 56);
    }
    return out;
  }

  static std::string file(uint64_t header_bytes, const std::string& rest) {
    std::string out;
    for (int i = 0; i < 8; ++i) out += static_cast<char>(header_bytes >> (8 * i) & 0xff);
    return out + rest;
  }

  [[nodiscard]] std::string file() const {
    const std::string text = header.dump();
    return file(text.size(), text + data);
  }

  nlohmann::json header = nlohmann::json::object();
  std::string data;
};

}  // namespace moegen
