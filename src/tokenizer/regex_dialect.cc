#include "tokenizer/regex_dialect.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "tokenizer/newer_chars.h"
#include "tokenizer/unicode.h"

namespace moegen::text {
namespace {

constexpr int kMaxNesting = 16;
// White_Space; PCRE2's own \s lacks U+0085 in some places and has U+180E in others.
constexpr std::string_view kSpace = R"(\t-\r\x{85}\p{Z})";
constexpr std::string_view kWord = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";
// What \w, \W, \b and \B mean outside of a class: Oniguruma has six characters of Latin-1 more there, as of its table of bytes.
constexpr std::string_view kLoneWord = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{b2}\x{b3}\x{b9}\x{bc}-\x{be})";
constexpr std::string_view kAnyChar = "(?s:.)";
constexpr std::string_view kLineEnd = R"((?>\r\n|[\n-\r\x{85}\x{2028}\x{2029}]))";

// Properties by names that PCRE2 does not have, in lower case and without what their comparison ignores; [:NAME:] has some of them.
constexpr std::pair<std::string_view, std::string_view> kProperties[] = {
    {"letter", R"(\p{L})"},
    {"casedletter", R"(\p{Lu}\p{Ll}\p{Lt})"},
    {"uppercaseletter", R"(\p{Lu})"},
    {"lowercaseletter", R"(\p{Ll})"},
    {"titlecaseletter", R"(\p{Lt})"},
    {"modifierletter", R"(\p{Lm})"},
    {"otherletter", R"(\p{Lo})"},
    {"mark", R"(\p{M})"},
    {"nonspacingmark", R"(\p{Mn})"},
    {"spacingmark", R"(\p{Mc})"},
    {"enclosingmark", R"(\p{Me})"},
    {"number", R"(\p{N})"},
    {"decimalnumber", R"(\p{Nd})"},
    {"letternumber", R"(\p{Nl})"},
    {"othernumber", R"(\p{No})"},
    {"punctuation", R"(\p{P})"},
    {"connectorpunctuation", R"(\p{Pc})"},
    {"dashpunctuation", R"(\p{Pd})"},
    {"openpunctuation", R"(\p{Ps})"},
    {"closepunctuation", R"(\p{Pe})"},
    {"initialpunctuation", R"(\p{Pi})"},
    {"finalpunctuation", R"(\p{Pf})"},
    {"otherpunctuation", R"(\p{Po})"},
    {"symbol", R"(\p{S})"},
    {"mathsymbol", R"(\p{Sm})"},
    {"currencysymbol", R"(\p{Sc})"},
    {"modifiersymbol", R"(\p{Sk})"},
    {"othersymbol", R"(\p{So})"},
    {"separator", R"(\p{Z})"},
    {"spaceseparator", R"(\p{Zs})"},
    {"lineseparator", R"(\p{Zl})"},
    {"paragraphseparator", R"(\p{Zp})"},
    {"other", R"(\p{C})"},
    {"control", R"(\p{Cc})"},
    {"format", R"(\p{Cf})"},
    {"privateuse", R"(\p{Co})"},
    {"unassigned", R"(\p{Cn})"},
    {"alpha", R"(\p{Alphabetic})"},
    {"alnum", R"(\p{Alphabetic}\p{Nd})"},
    {"digit", R"(\p{Nd})"},
    {"upper", R"(\p{Uppercase})"},
    {"lower", R"(\p{Lowercase})"},
    {"space", kSpace},
    {"blank", R"(\t\p{Zs})"},
    {"cntrl", R"(\p{Cc})"},
    {"punct", R"(\p{P}\p{S})"},
    {"xdigit", "0-9A-Fa-f"},
    {"word", kWord},
    {"ascii", R"(\x{00}-\x{7f})"},
};

// The inside of a class, or "".
std::string_view known_property(std::string_view name) {
  std::string plain;
  for (const char c : name) {
    if (c != ' ' && c != '_' && c != '-') plain.push_back(static_cast<char>(c >= 'A' && c <= 'Z' ? c | 0x20 : c));
  }
  for (const auto& [known, set] : kProperties) {
    if (known == plain) return set;
  }
  return {};
}

bool compiles(const std::string& pattern) {
  int error = 0;
  PCRE2_SIZE at = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), PCRE2_UTF | PCRE2_UCP, &error, &at, nullptr);
  pcre2_code_free(code);
  return code != nullptr;
}

class Rewriter {
 public:
  explicit Rewriter(std::string_view pattern) : in_(pattern) {}

  std::string run() {
    std::string out;
    while (pos_ < in_.size()) {
      if (const auto c = char_at(pos_); c && known_char(c->value) != c->value) {
        out += written(known_char(c->value));
        pos_ = c->end;
      } else if (in_[pos_] == '\\') {
        const Escape e = escape();
        if (e.set.empty()) {
          out += e.text;
        } else {
          out.append(e.negated ? "[^" : "[").append(e.set).append("]");
        }
      } else if (in_[pos_] == '[') {
        out += char_class(0);
      } else if (in_.substr(pos_, 2) == "(?") {
        out += group();
      } else if (in_.substr(pos_, 2) == "{,") {
        out += "{0,";
        pos_ += 2;
      } else {
        out += take_char();
      }
    }
    return out;
  }

