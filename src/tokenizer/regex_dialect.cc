#include "tokenizer/regex_dialect.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <vector>

#include "base/error.h"

namespace moegen::text {
namespace {

constexpr int kMaxNesting = 16;
// White_Space; PCRE2's own \s lacks U+0085 in some places and has U+180E in others.
constexpr std::string_view kSpace = R"(\t-\r\x{85}\p{Z})";
constexpr std::string_view kWord = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";
constexpr std::string_view kAnyChar = "(?s:.)";

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
      if (in_[pos_] == '\\') {
        const Escape e = escape();
        if (e.set.empty()) {
          out += e.text;
        } else {
          out.append(e.negated ? "[^" : "[").append(e.set).append("]");
        }
      } else if (in_[pos_] == '[') {
        out += char_class(0);
      } else {
        out += in_[pos_++];
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

  [[noreturn]] void refuse(std::string_view why) const { throw_error(ErrorCode::unsupported, "pattern {}: {}", in_, why); }

  Escape escape() {
    if (pos_ + 1 >= in_.size()) refuse("a backslash at the end");
    const char c = in_[pos_ + 1];
    pos_ += 2;
    switch (c) {
      case 's':
      case 'S':
        return {"", kSpace, c == 'S'};
      case 'w':
      case 'W':
        return {"", kWord, c == 'W'};
      case 'h':
      case 'H':
        return {"", "0-9A-Fa-f", c == 'H'};  // PCRE2's \h is horizontal space
      case 'p':
      case 'P':
        return {property(c), {}, false};
      case 'u':
        return {code_point(), {}, false};
      case 'G':
      case 'K':
      case 'X':
      case 'R':
      case 'Q':
      case 'E':
      case 'C':
        refuse(std::string("\\") + c + " is not supported");
      default:
        return {std::string("\\") + c, {}, false};
    }
  }

  // \p{Han} is the script in the dialect of the file, but the script extensions in PCRE2.
  std::string property(char letter) {
    std::string head = std::string("\\") + letter;
    if (pos_ >= in_.size() || in_[pos_] != '{') return head;
    const size_t close = in_.find('}', pos_);
    if (close == std::string_view::npos) refuse("\\p{ without }");
    std::string name(in_.substr(pos_ + 1, close - pos_ - 1));
    pos_ = close + 1;
    const bool negated = !name.empty() && name[0] == '^';
    if (negated) name.erase(0, 1);
    if (name.size() > 2 && name.find_first_of(":=") == std::string::npos && compiles(std::string("\\p{sc:") + name + "}")) name.insert(0, "sc:");
    return head + "{" + (negated ? "^" : "") + name + "}";
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
    if (in_[pos_] == '\\') {
      const Escape e = escape();
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
      to.plain += in_.substr(pos_, close + 2 - pos_);
      pos_ = close + 2;
    } else if (in_[pos_] == '[') {
      to.others.push_back(char_class(depth + 1));
    } else {
      to.plain += in_[pos_++];
    }
  }

  std::string_view in_;
  size_t pos_ = 0;
};

}  // namespace

std::string to_pcre2(std::string_view pattern) { return Rewriter(pattern).run(); }

}  // namespace moegen::text
