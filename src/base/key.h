#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace moegen {

/// A bijection of 64 bits in which every input bit moves about half of the output bits (xor-shift and odd multipliers).
uint64_t mix_bits(uint64_t x);

/// What something is recognised by, an input line, its answer, a file: a 128-bit hash, the same on every run and machine. Strong
/// enough against chance (10^9 lines collide with probability 10^-20), not against someone who constructs collisions.
struct Key {
  uint64_t high = 0;
  uint64_t low = 0;
  bool operator==(const Key&) const = default;
};

/// Of `text`; keys of different kinds or occurrences of the same text are different.
Key make_key(char kind, uint64_t occurrence, std::string_view text);

/// 32 hexadecimal digits, and back.
std::string key_text(const Key& key);
std::optional<Key> parse_key(std::string_view text);

}  // namespace moegen
