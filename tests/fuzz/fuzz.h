#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <utility>

namespace moegen::testing {

/// A fuzz target, one a program: reads anything and dies if something that has to hold does not. libFuzzer calls it (preset
/// "fuzz"), and replay.cc with every file of its corpus (all other presets).
void fuzz_one(std::string_view input);

/// Behind this line the second part of an input begins, so that inputs stay readable.
inline constexpr std::string_view kSeparator = "\n=====\n";

inline std::pair<std::string_view, std::string_view> two_parts(std::string_view input) {
  const size_t at = input.find(kSeparator);
  if (at == std::string_view::npos) return {input, {}};
  return {input.substr(0, at), input.substr(at + kSeparator.size())};
}

inline void require(bool holds, std::string_view what) {
  if (holds) return;
  fmt::print(stderr, "fuzz: does not hold: {}\n", what);
  std::abort();
}

}  // namespace moegen::testing
