#include "grammar/pattern.h"

#include <algorithm>
#include <optional>
#include <string>

#include "base/error.h"
#include "grammar/categories.h"
#include "grammar/char_classes.h"

namespace moegen::grammar {
namespace {

constexpr size_t kMaxBytes = 64 << 10;
constexpr int kMaxDepth = 100;
constexpr int kMaxRepeat = 1 << 16;

using Kind = Pattern::Kind;

[[noreturn]] void unsupported(std::string_view what, size_t at) { throw_error(ErrorCode::unsupported, "{} at offset {} is not supported", what, at); }
[[noreturn]] void invalid(std::string_view what, size_t at) { throw_error(ErrorCode::invalid_argument, "{} at offset {}", what, at); }

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {
    if (text.size() > kMaxBytes) throw_error(ErrorCode::unsupported, "a pattern of {} bytes is longer than {}", text.size(), kMaxBytes);
  }

  Pattern whole() {
    Pattern out = alternatives(0);
    if (!done()) invalid("a ')' without its '('", pos_);
    return out;
  }

 private:
  [[nodiscard]] bool done() const { return pos_ == text_.size(); }
  [[nodiscard]] char peek() const { return done() ? '\0' : text_[pos_]; }
  [[nodiscard]] bool looking_at(std::string_view s) const { return text_.substr(pos_).starts_with(s); }
  bool take(std::string_view s) {
    if (!looking_at(s)) return false;
    pos_ += s.size();
    return true;
  }
  uint32_t take_code_point() {
    const char* at = text_.data() + pos_;
    const uint32_t c = next_code_point(at);
    pos_ = static_cast<size_t>(at - text_.data());
    return c;
  }

  Pattern alternatives(int depth) {
    if (depth > kMaxDepth) throw_error(ErrorCode::unsupported, "groups nested deeper than {} levels", kMaxDepth);
    std::vector<Pattern> parts;
    do parts.push_back(sequence(depth));
    while (take("|"));
    return parts.size() == 1 ? std::move(parts[0]) : Pattern::choice(std::move(parts));
  }

  Pattern sequence(int depth) {
    std::vector<Pattern> parts;
    while (!done() && peek() != '|' && peek() != ')') parts.push_back(quantified(depth));
    return parts.size() == 1 ? std::move(parts[0]) : Pattern::sequence(std::move(parts));
  }

  Pattern quantified(int depth) {
    const size_t start = pos_;
    Pattern atom = this->atom(depth);
    int min = 0;
    int max = 0;
    if (!quantifier(min, max)) return atom;
    if (atom.kind == Kind::begin || atom.kind == Kind::end) invalid("a repeated anchor", start);
    take("?");  // lazy: which texts match is the same
    if (peek() == '+') unsupported("a possessive quantifier", pos_);
    const size_t behind = pos_;
    if (int ignored = 0; quantifier(ignored, ignored)) invalid("a quantifier behind a quantifier", behind);
    return Pattern::repeat(std::move(atom), min, max);
  }

  bool quantifier(int& min, int& max) {
    if (take("*")) return min = 0, max = Pattern::kNoLimit, true;
    if (take("+")) return min = 1, max = Pattern::kNoLimit, true;
    if (take("?")) return min = 0, max = 1, true;
    return peek() == '{' && counts(min, max);
  }

  // {m}, {m,}, {m,n}; any other brace is a character.
  bool counts(int& min, int& max) {
    const size_t start = pos_++;
    if (looking_at(",") && text_.substr(pos_).find_first_not_of("0123456789", 1) != std::string_view::npos &&
        text_[text_.find_first_not_of("0123456789", pos_ + 1)] == '}') {
      unsupported("the quantifier {,n}, which dialects read differently,", start);
    }
    const std::optional<int> low = number();
    if (low) {
      min = max = *low;
      if (take(",")) max = number().value_or(Pattern::kNoLimit);
      if (take("}")) {
        if (max != Pattern::kNoLimit && max < min) invalid("a quantifier {m,n} with m above n", start);
        if (std::max(min, max) > kMaxRepeat) unsupported("a repeat count above 65536", start);
        return true;
      }
    }
    pos_ = start;
    return false;
  }

  std::optional<int> number() {
    const size_t start = pos_;
    int out = 0;
    while (peek() >= '0' && peek() <= '9') out = std::min(kMaxRepeat + 1, out * 10 + (text_[pos_++] - '0'));
    return pos_ > start ? std::optional<int>(out) : std::nullopt;
  }

