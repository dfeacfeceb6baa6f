#include "base/key.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>

namespace moegen {
uint64_t mix_bits(uint64_t x) {
  x = (x ^ (x >> 31)) * 0x9fb21c651e98df25U;
  x = (x ^ (x >> 29)) * 0xd6e8feb86659fd93U;
  return x ^ (x >> 32);
}

Key make_key(char kind, uint64_t occurrence, std::string_view text) {
  uint64_t a = mix_bits(static_cast<unsigned char>(kind) + (occurrence << 8));
  uint64_t b = mix_bits(a + text.size());
  for (size_t at = 0; at < text.size(); at += 8) {
    uint64_t word = 0;  // little-endian, as every machine this runs on
    std::memcpy(&word, text.data() + at, std::min<size_t>(8, text.size() - at));
    a = mix_bits(a ^ word);
    b = mix_bits(std::rotl(b, 23) + word * 0xa0761d6478bd642fU);
  }
  return {mix_bits(a + std::rotl(b, 32)), mix_bits(b ^ a)};
}

std::string key_text(const Key& key) { return fmt::format("{:016x}{:016x}", key.high, key.low); }

std::optional<Key> parse_key(std::string_view text) {
  Key key;
  if (text.size() != 32) return std::nullopt;
  const char* middle = text.data() + 16;
  const char* end = middle + 16;
  if (std::from_chars(text.data(), middle, key.high, 16).ptr != middle) return std::nullopt;
  if (std::from_chars(middle, end, key.low, 16).ptr != end) return std::nullopt;
  return key;
}

}  // namespace moegen