 private:
  struct Escape {
    std::string text;      // as it stands, or
    std::string_view set;  // the inside of a class
    bool negated = false;
  };

  struct Char {
    char32_t value;
    size_t end;  // of what stands for it
  };

  // A character that stands for itself, or in hexadecimal behind \x or \u.
  [[nodiscard]] std::optional<Char> char_at(size_t at) const {
    if (at >= in_.size() || in_[at] == ']' || in_[at] == '[' || in_.substr(at).starts_with("&&")) return std::nullopt;
    if (in_[at] != '\\') {
      const char32_t c = next_char(in_, at);
      return Char{c, at};
    }
    const char letter = at + 1 < in_.size() ? in_[at + 1] : 0;
    if (letter != 'x' && letter != 'u') return std::nullopt;
    const bool braces = in_.substr(at + 2).starts_with('{');
    const size_t begin = at + (braces ? 3 : 2);
    const size_t end = braces ? in_.find('}', begin) : std::min(begin + (letter == 'x' ? 2 : 4), in_.size());
    uint32_t value = 0;
    if (end == std::string_view::npos) return std::nullopt;
    const auto [stop, error] = std::from_chars(in_.data() + begin, in_.data() + end, value, 16);
    if (error != std::errc() || stop != in_.data() + end || value > 0x10FFFF) return std::nullopt;
    return Char{static_cast<char32_t>(value), end + (braces ? 1 : 0)};
  }

  std::string_view take_char() {
    const size_t begin = pos_;
    next_char(in_, pos_);
    return in_.substr(begin, pos_ - begin);
  }

  static std::string written(char32_t c) { return fmt::format("\\x{{{:x}}}", static_cast<uint32_t>(c)); }

  // A range of a class, and what newer characters in it are taken for, since texts are matched so (newer_chars.h).
  bool range(std::string& to) {
    const auto first = char_at(pos_);
    const auto last = first && in_.substr(first->end).starts_with('-') ? char_at(first->end + 1) : std::nullopt;
    if (!last) return false;
    pos_ = last->end;
    to += written(first->value) + "-" + written(last->value);
    for (const char32_t c : known_chars_beyond(first->value, last->value)) to += written(c);
    return true;
  }

  [[noreturn]] void refuse(std::string_view why) const { throw_error(ErrorCode::unsupported, "pattern {}: {}", in_, why); }

  // The begin of a group. The option m lets the dot match line feeds, which is s in PCRE2; the options i and x are the same.
  std::string group() {
    const size_t end = in_.find_first_not_of("imx-", pos_ + 2);
    const bool options = end != std::string_view::npos && (in_[end] == ':' || in_[end] == ')');
    std::string out(in_.substr(pos_, options ? end - pos_ : 2));
    if (!options && end != std::string_view::npos && in_[end] >= 'a' && in_[end] <= 'z') refuse("an option of a group that is not i, m or x");
    pos_ += out.size();
    std::replace(out.begin(), out.end(), 'm', 's');
    return out;
  }

  Escape escape(bool in_class = false) {
    if (pos_ + 1 >= in_.size()) refuse("a backslash at the end");
    const char c = in_[pos_ + 1];
    pos_ += 2;
    switch (c) {
      case 's':
      case 'S':
        return {"", kSpace, c == 'S'};
      case 'w':
      case 'W':
        return {"", in_class ? kWord : kLoneWord, c == 'W'};
      case 'b':
      case 'B':
        if (in_class) return {std::string("\\") + c, {}, false};
        return {boundary(c == 'b'), {}, false};
      case 'h':
      case 'H':
        return {"", "0-9A-Fa-f", c == 'H'};  // PCRE2's \h is horizontal space
      case 'p':
      case 'P':
        return property(c);
      case 'u':
        return {code_point(), {}, false};
      case 'R':
      case 'O':
        if (!in_class) return {std::string(c == 'R' ? kLineEnd : kAnyChar), {}, false};
        [[fallthrough]];
      case 'G':
      case 'K':
      case 'X':
      case 'Q':
      case 'E':
      case 'C':
        refuse(std::string("\\") + c + " is not supported");
      default:
        --pos_;
        if (const char32_t plain = next_char(in_, pos_); plain >= 0x80) return {written(known_char(plain)), {}, false};
        return {std::string("\\") + c, {}, false};
    }
  }

  static std::string boundary(bool is_one) {
    const std::string word = std::string("[") + std::string(kLoneWord) + "]";
    const std::string behind = "(?<=" + word + ")";
    const std::string not_behind = "(?<!" + word + ")";
    const std::string here = "(?=" + word + ")";
    const std::string not_here = "(?!" + word + ")";
    return is_one ? "(?:" + behind + not_here + "|" + not_behind + here + ")" : "(?:" + behind + here + "|" + not_behind + not_here + ")";
  }

