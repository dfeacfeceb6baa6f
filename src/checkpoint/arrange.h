#pragma once

#include <cstddef>
#include <cstdint>

#include "spec/tensor_table.h"

namespace moegen {

/// What a file has in `form` is brought to rows of [rows, cols]: of elements of 1, 2 or 4 bytes; of codes of `code_bits`, two of four bits side by
/// side, the first in the lower ones; of zero points, a byte each. `from` and `to` may lie anywhere, and must not overlap, unless they are the same
/// where is_in_place(form).
struct Arrangement {
  Form form = Form::rows;
  const std::byte* from = nullptr;
  std::byte* to = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  size_t element_bytes = 0;  ///< Form::turned
  int code_bits = 0;         ///< the others
  bool zeros = false;        ///< zero points, not codes
};
void arrange(const Arrangement& op, int64_t begin, int64_t end);

/// Of a tensor that is used in `dtype`; without addresses.
[[nodiscard]] Arrangement arrangement_of(const TensorSpec& spec, DType dtype);
[[nodiscard]] constexpr bool is_in_place(Form form) { return form == Form::rows || form == Form::signed_bytes; }

}  // namespace moegen
