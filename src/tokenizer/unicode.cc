#include "tokenizer/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <iterator>
#include <span>
#include <utility>

#include "tokenizer/newer_chars.h"

namespace moegen::text {
namespace {

unsigned char byte_at(std::string_view text, size_t i) { return static_cast<unsigned char>(text[i]); }

struct Part {
  size_t bytes;  // of a character, or of the maximal invalid part
  bool valid;
  bool incomplete;  // invalid only because the text ends
};

// Table 3-7 of the Unicode standard: the ranges of the second byte exclude overlong forms, surrogates and what is above U+10FFFF.
Part part_at(std::string_view text, size_t pos) {
  const unsigned char a = byte_at(text, pos);
  if (a < 0x80) return {1, true, false};
  if (a < 0xC2 || a > 0xF4) return {1, false, false};
  const size_t need = a < 0xE0 ? 2 : a < 0xF0 ? 3 : 4;
  unsigned char low = 0x80;
  unsigned char high = 0xBF;
  if (a == 0xE0) low = 0xA0;
  if (a == 0xED) high = 0x9F;
  if (a == 0xF0) low = 0x90;
  if (a == 0xF4) high = 0x8F;
  for (size_t k = 1; k < need; ++k) {
    if (pos + k >= text.size()) return {k, false, true};
    const unsigned char b = byte_at(text, pos + k);
    if (b < low || b > high) return {k, false, false};
    low = 0x80;
    high = 0xBF;
  }
  return {need, true, false};
}

utf8proc_category_t category(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }

}  // namespace

char32_t next_char(std::string_view text, size_t& pos) {
  const unsigned char a = byte_at(text, pos);
  const size_t n = std::min(char_bytes(text[pos]), text.size() - pos);
  char32_t c = n == 1 ? a : n == 2 ? a & 0x1FU : n == 3 ? a & 0x0FU : a & 0x07U;
  for (size_t k = 1; k < n; ++k) c = (c << 6) | (byte_at(text, pos + k) & 0x3FU);
  pos += n;
  return c;
}

void append_utf8(std::string& to, char32_t c) {
  const auto put = [&](char32_t b) { to.push_back(static_cast<char>(static_cast<unsigned char>(b))); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | (c >> 6));
    put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | (c >> 12));
    put(0x80 | ((c >> 6) & 0x3F));
    put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | (c >> 18));
    put(0x80 | ((c >> 12) & 0x3F));
    put(0x80 | ((c >> 6) & 0x3F));
    put(0x80 | (c & 0x3F));
  }
}

std::string to_utf8(char32_t c) {
  std::string s;
  append_utf8(s, c);
  return s;
}

std::u32string to_utf32(std::string_view valid) {
  std::u32string out;
  out.reserve(valid.size());
  for (size_t i = 0; i < valid.size();) out.push_back(next_char(valid, i));
  return out;
}

