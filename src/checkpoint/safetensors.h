#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/file.h"

namespace moegen {

/// One tensor of a safetensors file.
struct TensorInfo {
  std::string name;
  DType dtype = DType::f32;
  std::vector<int64_t> shape;
  size_t file_idx = 0;  ///< of the checkpoint's files
  uint64_t offset = 0;  ///< from the start of the file
  uint64_t bytes = 0;
};

/// Reads the header of a safetensors file: eight bytes of length, JSON, then the tensors' bytes without gaps.
/// The header is hostile: its size, the number, names and ranks of its tensors are capped, sizes are computed with overflow
/// checks, every byte range must fit its dtype and shape, and together the ranges must cover the rest of the file exactly.
/// Throws Error(corrupt) naming the file and the tensor.
std::vector<TensorInfo> read_safetensors_header(const FileReader& file, size_t file_idx);

}  // namespace moegen
