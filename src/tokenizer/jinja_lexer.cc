#include "tokenizer/jinja_lexer.h"

#include <algorithm>
#include <array>

#include "tokenizer/python_text.h"
#include "tokenizer/unicode.h"

namespace moegen::jinja {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_start(char c) { return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || static_cast<unsigned char>(c) >= 0x80; }
bool is_name_part(char c) { return is_name_start(c) || is_digit(c); }

std::string with_unix_newlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out += source[i];
    }
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(with_unix_newlines(source)), in_(source_) {}

  std::vector<Token> run() {
    while (pos_ < in_.size()) {
      const size_t open = next_opening();
      if (open == std::string_view::npos) {
        put_data(in_.substr(pos_));
        break;
      }
      const char what = in_[open + 1];
      const char sign = open + 2 < in_.size() ? in_[open + 2] : ' ';
      size_t inside = open + 2 + (sign == '-' || sign == '+' ? 1 : 0);
      put_data(before_opening(in_.substr(pos_, open - pos_), what, sign));
      advance(inside);
      if (what == '#') {
        comment();
      } else if (what == '{') {
        tokens_.push_back({Token::variable_begin, "", line_});
        code("}}", Token::variable_end);
      } else if (!raw_block()) {
        tokens_.push_back({Token::block_begin, "", line_});
        code("%}", Token::block_end);
      }
    }
    tokens_.push_back({Token::end, "", line_});
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void error(std::string message) const { throw SyntaxError{std::move(message), line_}; }

  void advance(size_t to) {
    line_ += static_cast<size_t>(std::count(in_.begin() + static_cast<std::ptrdiff_t>(pos_), in_.begin() + static_cast<std::ptrdiff_t>(to), '\n'));
    pos_ = to;
  }

  [[nodiscard]] size_t next_opening() const {
    for (size_t i = in_.find('{', pos_); i != std::string_view::npos && i + 1 < in_.size(); i = in_.find('{', i + 1)) {
      if (in_[i + 1] == '{' || in_[i + 1] == '%' || in_[i + 1] == '#') return i;
    }
    return std::string_view::npos;
  }

  void put_data(std::string_view data) {
    if (!data.empty()) tokens_.push_back({Token::data, std::string(data), line_});
  }

  // `-` takes all white space away; else, before a block or a comment that is first on its line, the line's indentation goes.
  [[nodiscard]] std::string_view before_opening(std::string_view data, char what, char sign) const {
    if (sign == '-') return python::strip(data, python::Side::right);
    if (sign == '+' || what == '{') return data;
    const size_t newline = data.rfind('\n');
    const size_t begin = newline == std::string_view::npos ? 0 : newline + 1;
    if (begin == 0 && !at_line_start_) return data;
    return python::strip(data.substr(begin), python::Side::both).empty() ? data.substr(0, begin) : data;
  }

  void skip_space() {
    size_t p = pos_;
    while (p < in_.size()) {
      size_t next = p;
      if (!python::is_space(text::next_char(in_, next))) break;
      p = next;
    }
    at_line_start_ = p > pos_ && in_[p - 1] == '\n';
    advance(p);
  }

  // Behind `%}` or `#}`: one newline goes; behind `-%}` all white space; behind `+%}` nothing.
  void after_closing(char sign, bool trims_newline) {
    at_line_start_ = false;
    if (sign == '-') {
      skip_space();
    } else if (sign != '+' && trims_newline && pos_ < in_.size() && in_[pos_] == '\n') {
      advance(pos_ + 1);
      at_line_start_ = true;
    }
  }

  void comment() {
    if (pos_ == in_.size()) return;  // as Jinja's lexer: an opening as the last thing of all is nothing
    const size_t close = in_.find("#}", pos_);
    if (close == std::string_view::npos) error("Missing end of comment tag");
    const char sign = close > pos_ ? in_[close - 1] : ' ';
    advance(close + 2);
    after_closing(sign, true);
  }

  // At `raw -%}` or `endraw %}`; moves behind it.
  bool tag_is(std::string_view word, char& sign) {
    size_t p = pos_;
    const auto spaces = [&] {
      while (p < in_.size() && (in_[p] == ' ' || in_[p] == '\t' || in_[p] == '\n')) ++p;
    };
    spaces();
    if (in_.substr(p, word.size()) != word) return false;
    p += word.size();
    spaces();
    sign = p < in_.size() ? in_[p] : ' ';
    if (sign == '-' || sign == '+') ++p;
    if (in_.substr(p, 2) != "%}") return false;
    advance(p + 2);
    return true;
  }

  bool raw_block() {
    char sign = ' ';
    if (!tag_is("raw", sign)) return false;
    after_closing(sign, false);
    const size_t begin = pos_;
    for (size_t open = in_.find("{%", pos_); open != std::string_view::npos; open = in_.find("{%", open + 2)) {
      const char open_sign = open + 2 < in_.size() ? in_[open + 2] : ' ';
      const std::string_view data = before_opening(in_.substr(begin, open - begin), '%', open_sign);
      const size_t back = pos_;
      const size_t back_line = line_;
      advance(open + 2 + (open_sign == '-' || open_sign == '+' ? 1 : 0));
      if (tag_is("endraw", sign)) {
        put_data(data);
        after_closing(sign, true);
        return true;
      }
      pos_ = back;
      line_ = back_line;
    }
    error("Missing end of raw directive");
  }

  void code(std::string_view closing, Token::Kind closing_kind) {
    std::string brackets;
    for (;;) {
      while (pos_ < in_.size()) {
        size_t next = pos_;
        if (!python::is_space(text::next_char(in_, next))) break;
        advance(next);
      }
      if (pos_ >= in_.size()) {
        return;  // the parser says what is missing
      }
      const char c = in_[pos_];
      const bool signed_end = (c == '-' || (c == '+' && closing[0] == '%')) && in_.substr(pos_ + 1, 2) == closing;
      if (brackets.empty() && (signed_end || in_.substr(pos_, 2) == closing)) {
        advance(pos_ + (signed_end ? 3 : 2));
        tokens_.push_back({closing_kind, "", line_});
        after_closing(signed_end ? c : ' ', closing[0] == '%');
        return;
      }
      if (is_digit(c)) {
        number();
      } else if (is_name_start(c)) {
        name();
      } else if (c == '\'' || c == '"') {
        string(c);
      } else {
        operation(brackets);
      }
    }
  }

  void name() {
    size_t p = pos_;
    while (p < in_.size() && is_name_part(in_[p])) ++p;
    const std::string_view value = in_.substr(pos_, p - pos_);
    for (size_t i = 0; i < value.size();) {
      if (!text::is_word(text::next_char(value, i))) error("unexpected char in a name");
    }
    tokens_.push_back({Token::name, std::string(value), line_});
    advance(p);
  }

  // Digits with single underscores between them.
  [[nodiscard]] size_t digits_end(size_t p, bool (*is_one)(char)) const {
    while (p < in_.size() && (is_one(in_[p]) || (in_[p] == '_' && p + 1 < in_.size() && is_one(in_[p + 1])))) ++p;
    return p;
  }

  void number() {
    const auto lower = [&](size_t i) { return i < in_.size() ? static_cast<char>(in_[i] | 0x20) : ' '; };
    const char base = in_[pos_] == '0' ? lower(pos_ + 1) : ' ';
    Token::Kind kind = Token::integer;
    size_t p;
    if (base == 'x' || base == 'o' || base == 'b') {
      p = digits_end(pos_ + 2, [](char c) { return is_digit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f'); });
    } else {
      p = digits_end(pos_, is_digit);
      const bool after_dot = !tokens_.empty() && tokens_.back().kind == Token::op && tokens_.back().value == ".";
      if (!after_dot && p + 1 < in_.size() && in_[p] == '.' && is_digit(in_[p + 1])) {
        kind = Token::real;
        p = digits_end(p + 1, is_digit);
      }
      size_t e = p + 1;
      if (lower(p) == 'e' && (lower(e) == ('+' | 0x20) || lower(e) == ('-' | 0x20))) ++e;
      if (!after_dot && lower(p) == 'e' && e < in_.size() && is_digit(in_[e])) {
        kind = Token::real;
        p = digits_end(e, is_digit);
      }
    }
    std::string value(in_.substr(pos_, p - pos_));
    std::erase(value, '_');
    tokens_.push_back({kind, std::move(value), line_});
    advance(p);
  }

  void string(char quote) {
    size_t p = pos_ + 1;
    while (p < in_.size() && in_[p] != quote) p += in_[p] == '\\' ? 2 : 1;
    if (p >= in_.size()) error(std::string("unexpected char \"") + quote + "\"");
    std::string value;
    if (!python::unescape(in_.substr(pos_ + 1, p - pos_ - 1), value)) error("a string has a wrong escape");
    tokens_.push_back({Token::text, std::move(value), line_});
    advance(p + 1);
  }

  void operation(std::string& brackets) {
    static constexpr std::array<std::string_view, 26> kOperators = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
                                                                    "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
    const auto* it = std::find_if(kOperators.begin(), kOperators.end(), [&](std::string_view o) { return in_.substr(pos_, o.size()) == o; });
    if (it == kOperators.end()) error(std::string("unexpected char '") + std::string(in_.substr(pos_, 1)) + "'");
    const char c = (*it)[0];
    if (c == '(' || c == '[' || c == '{') brackets += c == '(' ? ')' : c == '[' ? ']' : '}';
    if (c == ')' || c == ']' || c == '}') {
      if (brackets.empty() || brackets.back() != c) error(std::string("unexpected '") + c + "'");
      brackets.pop_back();
    }
    tokens_.push_back({Token::op, std::string(*it), line_});
    advance(pos_ + it->size());
  }

  std::string source_;
  std::string_view in_;
  size_t pos_ = 0;
  size_t line_ = 1;
  bool at_line_start_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> lex(std::string_view source) { return Lexer(source).run(); }

}  // namespace moegen::jinja