  Pattern atom(int depth) {
    const size_t start = pos_;
    switch (peek()) {
      case '(':
        return group(depth);
      case '[':
        return Pattern::of(char_class());
      case '.':
        ++pos_;
        return Pattern::of(any_but_line_ends());
      case '^':
        ++pos_;
        return {Kind::begin, {}, {}, 0, 0};
      case '$':
        ++pos_;
        return {Kind::end, {}, {}, 0, 0};
      case '*':
      case '+':
      case '?':
        invalid("a quantifier of nothing", start);
      case '{':
        if (int ignored = 0; counts(ignored, ignored)) invalid("a quantifier of nothing", start);
        break;
      case '\\':
        return Pattern::of(escape(false, false));
      default:
        break;
    }
    const uint32_t c = take_code_point();
    return Pattern::of({c, c});
  }

  Pattern group(int depth) {
    const size_t start = pos_++;
    if (looking_at("?=") || looking_at("?!")) unsupported("lookahead", start);
    if (looking_at("?<=") || looking_at("?<!")) unsupported("lookbehind", start);
    if (take("?P<") || take("?<")) {
      const size_t close = text_.find('>', pos_);
      if (close == std::string_view::npos) invalid("a group name without its '>'", start);
      pos_ = close + 1;
    } else if (!take("?:") && peek() == '?') {
      unsupported("a group with flags or conditions", start);
    }
    Pattern inner = alternatives(depth + 1);
    if (!take(")")) invalid("a '(' without its ')'", start);
    return inner;
  }

  // Behind it the position is behind the escape.
  CodePoints escape(bool in_class, bool wide) {
    const size_t start = pos_++;
    if (done()) invalid("a '\\' with nothing behind it", start);
    const char c = text_[pos_];
    if (auto set = class_escape(c, wide)) return ++pos_, std::move(*set);
    if (c == '0' && (pos_ + 1 == text_.size() || hex_value(text_[pos_ + 1]) < 0)) return ++pos_, CodePoints(0, 0);
    if (c >= '0' && c <= '9') unsupported("a backreference", start);
    if (c == 'k') unsupported("a backreference", start);
    if (c == 'b' && in_class) return ++pos_, CodePoints('\b', '\b');
    if (c == 'b' || c == 'B') unsupported("a word boundary", start);
    if (c == 'p' || c == 'P') return property(start);
    if (c == 'x' || c == 'u') return hex_escape(start);
    static constexpr std::string_view kNames = "nrtfv";
    static constexpr std::string_view kMeant = "\n\r\t\f\v";
    const auto named = kNames.find(c);
    if (named == std::string_view::npos && ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))) {
      unsupported(fmt::format("the escape \\{}", c), start);
    }
    const uint32_t meant = named != std::string_view::npos ? static_cast<uint32_t>(kMeant[named]) : take_code_point();
    if (named != std::string_view::npos) ++pos_;
    return {meant, meant};
  }

  // \p{Lu}, \p{L}, \pL; \P and \p{^L} are all others.
  CodePoints property(size_t start) {
    bool negated = text_[pos_++] == 'P';
    std::string_view name = text_.substr(pos_, 1);
    if (take("{")) {
      if (take("^")) negated = !negated;
      const size_t close = text_.find('}', pos_);
      if (close == std::string_view::npos) invalid("a '\\p{' without its '}'", start);
      name = text_.substr(pos_, close - pos_);
      pos_ = close + 1;
    } else if (!done()) {
      ++pos_;
    }
    const CodePoints* found = category(name);
    if (found == nullptr) unsupported("a Unicode property (\\p) other than a general category like L or Lu", start);
    return negated ? found->inverted() : *found;
  }

  // \xHH, \uHHHH (also as a pair of surrogates), \u{H...}
  CodePoints hex_escape(size_t start) {
    uint32_t c = 0;
    if (take("u{")) {
      if (peek() == '}') invalid("an escape with a wrong number of hexadecimal digits", start);
      while (peek() != '}') c = std::min(0x110000U, c * 16 + hex_digit(start));
      ++pos_;
    } else {
      const int count = text_[pos_++] == 'x' ? 2 : 4;
      for (int i = 0; i < count; ++i) c = c * 16 + hex_digit(start);
      if (c >= 0xD800 && c < 0xDC00 && take("\\u")) {
        uint32_t low = 0;
        for (int i = 0; i < 4; ++i) low = low * 16 + hex_digit(start);
        if (low < 0xDC00 || low > 0xDFFF) invalid("half a pair of surrogates", start);
        c = 0x10000 + ((c - 0xD800) << 10U) + (low - 0xDC00);
      }
    }
    if (c > 0x10FFFF || (c >= 0xD800 && c < 0xE000)) invalid("an escape that is no character", start);
    return {c, c};
  }

  uint32_t hex_digit(size_t start) {
    const int value = hex_value(peek());
    if (value < 0) invalid("an escape with a wrong number of hexadecimal digits", start);
    ++pos_;
    return static_cast<uint32_t>(value);
  }

  CodePoints char_class() {
    const size_t start = pos_++;
    const bool negated = take("^");
    if (peek() == ']') unsupported("a class that begins with ']', which dialects read differently,", start);
    CodePoints out;
    std::string seen;  // the letters of its class escapes
    while (peek() != ']') {
      if (done()) invalid("a '[' without its ']'", start);
      if (looking_at("[:") || looking_at("[.") || looking_at("[=")) unsupported("a POSIX class", pos_);
      if (looking_at("&&") || looking_at("--") || looking_at("~~")) unsupported("an operation on classes", pos_);
      if (peek() == '\\') seen += text_.substr(pos_ + 1, 1);
      const CodePoints low = class_member(negated);
      if (peek() != '-' || looking_at("-]")) {
        out.add(low);
        continue;
      }
      const size_t dash = pos_++;
      const CodePoints high = class_member(negated);
      const auto single = [](const CodePoints& s) { return s.ranges().size() == 1 && s.ranges()[0].lo == s.ranges()[0].hi; };
      if (!single(low) || !single(high) || low.ranges()[0].lo > high.ranges()[0].lo) invalid("a range of characters that is none", dash);
      out.add(low.ranges()[0].lo, high.ranges()[0].lo);
    }
    ++pos_;
    if (holds_all(seen)) out = CodePoints::all();
    return negated ? out.inverted() : out;
  }

  // [\s\S] and the like: every character is of one of the two, in all dialects.
  static bool holds_all(std::string_view escapes) {
    const auto has = [&](char c) { return escapes.find(c) != std::string_view::npos; };
    return (has('d') && has('D')) || (has('w') && has('W')) || (has('s') && has('S'));
  }

  CodePoints class_member(bool wide) {
    if (done()) invalid("a class without its ']'", pos_);
    if (peek() == '\\') return escape(true, wide);
    const uint32_t c = take_code_point();
    return {c, c};
  }

  std::string_view text_;
  size_t pos_ = 0;
};

