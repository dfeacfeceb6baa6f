#pragma once

#include <algorithm>
#include <string>

#include "spec/tensor_table.h"
#include "tests/checkpoint/safetensors_writer.h"

namespace moegen {

/// Writes the tensor of a file that `t` is, or is a slice of, once, with the pattern of its name. What is packed has a type of its own there.
inline void add_tensor(SafetensorsWriter& writer, const TensorSpec& t, DType dtype) {
  if (t.slice <= 0) writer.add(t.name, t.file_dtype.value_or(dtype), t.file_shape);
}

/// What then must come to lie in memory, in elements of `dtype`: its slice, turned.
inline std::string bytes_in_memory(const TensorSpec& t, DType dtype) {
  const size_t count = elements_of(t), bytes = bytes_of(dtype, count);
  const auto slices = static_cast<size_t>(t.slice < 0 ? 1 : t.file_shape[0]);
  const std::string there = SafetensorsWriter::pattern(t.name, slices * bytes).substr(static_cast<size_t>(std::max(0, t.slice)) * bytes, bytes);
  if (t.form != Form::turned) return there;
  std::string out;
  const auto rows = static_cast<size_t>(t.shape[0]), cols = static_cast<size_t>(t.shape[1]), size = bytes / count;
  for (size_t i = 0; i < count; ++i) out += there.substr((i % cols * rows + i / cols) * size, size);
  return out;
}

}  // namespace moegen
