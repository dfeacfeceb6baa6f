#include "base/size.h"

#include <array>
#include <charconv>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace moegen {
namespace {

// The number in front of `text`; what follows it goes to `unit`.
double number_and_unit(std::string_view text, std::string_view& unit) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  unit = text.substr(static_cast<size_t>(end - text.data()));
  while (unit.starts_with(' ')) unit.remove_prefix(1);
  if (error != std::errc{} || !std::isfinite(value) || value < 0) {
    throw_error(ErrorCode::invalid_argument, "\"{}\" is no size: expected a number such as 24GB, 512MiB, 8G, 2g or bytes", text);
  }
  return value;
}

// K, KB, KiB: 1024; k, kb: 1000; likewise M, G, T. 0 for what is no unit.
double factor_of(std::string_view unit) {
  if (unit.empty() || unit == "B") return 1;
  const bool binary_letter = unit[0] >= 'A' && unit[0] <= 'Z';
  const auto power = std::string_view("kmgt").find(static_cast<char>(binary_letter ? unit[0] + 32 : unit[0]));
  const std::string_view rest = unit.substr(1);
  if (power == std::string_view::npos || !(rest.empty() || rest == "B" || rest == "iB" || rest == "b")) return 0;
  return std::pow(binary_letter || rest == "iB" ? 1024.0 : 1000.0, static_cast<double>(power + 1));
}

uint64_t parse(std::string_view text, double limit) {
  std::string_view unit;
  const double number = number_and_unit(text, unit);
  const double factor = factor_of(unit);
  const double value = number * factor;
  if (factor == 0 || value >= limit) {
    throw_error(ErrorCode::invalid_argument,
                "\"{}\" is no size: the unit must be one of KiB MiB GiB TiB, K M G T (binary), k m g t (decimal), and the value must fit", text);
  }
  return static_cast<uint64_t>(value);
}

}  // namespace

uint64_t parse_size(std::string_view text) { return parse(text, 0x1p63); }
int64_t parse_count(std::string_view text) {
  if (text.empty() || text[0] < '0' || text[0] > '9' || text.find('.') != std::string_view::npos)
    throw_error(ErrorCode::invalid_argument, "\"{}\" is no count: expected a whole number such as 4096 or 32k", text);
  return static_cast<int64_t>(parse(text, 0x1p53));
}

std::string format_bytes(uint64_t bytes) {
  constexpr std::array<const char*, 5> kUnits{"bytes", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} bytes", bytes) : fmt::format("{:.1f} {}", value, kUnits.at(unit));
}

}  // namespace moegen