  // \p{Han} is the script in the dialect of the file, but the script extensions in PCRE2. \p without { is the letter.
  Escape property(char letter) {
    std::string head = std::string("\\") + letter;
    if (pos_ >= in_.size() || in_[pos_] != '{') return {std::string(1, letter), {}, false};
    const size_t close = in_.find('}', pos_);
    if (close == std::string_view::npos) refuse("\\p{ without }");
    std::string name(in_.substr(pos_ + 1, close - pos_ - 1));
    pos_ = close + 1;
    const bool negated = !name.empty() && name[0] == '^';
    if (negated) name.erase(0, 1);
    if (const std::string_view set = known_property(name); !set.empty()) return {"", set, negated != (letter == 'P')};
    if (name.size() > 2 && name.find_first_of(":=") == std::string::npos && compiles(std::string("\\p{sc:") + name + "}")) name.insert(0, "sc:");
    return {head + "{" + (negated ? "^" : "") + name + "}", {}, false};
  }

  std::string code_point() {
    if (pos_ < in_.size() && in_[pos_] == '{') {
      const size_t close = in_.find('}', pos_);
      if (close == std::string_view::npos) refuse("\\u{ without }");
      std::string out = std::string("\\x") + std::string(in_.substr(pos_, close - pos_ + 1));
      pos_ = close + 1;
      return out;
    }
    if (pos_ + 4 > in_.size()) refuse("\\u without four digits");
    std::string out = std::string("\\x{") + std::string(in_.substr(pos_, 4)) + "}";
    pos_ += 4;
    return out;
  }

  // What stands between `[` or `&&` and the next `&&` or `]`: plain members, and what has to be an alternative of its own.
  struct Operand {
    std::string plain;
    std::vector<std::string> others;
    [[nodiscard]] std::string expression() const {
      if (others.empty()) return "[" + plain + "]";
      std::string out = "(?:";
      for (const std::string& o : others) out += (out.size() > 3 ? "|" : "") + o;
      if (!plain.empty()) out += std::string("|[") + plain + "]";
      return out + ")";
    }
  };

  std::string char_class(int depth) {
    if (depth >= kMaxNesting) refuse("classes nested too deep");
    ++pos_;
    const bool negated = pos_ < in_.size() && in_[pos_] == '^';
    if (negated) ++pos_;
    std::vector<Operand> operands(1);
    for (bool first = true;; first = false) {
      if (pos_ >= in_.size()) refuse("[ without ]");
      if (in_[pos_] == ']' && !first) break;
      if (in_.substr(pos_, 2) == "&&") {
        pos_ += 2;
        operands.emplace_back();
      } else {
        member(operands.back(), depth);
      }
    }
    ++pos_;
    return joined(operands, negated);
  }

  static std::string joined(const std::vector<Operand>& operands, bool negated) {
    if (operands.size() == 1 && operands[0].others.empty()) return (negated ? "[^" : "[") + operands[0].plain + "]";
    std::string all;
    for (size_t i = 0; i + 1 < operands.size(); ++i) all += std::string("(?=") + operands[i].expression() + ")";
    all += operands.back().expression();
    return negated ? std::string("(?:(?!") + all + ")" + std::string(kAnyChar) + ")" : std::string("(?:") + all + ")";
  }

  void member(Operand& to, int depth) {
    if (range(to.plain)) return;
    if (const auto c = char_at(pos_); c && known_char(c->value) != c->value) {
      to.plain += written(known_char(c->value));
      pos_ = c->end;
    } else if (in_[pos_] == '\\') {
      const Escape e = escape(true);
      if (e.set.empty()) {
        to.plain += e.text;
      } else if (e.negated) {
        to.others.push_back(std::string("[^") + std::string(e.set) + "]");
      } else {
        to.plain += e.set;
      }
    } else if (in_.substr(pos_, 2) == "[:") {
      const size_t close = in_.find(":]", pos_);
      if (close == std::string_view::npos) refuse("[: without :]");
      const bool negated = in_[pos_ + 2] == '^';
      const std::string_view name = in_.substr(pos_ + (negated ? 3 : 2), close - pos_ - (negated ? 3 : 2));
      const std::string_view set = known_property(name);
      if (set.empty()) {
        to.plain += in_.substr(pos_, close + 2 - pos_);
      } else if (negated) {
        to.others.push_back(std::string("[^") + std::string(set) + "]");
      } else {
        to.plain += set;
      }
      pos_ = close + 2;
    } else if (in_[pos_] == '[') {
      to.others.push_back(char_class(depth + 1));
    } else if (in_[pos_] == '^') {  // which would negate, where it comes first
      to.plain += "\\^";
      ++pos_;
    } else {
      to.plain += take_char();
    }
  }

  std::string_view in_;
  size_t pos_ = 0;
};

}  // namespace

std::string to_pcre2(std::string_view pattern) { return Rewriter(pattern).run(); }

}  // namespace moegen::text