size_t count_chars(std::string_view valid) {
  return static_cast<size_t>(std::count_if(valid.begin(), valid.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

bool is_ascii(std::string_view text) {
  unsigned char all = 0;
  for (const char c : text) all |= static_cast<unsigned char>(c);
  return all < 0x80;
}

size_t first_invalid(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    if (byte_at(text, i) < 0x80) {
      ++i;
      continue;
    }
    const Part p = part_at(text, i);
    if (!p.valid) return i;
    i += p.bytes;
  }
  return text.size();
}

std::string valid_utf8(std::string_view text) {
  std::string out;
  Utf8Stream stream;
  stream.push(text, out);
  stream.finish(out);
  return out;
}

void Utf8Stream::push(std::string_view bytes, std::string& out) {
  std::string joined;
  if (!held_.empty()) {
    joined = held_ + std::string(bytes);
    bytes = joined;
    held_.clear();
  }
  while (!bytes.empty()) {
    const size_t good = first_invalid(bytes);
    out.append(bytes.substr(0, good));
    bytes.remove_prefix(good);
    if (bytes.empty()) break;
    const Part p = part_at(bytes, 0);
    if (p.incomplete) {
      held_ = bytes;
      break;
    }
    append_utf8(out, kReplacement);
    bytes.remove_prefix(p.bytes);
  }
}

void Utf8Stream::finish(std::string& out) {
  if (!held_.empty()) append_utf8(out, kReplacement);
  held_.clear();
}

bool is_whitespace(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= '\t' && c <= '\r');
  if (c == 0x85) return true;
  const auto k = category(c);
  return k == UTF8PROC_CATEGORY_ZS || k == UTF8PROC_CATEGORY_ZL || k == UTF8PROC_CATEGORY_ZP;
}

bool is_word(char32_t c) {
  if (c < 0x80) return c == '_' || (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
  if (c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9)) return true;  // Join_Control; Other_Alphabetic that is no letter
  if ((c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189)) return true;
  switch (category(known_char(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return false;
  }
}

bool is_numeric(char32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  const auto k = category(known_char(c));
  return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO;
}

namespace {

using Ranges = std::span<const std::pair<char32_t, char32_t>>;

bool is_within(Ranges ranges, char32_t c) {
  const auto it = std::upper_bound(ranges.begin(), ranges.end(), c, [](char32_t x, const auto& range) { return x < range.first; });
  return it != ranges.begin() && c <= std::prev(it)->second;
}

// The package tokenizers has old tables, and models were trained with them: what has become punctuation since Unicode 8 ..
constexpr std::pair<char32_t, char32_t> kNewPunctuation[] = {
    {0x61D, 0x61D},     {0x9FD, 0x9FD},     {0xA76, 0xA76},     {0xC77, 0xC77},     {0xC84, 0xC84},     {0x1B7D, 0x1B7E},   {0x2E43, 0x2E4F},
    {0x2E52, 0x2E5D},   {0x10EAD, 0x10EAD}, {0x10F55, 0x10F59}, {0x10F86, 0x10F89}, {0x1144B, 0x1144F}, {0x1145A, 0x1145B}, {0x1145D, 0x1145D},
    {0x11660, 0x1166C}, {0x116B9, 0x116B9}, {0x1183B, 0x1183B}, {0x11944, 0x11946}, {0x119E2, 0x119E2}, {0x11A3F, 0x11A46}, {0x11A9A, 0x11A9C},
    {0x11A9E, 0x11AA2}, {0x11B00, 0x11B09}, {0x11C41, 0x11C45}, {0x11C70, 0x11C71}, {0x11EF7, 0x11EF8}, {0x11F43, 0x11F4F}, {0x11FFF, 0x11FFF},
    {0x12FF1, 0x12FF2}, {0x16E97, 0x16E9A}, {0x16FE2, 0x16FE2}, {0x1E95E, 0x1E95F}};
// .. and what has got a decomposition or a combining class since Unicode 9.
constexpr std::pair<char32_t, char32_t> kNewInNormalForms[] = {
    {0x7FD, 0x7FD},     {0x898, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},     {0xC3C, 0xC3C},     {0xD3B, 0xD3C},     {0xEBA, 0xEBA},
    {0x1715, 0x1715},   {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},   {0x32FF, 0x32FF},   {0xA7F2, 0xA7F4},   {0xA82C, 0xA82C},   {0xAB69, 0xAB69},
    {0x10781, 0x10785}, {0x10787, 0x107B0}, {0x107B2, 0x107BA}, {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF}, {0x10F46, 0x10F50},
    {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x1145E, 0x1145E}, {0x11839, 0x1183A}, {0x11938, 0x11938}, {0x1193D, 0x1193E},
    {0x11943, 0x11943}, {0x119E0, 0x119E0}, {0x11A34, 0x11A34}, {0x11A47, 0x11A47}, {0x11A99, 0x11A99}, {0x11D42, 0x11D42}, {0x11D44, 0x11D45},
    {0x11D97, 0x11D97}, {0x11F41, 0x11F42}, {0x16FF0, 0x16FF1}, {0x1E030, 0x1E06D}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE},
    {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF}, {0x1F16C, 0x1F16C}, {0x1FBF0, 0x1FBF9}};

}  // namespace

bool is_new_in_normal_forms(char32_t c) { return c >= kNewInNormalForms[0].first && is_within(kNewInNormalForms, c); }

bool is_punctuation(char32_t c) {
  if (c < 0x80) return c > ' ' && c < 0x7F && !(c >= '0' && c <= '9') && !((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
  if (c == 0x166D || c == 0x111C9) return true;  // no longer
  const auto k = category(c);
  return k >= UTF8PROC_CATEGORY_PC && k <= UTF8PROC_CATEGORY_PO && !is_within(kNewPunctuation, c);
}

namespace {

// Of Unicode 16.
char32_t new_lower(char32_t c) {
  if (c == 0xA7CB) return 0x264;
  if (c == 0xA7DC) return 0x19B;
  if (c >= 0x10D50 && c <= 0x10D65) return c + 0x20;
  return c == 0x1C89 || c == 0xA7CC || c == 0xA7DA ? c + 1 : c;
}

}  // namespace

void append_lower(std::string& to, char32_t c) {
  if (c == 0x130) {  // the only character whose lower case is two
    to += "i\xCC\x87";
    return;
  }
  append_utf8(to, new_lower(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c)))));
}

}  // namespace moegen::text
