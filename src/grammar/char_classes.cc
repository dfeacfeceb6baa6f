#include "grammar/char_classes.h"

#include <span>

namespace moegen::grammar {
namespace {

using Range = CodePoints::Range;

// Decimal digits beyond ASCII; of the scripts of the supplementary planes whole stretches that hold some.
constexpr Range kMoreDigits[] = {
    {0x660, 0x669},     {0x6F0, 0x6F9},     {0x7C0, 0x7C9},     {0x966, 0x96F},     {0x9E6, 0x9EF},     {0xA66, 0xA6F},     {0xAE6, 0xAEF},
    {0xB66, 0xB6F},     {0xBE6, 0xBEF},     {0xC66, 0xC6F},     {0xCE6, 0xCEF},     {0xD66, 0xD6F},     {0xDE6, 0xDEF},     {0xE50, 0xE59},
    {0xED0, 0xED9},     {0xF20, 0xF29},     {0x1040, 0x1049},   {0x1090, 0x1099},   {0x17E0, 0x17E9},   {0x1810, 0x1819},   {0x1946, 0x194F},
    {0x19D0, 0x19DA},   {0x1A80, 0x1A89},   {0x1A90, 0x1A99},   {0x1B50, 0x1B59},   {0x1BB0, 0x1BB9},   {0x1C40, 0x1C49},   {0x1C50, 0x1C59},
    {0xA620, 0xA629},   {0xA8D0, 0xA8D9},   {0xA900, 0xA909},   {0xA9D0, 0xA9D9},   {0xA9F0, 0xA9F9},   {0xAA50, 0xAA59},   {0xABF0, 0xABF9},
    {0xFF10, 0xFF19},   {0x104A0, 0x104A9}, {0x10D30, 0x10D49}, {0x11066, 0x11F59}, {0x16130, 0x16139}, {0x16A60, 0x16D79}, {0x1CCF0, 0x1CCF9},
    {0x1D7CE, 0x1D7FF}, {0x1E140, 0x1E959}, {0x1FBF0, 0x1FBF9}};

// Beyond ASCII, what no dialect takes for part of a word: the usual punctuation, symbols, emoji. There is more, that nobody misses.
constexpr Range kNoWord[] = {{0x80, 0xA9},       {0xAB, 0xB1},      {0xB4, 0xB4},     {0xB6, 0xB8},     {0xBB, 0xBB},     {0xBF, 0xBF},
                             {0xD7, 0xD7},       {0xF7, 0xF7},      {0x2000, 0x200B}, {0x2010, 0x203E}, {0x2041, 0x2053}, {0x2055, 0x205F},
                             {0x20A0, 0x20C0},   {0x2190, 0x2426},  {0x2500, 0x2775}, {0x2794, 0x2B73}, {0x3000, 0x3004}, {0x3008, 0x3020},
                             {0x3030, 0x3030},   {0xFE30, 0xFE32},  {0xFF01, 0xFF0F}, {0xFF1A, 0xFF20}, {0xFF3B, 0xFF3E}, {0xFF5B, 0xFF65},
                             {0x1F300, 0x1F6D7}, {0x1F900, 0x1FA53}};

CodePoints of(std::span<const Range> ranges) {
  CodePoints out;
  for (const Range& r : ranges) out.add(r.lo, r.hi);
  return out;
}

CodePoints digits(bool wide) {
  CodePoints out = wide ? of(kMoreDigits) : CodePoints();
  out.add('0', '9');
  return out;
}

CodePoints word(bool wide) {
  CodePoints out = wide ? CodePoints{0x80, 0x10FFFF}.without(of(kNoWord)) : CodePoints();
  out.add('a', 'z');
  out.add('A', 'Z');
  out.add('0', '9');
  out.add('_', '_');
  return out;
}

CodePoints spaces(bool wide) {
  CodePoints out{'\t', '\r'};
  for (const uint32_t c : {0x20U, 0xA0U, 0x1680U, 0x2028U, 0x2029U, 0x202FU, 0x205FU, 0x3000U}) out.add(c, c);
  out.add(0x2000, 0x200A);
  if (!wide) return out;
  out.add(0x1C, 0x1F);  // Python's
  for (const uint32_t c : {0x85U, 0x180EU, 0xFEFFU}) out.add(c, c);
  return out;
}

}  // namespace

std::optional<CodePoints> class_escape(char letter, bool wide) {
  switch (letter) {
    case 'd':
      return digits(wide);
    case 'D':
      return digits(!wide).inverted();
    case 'w':
      return word(wide);
    case 'W':
      return word(!wide).inverted();
    case 's':
      return spaces(wide);
    case 'S':
      return spaces(!wide).inverted();
    default:
      return std::nullopt;
  }
}

CodePoints any_but_line_ends() {
  CodePoints ends{'\n', '\n'};
  ends.add('\r', '\r');
  ends.add(0x2028, 0x2029);
  return ends.inverted();
}

}  // namespace moegen::grammar
