#include "tokenizer/jinja_str_format.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "tokenizer/jinja_format.h"
#include "tokenizer/jinja_operators.h"
#include "tokenizer/jinja_text.h"
#include "tokenizer/python_text.h"
#include "tokenizer/unicode.h"

namespace moegen::jinja {
namespace {

constexpr size_t kMaxWidth = 10'000;

// [[fill]align][sign][#][0][width][grouping][.precision][type]
struct Spec {
  std::string_view fill = " ";
  char align = 0;  // < > ^ =, or what is usual for the type
  char sign = '-';
  char grouping = 0;
  char type = 0;
  bool prefix = false;
  size_t width = 0;
  std::optional<size_t> precision = {};
};

[[noreturn]] void invalid(std::string_view spec) { fail(fmt::format("Invalid format specifier '{}'", spec.substr(0, 40))); }

bool is_one_of(char c, std::string_view all) { return all.find(c) != std::string_view::npos; }

size_t take_number(std::string_view& s) {
  size_t n = 0;
  for (; !s.empty() && s[0] >= '0' && s[0] <= '9'; s.remove_prefix(1)) n = std::min(n * 10 + static_cast<size_t>(s[0] - '0'), kMaxWidth + 1);
  if (n > kMaxWidth) fail("a width in a format is too large");
  return n;
}

// One character of `all` if it comes next, else 0.
char take_one(std::string_view& s, std::string_view all) {
  if (s.empty() || !is_one_of(s[0], all)) return 0;
  const char c = s[0];
  s.remove_prefix(1);
  return c;
}

Spec parse_spec(std::string_view text) {
  Spec spec;
  std::string_view s = text;
  const size_t first = s.empty() ? 0 : text::char_bytes(s[0]);
  if (s.size() > first && is_one_of(s[first], "<>^=")) {
    spec.fill = s.substr(0, first);
    s.remove_prefix(first);
  }
  spec.align = take_one(s, "<>^=");
  if (const char sign = take_one(s, "+- ")) spec.sign = sign;
  spec.prefix = take_one(s, "#") != 0;
  if (take_one(s, "0") != 0 && spec.align == 0) {
    spec.fill = "0";
    spec.align = '=';
  }
  spec.width = take_number(s);
  spec.grouping = take_one(s, ",_");
  if (take_one(s, ".") != 0) {
    if (s.empty() || s[0] < '0' || s[0] > '9') fail("Format specifier missing precision");
    spec.precision = take_number(s);
  }
  spec.type = take_one(s, "sdboxXeEfFgG%");
  if (!s.empty()) invalid(text);
  return spec;
}

// Puts `prefix` (a sign, 0x) and `body` into the width; '=' fills between them.
std::string padded(Heap& heap, const Spec& spec, char usual_align, const std::string& prefix, const std::string& body) {
  const size_t length = prefix.size() + text::count_chars(body);
  const size_t pad = spec.width > length ? spec.width - length : 0;
  heap.charge(length + pad * spec.fill.size());
  const char align = spec.align != 0 ? spec.align : usual_align;
  const size_t left = align == '<' ? 0 : align == '^' ? pad / 2 : pad;
  const auto fill = [&](size_t n) {
    std::string out;
    for (; n > 0; --n) out += spec.fill;
    return out;
  };
  if (align == '=') return prefix + fill(pad) + body;
  return fill(left) + prefix + body + fill(pad - left);
}

// "1234567.5" -> "1,234,567.5"
std::string grouped(std::string digits, char separator, size_t size) {
  if (separator == 0) return digits;
  const size_t end = std::min(digits.find_first_not_of("0123456789abcdefABCDEF"), digits.size());
  for (size_t at = end; at > size;) digits.insert(at -= size, 1, separator);
  return digits;
}

// A float without a type, but with a precision: as 'g', with a digit behind the point, and an exponent one digit earlier.
std::string of_no_type(double v, size_t precision) {
  const auto digits = static_cast<int>(std::max<size_t>(precision, 1));
  std::string scientific = fmt::format("{:.{}e}", v, digits - 1);
  const size_t e = scientific.find('e');
  const int exponent = std::stoi(scientific.substr(e + 1));
  if (exponent < -4 || exponent >= digits - 1) {
    std::string mantissa = scientific.substr(0, e);
    if (mantissa.find('.') != std::string::npos) mantissa.erase(mantissa.find_last_not_of("0.") + 1);
    if (v != 0) return mantissa + scientific.substr(e);
  }
  std::string out = fmt::format("{:.{}g}", v, digits);
  return out.find('.') == std::string::npos ? out + ".0" : out;
}

std::string float_digits(double v, const Spec& spec) {
  const auto precision = static_cast<int>(spec.precision.value_or(6));
  if (!std::isfinite(v)) {
    const std::string name = std::isnan(v) ? "nan" : "inf";
    return (is_one_of(spec.type, "EFG") && spec.type != 0 ? python::upper(name) : name) + (spec.type == '%' ? "%" : "");
  }
  switch (spec.type) {
    case 0:
      return spec.precision ? of_no_type(v, *spec.precision) : python::repr(v);
    case 'e':
      return fmt::format("{:.{}e}", v, precision);
    case 'E':
      return fmt::format("{:.{}E}", v, precision);
    case 'g':
      return fmt::format("{:.{}g}", v, std::max(precision, 1));
    case 'G':
      return fmt::format("{:.{}G}", v, std::max(precision, 1));
    case '%':
      return python::fixed(v * 100, precision) + "%";
    default:
      return python::fixed(v, precision);
  }
}

std::string sign_of(bool negative, const Spec& spec) { return negative ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign); }

// Zeros in front of groups would be grouped too.
void check_grouping(const Spec& spec) {
  if (spec.grouping != 0 && spec.fill == "0" && spec.align == '=') fail("a format of zeros in groups is not supported");
}

std::string of_float(Heap& heap, double v, const Spec& spec) {
  if (spec.type == 's' || (spec.type != 0 && is_one_of(spec.type, "dboxX")) || spec.prefix)
    fail(fmt::format("the format code '{}' is not for floats", spec.type == 0 ? '#' : spec.type));
  check_grouping(spec);
  const bool negative = std::signbit(v) && !std::isnan(v);
  return padded(heap, spec, '>', sign_of(negative, spec), grouped(float_digits(std::abs(v), spec), spec.grouping, 3));
}

std::string of_integer(Heap& heap, int64_t v, const Spec& spec) {
  if (spec.type != 0 && is_one_of(spec.type, "eEfFgG%")) return of_float(heap, static_cast<double>(v), spec);
  if (spec.type == 's') fail("Unknown format code 's' for object of type 'int'");
  if (spec.precision) fail("Precision not allowed in integer format specifier");
  check_grouping(spec);
  const uint64_t size = v < 0 ? uint64_t{0} - static_cast<uint64_t>(v) : static_cast<uint64_t>(v);
  const bool decimal = spec.type == 0 || spec.type == 'd';
  if (spec.grouping == ',' && !decimal) fail(fmt::format("Cannot specify ',' with '{}'.", spec.type));
  const std::string digits = decimal            ? std::to_string(size)
                             : spec.type == 'b' ? fmt::format("{:b}", size)
                             : spec.type == 'o' ? fmt::format("{:o}", size)
                             : spec.type == 'x' ? fmt::format("{:x}", size)
                                                : fmt::format("{:X}", size);
  const std::string prefix = spec.prefix && !decimal ? fmt::format("0{}", spec.type) : "";
  return padded(heap, spec, '>', sign_of(v < 0, spec) + prefix, grouped(digits, spec.grouping, decimal ? 3 : 4));
}

std::string of_text(Heap& heap, const std::string& s, Spec spec) {
  if ((spec.type != 0 && spec.type != 's') || spec.grouping != 0 || spec.prefix || spec.sign != '-') fail("a format of numbers is not for texts");
  if (spec.align == '=' && spec.fill != "0") fail("'=' alignment not allowed in string format specifier");
  if (spec.align == '=') spec.align = '<';
  size_t end = 0;
  for (size_t n = spec.precision.value_or(s.size()); n > 0 && end < s.size(); --n) end += text::char_bytes(s[end]);
  return padded(heap, spec, '<', "", s.substr(0, end));
}

// The field "name.attribute[index]"; an empty name, or a number, is a place.
Value field_of(Interpreter& in, std::string_view field, const Args& args, size_t& next) {
  const std::string name(field.substr(0, field.find_first_of(".[")));
  field.remove_prefix(name.size());
  const auto named = std::find_if(args.named.begin(), args.named.end(), [&](const auto& n) { return n.first == name; });
  const bool digits = name.size() < 6 && name.find_first_not_of("0123456789") == std::string::npos;
  Value v;
  if (digits) {
    const size_t place = name.empty() ? next++ : static_cast<size_t>(std::stoul(name));
    if (place >= args.positional.size()) fail(fmt::format("Replacement index {} out of range for positional args tuple", place));
    v = args.positional[place];
  } else {
    if (named == args.named.end()) fail(fmt::format("str.format: there is no value for the field '{}'", name));
    v = named->second;
  }
  while (!field.empty()) {
    const bool index = field[0] == '[';
    const size_t end = std::min(index ? field.find(']') : field.find_first_of(".[", 1), field.size());
    const std::string part(field.substr(1, end - 1));
    if (part.empty() || (index && end == field.size())) fail("Empty attribute in format string");
    const bool number = index && part.size() < 10 && part.find_first_not_of("0123456789") == std::string::npos;
    v = number ? in.item(v, Value(static_cast<int64_t>(std::stoll(part)))) : index ? in.item(v, in.heap().text(part)) : in.attribute(v, part);
    field.remove_prefix(end + (index ? 1 : 0));
  }
  return v;
}

// One call of str.format.
class Formatter {
 public:
  Formatter(Interpreter& in, const Args& args, bool escapes) : in_(in), args_(args), escapes_(escapes) {}