void check_no_anchor(const Pattern& p) {
  if (p.kind == Kind::begin || p.kind == Kind::end) {
    throw_error(ErrorCode::unsupported, "an anchor ({}) that is not at an end of the pattern or of an alternative is not supported",
                p.kind == Kind::begin ? '^' : '$');
  }
  for (const Pattern& part : p.parts) check_no_anchor(part);
}

}  // namespace

Pattern Pattern::repeat(Pattern part, int min, int max) {
  Pattern out{Kind::repeat, {}, {}, min, max};
  out.parts.push_back(std::move(part));
  return out;
}

Pattern Pattern::text(std::string_view utf8) {
  Pattern out;
  for (const char* at = utf8.data(); at < utf8.data() + utf8.size();) {
    const uint32_t c = next_code_point(at);
    out.parts.push_back(of({c, c}));
  }
  return out;
}

Pattern parse_pattern(std::string_view utf8) { return Parser(utf8).whole(); }

Pattern without_anchors(Pattern pattern, bool search) {
  if (pattern.kind == Kind::choice) {
    for (Pattern& part : pattern.parts) part = without_anchors(std::move(part), search);
    return pattern;
  }
  std::vector<Pattern> parts;
  if (pattern.kind == Kind::sequence) {
    parts = std::move(pattern.parts);
  } else {
    parts.push_back(std::move(pattern));
  }
  const bool begins = !parts.empty() && parts.front().kind == Kind::begin;
  if (begins) parts.erase(parts.begin());
  const bool ends = !parts.empty() && parts.back().kind == Kind::end;
  if (ends) parts.pop_back();
  for (const Pattern& part : parts) check_no_anchor(part);
  const auto anything = [] { return Pattern::repeat(Pattern::of(CodePoints::all()), 0, Pattern::kNoLimit); };
  if (search && !begins) parts.insert(parts.begin(), anything());
  if (search && !ends) parts.push_back(anything());
  return Pattern::sequence(std::move(parts));
}

}  // namespace moegen::grammar
