#include "base/dtype.h"

#include <array>

#include "base/check.h"

namespace moegen {
namespace {

struct Row {
  DType dtype;
  int bits;
  std::string_view name;
};

// In the order of the enumeration.
constexpr std::array<Row, 21> kRows{{{DType::f64, 64, "F64"},        {DType::f32, 32, "F32"},        {DType::f16, 16, "F16"},
                                     {DType::bf16, 16, "BF16"},      {DType::f8_e4m3, 8, "F8_E4M3"}, {DType::f8_e5m2, 8, "F8_E5M2"},
                                     {DType::f8_e8m0, 8, "F8_E8M0"}, {DType::f6_e2m3, 6, "F6_E2M3"}, {DType::f6_e3m2, 6, "F6_E3M2"},
                                     {DType::f4, 4, "F4"},           {DType::i64, 64, "I64"},        {DType::i32, 32, "I32"},
                                     {DType::i16, 16, "I16"},        {DType::i8, 8, "I8"},           {DType::u64, 64, "U64"},
                                     {DType::u32, 32, "U32"},        {DType::u16, 16, "U16"},        {DType::u8, 8, "U8"},
                                     {DType::boolean, 8, "BOOL"},    {DType::c64, 64, "C64"},        {DType::i4, 4, "I4"}}};

const Row& row_of(DType dtype) {
  const Row& row = kRows.at(static_cast<size_t>(dtype));
  MOEGEN_CHECK(row.dtype == dtype);
  return row;
}

}  // namespace

int bits_of(DType dtype) { return row_of(dtype).bits; }
std::string_view name_of(DType dtype) { return row_of(dtype).name; }

std::optional<DType> dtype_from_safetensors(std::string_view name) {
  for (const Row& row : kRows) {
    if (row.name == name) return row.dtype;
  }
  return std::nullopt;
}

}  // namespace moegen