  /// `fields`: how deep fields may stand in each other, which they do in format specs.
  std::string run(std::string_view pattern, size_t fields) {
    std::string out;
    for (size_t i = 0; i < pattern.size(); ++i) {
      const char c = pattern[i];
      if ((c == '{' || c == '}') && i + 1 < pattern.size() && pattern[i + 1] == c) {
        out += c;
        ++i;
      } else if (c == '}') {
        fail("Single '}' encountered in format string");
      } else if (c != '{') {
        out += c;
      } else {
        if (fields == 0) fail("Max string recursion exceeded");
        size_t close = i + 1;
        for (size_t open = 1; close < pattern.size(); ++close) {
          open += pattern[close] == '{' ? 1 : 0;
          if (pattern[close] == '}' && --open == 0) break;
        }
        if (close >= pattern.size()) fail("expected '}' before end of string");
        out += field(pattern.substr(i + 1, close - i - 1), fields - 1);
        in_.heap().check_text(out.size());
        i = close;
      }
    }
    return out;
  }

 private:
  std::string field(std::string_view text, size_t fields) {
    const size_t colon = text.find(':');
    std::string_view name = text.substr(0, colon);
    const size_t bang = name.find('!');
    const std::string_view conversion = bang == std::string_view::npos ? "" : name.substr(bang + 1);
    name = name.substr(0, bang);
    if (name.find('{') != std::string_view::npos) fail("unexpected '{' in field name");
    Value v = field_of(in_, name, args_, next_);
    if (bang != std::string_view::npos) {
      if (conversion != "r" && conversion != "s") fail("str.format: only the conversions !r and !s are supported");
      v = in_.heap().text(conversion == "r" ? to_repr(in_.heap(), v) : to_text(in_.heap(), v));
    }
    const std::string spec = colon == std::string_view::npos ? "" : run(text.substr(colon + 1), fields);
    if (!escapes_) return formatted(in_, v, spec);
    if (v.is_markup() && !spec.empty()) fail("Unsupported format specification for Markup.");
    return v.is_markup() ? *v.text() : escaped(in_.heap(), formatted(in_, v, spec));
  }

  Interpreter& in_;
  const Args& args_;
  bool escapes_;
  size_t next_ = 0;
};

}  // namespace

std::string formatted(Interpreter& in, const Value& value, std::string_view spec) {
  if (spec.empty()) return in.text_of(value);
  const Spec parsed = parse_spec(spec);
  int64_t integer = 0;
  if (value.text() != nullptr) return of_text(in.heap(), *value.text(), parsed);
  if (value.as_integer(integer)) return of_integer(in.heap(), integer, parsed);
  if (value.real() != nullptr) return of_float(in.heap(), *value.real(), parsed);
  require_defined(value);
  fail(fmt::format("unsupported format string passed to {}.__format__", value.type_name()));
}

Value format_braces(Interpreter& in, const Value& pattern, const Args& args) {
  return in.heap().text_like(pattern, Formatter(in, args, pattern.is_markup()).run(*pattern.text(), 2));
}

}  // namespace moegen::jinja
