#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "grammar/code_points.h"

namespace moegen::grammar {

/// A regular expression, parsed: a tree over code points.
struct Pattern {
  enum class Kind {
    set,        ///< one code point of `set`; an empty set matches nothing
    json_char,  ///< one code point as JSON strings write it: itself or any escape
    sequence,   ///< all parts; none of them: the empty text
    choice,     ///< one of the parts
    repeat,     ///< parts[0], min to max times
    begin,      ///< ^
    end,        ///< $
  };
  static constexpr int kNoLimit = -1;

  Kind kind = Kind::sequence;
  CodePoints set = {};
  std::vector<Pattern> parts = {};
  int min = 0;
  int max = kNoLimit;

  static Pattern of(CodePoints set) { return {Kind::set, std::move(set), {}, 0, 0}; }
  static Pattern sequence(std::vector<Pattern> parts) { return {Kind::sequence, {}, std::move(parts), 0, 0}; }
  static Pattern choice(std::vector<Pattern> parts) { return {Kind::choice, {}, std::move(parts), 0, 0}; }
  static Pattern repeat(Pattern part, int min, int max);
  static Pattern text(std::string_view utf8);
};

/// Parses the common subset of the dialects in use. Where they differ in what a class means, what is left is what all of them
/// take: \d and \w are ASCII, \D and \W lack also Unicode's digits and letters, \s is white space for ECMA-262 and for Python,
/// \S for neither, `.` is no line end; [\w\W] and the like are every character. Refused by name: lookaround, backreferences, word
/// boundaries, \p other than of general categories, inline flags, possessive quantifiers, classes that begin with ']'. `utf8` has
/// to be valid. Throws Error(unsupported | invalid_argument).
Pattern parse_pattern(std::string_view utf8);

/// The texts that `pattern` matches as a whole (`search` false), or in which it is found. Anchors are taken at the ends of the
/// pattern or of its alternatives; elsewhere they are refused. Throws Error(unsupported).
Pattern without_anchors(Pattern pattern, bool search);

}  // namespace moegen::grammar
