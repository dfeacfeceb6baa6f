#include "tokenizer/jinja_operators.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/text_search.h"
#include "tokenizer/jinja_format.h"
#include "tokenizer/jinja_text.h"
#include "tokenizer/python_text.h"
#include "tokenizer/unicode.h"

namespace moegen::jinja {
namespace {

[[noreturn]] void bad_types(const std::string& op, const Value& a, const Value& b) {
  require_defined(a);
  require_defined(b);
  if (op == "+" && a.text() != nullptr) fail(std::string("can only concatenate str (not \"") + b.type_name() + "\") to str");
  if (op == "+" && a.seq() != nullptr)
    fail(std::string("can only concatenate ") + a.type_name() + " (not \"" + b.type_name() + "\") to " + a.type_name());
  fail(std::string("unsupported operand type(s) for ") + op + ": '" + a.type_name() + "' and '" + b.type_name() + "'");
}

[[noreturn]] void too_large() { fail("an integer is too large: this engine has 64 bits"); }

Value integer_power(int64_t base, int64_t exponent) {
  int64_t result = 1;
  const bool small = base >= -1 && base <= 1;
  for (int64_t i = small ? exponent % 2 + (exponent > 0 ? 2 : 0) : exponent; i > 0; --i) {
    if (__builtin_mul_overflow(result, base, &result)) too_large();
  }
  return Value(result);
}

Value floor_divide(int64_t x, int64_t y) {
  if (y == -1) {
    if (x == std::numeric_limits<int64_t>::min()) too_large();
    return Value(-x);
  }
  return Value(x / y - ((x % y != 0 && (x < 0) != (y < 0)) ? 1 : 0));
}

Value modulo(int64_t x, int64_t y) {
  if (y == -1) return Value(int64_t{0});
  const int64_t r = x % y;
  return Value(r != 0 && (r < 0) != (y < 0) ? r + y : r);
}

Value of_integers(const std::string& op, int64_t x, int64_t y) {
  int64_t r = 0;
  bool overflow = false;
  if (op == "+") overflow = __builtin_add_overflow(x, y, &r);
  if (op == "-") overflow = __builtin_sub_overflow(x, y, &r);
  if (op == "*") overflow = __builtin_mul_overflow(x, y, &r);
  if (overflow) too_large();
  if (op == "+" || op == "-" || op == "*") return Value(r);
  if (op == "**") {
    if (y >= 0) return integer_power(x, y);
    if (x == 0) fail("0.0 cannot be raised to a negative power");
    return Value(std::pow(static_cast<double>(x), static_cast<double>(y)));
  }
  if (y == 0) fail(op == "/" ? "division by zero" : "integer division or modulo by zero");
  if (op == "/") return Value(static_cast<double>(x) / static_cast<double>(y));
  return op == "//" ? floor_divide(x, y) : modulo(x, y);
}

Value of_reals(const std::string& op, double x, double y) {
  if (op == "+") return Value(x + y);
  if (op == "-") return Value(x - y);
  if (op == "*") return Value(x * y);
  if (op == "**") {
    const double r = std::pow(x, y);
    if (std::isnan(r) && !std::isnan(x) && !std::isnan(y)) fail("complex numbers are not supported");
    if (std::isinf(r) && !std::isinf(x) && !std::isinf(y)) fail("the result of ** is too large");
    return Value(r);
  }
  if (y == 0) fail(op == "/" ? "float division by zero" : "float floor division by zero");
  if (op == "/") return Value(x / y);
  const double r = std::fmod(x, y);
  if (op == "//") {  // from the remainder, which is exact, as Python does
    const double quotient = (x - r) / y - (r != 0 && (r < 0) != (y < 0) ? 1 : 0);
    return Value(quotient == 0 ? std::copysign(0.0, x / y) : std::round(quotient));
  }
  if (r == 0) return Value(std::copysign(0.0, y));
  return Value((r < 0) != (y < 0) ? r + y : r);
}

Value repeat(Heap& heap, const Value& what, int64_t times) {
  const uint64_t n = times > 0 ? static_cast<uint64_t>(times) : 0;
  const size_t unit = what.text() != nullptr ? what.text()->size() : what.seq()->items.size() * sizeof(Value);
  if (n != 0 && unit > std::numeric_limits<uint64_t>::max() / n) fail("the template takes too much: a repetition is too long");
  if (what.text() != nullptr) heap.check_text(unit * n);
  heap.charge(unit * n);
  if (const std::string* s = what.text()) {
    std::string out;
    out.reserve(s->size() * n);
    for (uint64_t i = 0; unit > 0 && i < n; ++i) out += *s;
    return heap.text_like(what, std::move(out));
  }
  std::vector<Value> items;
  const Seq& s = *what.seq();
  items.reserve(s.items.size() * n);
  for (uint64_t i = 0; unit > 0 && i < n; ++i) items.insert(items.end(), s.items.begin(), s.items.end());
  return heap.list(std::move(items), s.kind);
}

bool is_list_or_tuple(const Value& v) { return v.seq() != nullptr && (v.seq()->kind == SeqKind::list || v.seq()->kind == SeqKind::tuple); }

}  // namespace

void require_defined(const Value& v) {
  if (!v.is_undefined()) return;
  const auto& why = std::get<Undefined>(v.data()).why;
  fail(why ? *why : "a value is undefined");
}

Value binary(Heap& heap, const std::string& op, const Value& a, const Value& b) {
  int64_t x = 0;
  int64_t y = 0;
  double p = 0;
  double q = 0;
  if (a.as_integer(x) && b.as_integer(y)) return of_integers(op, x, y);
  if (a.as_real(p) && b.as_real(q)) return of_reals(op, p, q);
  if (op == "+" && a.text() != nullptr && b.text() != nullptr) {
    if (a.is_markup() || b.is_markup()) return heap.markup(escaped(heap, a) + escaped(heap, b));
    heap.check_text(a.text()->size() + b.text()->size());
    return heap.text(*a.text() + *b.text());
  }
  if (op == "+" && is_list_or_tuple(a) && is_list_or_tuple(b) && a.seq()->kind == b.seq()->kind) {
    std::vector<Value> items = a.seq()->items;
    items.insert(items.end(), b.seq()->items.begin(), b.seq()->items.end());
    return heap.list(std::move(items), a.seq()->kind);
  }
  if (op == "*" && (a.text() != nullptr || is_list_or_tuple(a)) && b.as_integer(y)) return repeat(heap, a, y);
  if (op == "*" && (b.text() != nullptr || is_list_or_tuple(b)) && a.as_integer(x)) return repeat(heap, b, x);
  if (op == "%" && a.text() != nullptr) {
    Args args;
    if (b.seq() != nullptr && b.seq()->kind == SeqKind::tuple) {
      args.positional = b.seq()->items;
      return format_percent(heap, a, args, false);
    }
    args.positional.push_back(b);
    // Python takes whatever has an index for a mapping.
    const bool indexed = is_list_or_tuple(b) || b.dict() != nullptr || b.is_undefined() || (b.seq() != nullptr && b.seq()->kind == SeqKind::range);
    return format_percent(heap, a, args, indexed);
  }
  bad_types(op, a, b);
}

bool contains(Heap& heap, const Value& container, const Value& what) {
  if (const std::string* s = container.text()) {
    if (what.text() == nullptr) {
      require_defined(what);
      fail(std::string("'in <string>' requires string as left operand, not ") + what.type_name());
    }
    heap.step(1 + s->size() / 16);
    return find_text(*s, *what.text()) != std::string::npos;
  }
  if (const Seq* s = container.seq()) {
    for (const Value& v : s->items) {
      heap.step(std::min(v.weight(), what.weight()));
      if (equal(v, what)) return true;
    }
    return false;
  }
  if (const Dict* d = container.dict()) return d->find(what) != nullptr;
  if (container.is_undefined()) return false;
  fail(std::string("argument of type '") + container.type_name() + "' is not iterable");
}

namespace {

struct Range {
  int64_t begin;
  int64_t end;
  int64_t step;
};

// As PySlice_AdjustIndices.
Range adjusted(const Value& begin, const Value& end, const Value& step, int64_t size) {
  const auto number = [](const Value& v, int64_t otherwise) {
    int64_t n = otherwise;
    if (v.is_none() || v.is_undefined() || v.as_integer(n)) return n;
    fail("slice indices must be integers or None or have an __index__ method");
  };
  Range r{0, 0, number(step, 1)};
  if (r.step == 0) fail("slice step cannot be zero");
  r.step = std::max(r.step, -std::numeric_limits<int64_t>::max());
  const bool back = r.step < 0;
  const auto bound = [&](int64_t v) { return std::clamp(v < 0 ? v + size : v, back ? int64_t{-1} : int64_t{0}, back ? size - 1 : size); };
  r.begin = begin.is_none() || begin.is_undefined() ? (back ? size - 1 : 0) : bound(number(begin, 0));
  r.end = end.is_none() || end.is_undefined() ? (back ? -1 : size) : bound(number(end, 0));
  return r;
}

template <typename Take>
void walk(const Range& r, Take&& take) {
  if (r.step > 0) {
    for (int64_t i = r.begin; i<r.end; i = r.step> r.end - i ? r.end : i + r.step) take(static_cast<size_t>(i));
  } else {
    for (int64_t i = r.begin; i > r.end; i = r.step < r.end - i ? r.end : i + r.step) take(static_cast<size_t>(i));
  }
}

}  // namespace

Value slice_of(Heap& heap, const Value& of, const Value& begin, const Value& end, const Value& step) {
  if (const std::string* s = of.text()) {
    heap.step(1 + s->size() / 16);
    if (text::is_ascii(*s)) {
      const Range r = adjusted(begin, end, step, static_cast<int64_t>(s->size()));
      if (r.step == 1)
        return heap.text_like(of, r.begin < r.end ? s->substr(static_cast<size_t>(r.begin), static_cast<size_t>(r.end - r.begin)) : "");
    }
    const std::u32string chars = text::to_utf32(*s);
    heap.charge(chars.size() * 4);
    std::string out;
    walk(adjusted(begin, end, step, static_cast<int64_t>(chars.size())), [&](size_t i) { text::append_utf8(out, chars[i]); });
    return heap.text_like(of, std::move(out));
  }
  const Seq* s = of.seq();
  if (s == nullptr || (!is_list_or_tuple(of) && s->kind != SeqKind::range)) {
    require_defined(of);
    fail(std::string("'") + of.type_name() + "' object is not subscriptable");
  }
  std::vector<Value> items;
  walk(adjusted(begin, end, step, static_cast<int64_t>(s->items.size())), [&](size_t i) { items.push_back(s->items[i]); });
  return heap.list(std::move(items), s->kind);
}

namespace {

struct Conversion {
  bool markup = false;  // of the pattern: texts are escaped
  bool left = false;
  bool zero = false;
  bool plus = false;
  bool space = false;
  size_t width = 0;
  int precision = -1;
};

size_t read_number(const std::string& s, size_t& i) {
  constexpr size_t kMax = 10'000;  // of width and precision
  size_t n = 0;
  for (; i < s.size() && s[i] >= '0' && s[i] <= '9'; ++i) n = std::min(n * 10 + static_cast<size_t>(s[i] - '0'), kMax + 1);
  if (n > kMax) fail("a width in a format is too large");
  return n;
}

std::string converted(Heap& heap, const Value& v, char letter, const Conversion& c) {
  double real = 0;
  int64_t integer = 0;
  std::string body;
  if (letter == 's' || letter == 'r') {
    body = letter == 's' ? (c.markup ? escaped(heap, v) : to_text(heap, v)) : c.markup ? escaped(heap, to_repr(heap, v)) : to_repr(heap, v);
    if (c.precision >= 0) {
      const std::u32string chars = text::to_utf32(body);
      body.clear();
      for (size_t i = 0; i < std::min(chars.size(), static_cast<size_t>(c.precision)); ++i) text::append_utf8(body, chars[i]);
    }
    return body;
  }
  if (letter == 'd' || letter == 'i' || letter == 'x' || letter == 'X') {
    if (!v.as_integer(integer)) {
      if (!v.as_real(real) || letter == 'x' || letter == 'X' || !(std::abs(real) < 9e18))
        fail(std::string("%") + letter + " format: a real number is required, not " + v.type_name());
      integer = static_cast<int64_t>(real);
    }
    if (letter == 'd' || letter == 'i') {
      body = std::to_string(integer);
    } else {
      body = letter == 'x' ? fmt::format("{:x}", integer) : fmt::format("{:X}", integer);
    }
  } else {
    if (!v.as_real(real)) fail(std::string("must be real number, not ") + v.type_name());
    const int digits = c.precision >= 0 ? c.precision : 6;
    body = letter == 'f' || letter == 'F' ? python::fixed(real, digits)
           : letter == 'e'                ? fmt::format("{:.{}e}", real, digits)
                                          : fmt::format("{:.{}g}", real, digits);
  }
  if ((c.plus || c.space) && body[0] != '-') body.insert(0, 1, c.plus ? '+' : ' ');
  return body;
}

}  // namespace

Value format_percent(Heap& heap, const Value& format, const Args& args, bool may_be_left) {
  const std::string& pattern = *format.text();
  std::string out;
  size_t next = 0;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '%') {
      out += pattern[i];
      continue;
    }
    Conversion c{.markup = format.is_markup()};
    const Value* v = nullptr;
    ++i;
    if (i < pattern.size() && pattern[i] == '(') {
      const size_t close = pattern.find(')', i);
      if (close == std::string::npos) fail("incomplete format key");
      const std::string key = pattern.substr(i + 1, close - i - 1);
      const Dict* dict = args.positional.size() == 1 ? args.positional[0].dict() : nullptr;
      if (dict != nullptr) v = dict->find(key);
      for (const auto& [name, value] : args.named) v = name == key ? &value : v;
      if (v == nullptr) fail(std::string("the format has no value for '") + key + "'");
      next = args.positional.size();
      i = close + 1;
    }
    for (; i < pattern.size() && std::string_view("-0+ #").find(pattern[i]) != std::string_view::npos; ++i) {
      c.left = c.left || pattern[i] == '-';
      c.zero = c.zero || pattern[i] == '0';
      c.plus = c.plus || pattern[i] == '+';
      c.space = c.space || pattern[i] == ' ';
    }
    c.width = read_number(pattern, i);
    if (i < pattern.size() && pattern[i] == '.') c.precision = static_cast<int>(read_number(pattern, ++i));
    if (i >= pattern.size()) fail("incomplete format");
    const char letter = pattern[i];
    if (letter == '%') {
      out += '%';
      continue;
    }
    if (std::string_view("srdixXfFeg").find(letter) == std::string_view::npos) fail(std::string("unsupported format character '") + letter + "'");
    if (v == nullptr && next >= args.positional.size()) fail("not enough arguments for format string");
    std::string body = converted(heap, v != nullptr ? *v : args.positional[next++], letter, c);
    const size_t length = text::count_chars(body);
    const size_t pad = c.width > length ? c.width - length : 0;
    heap.charge(body.size() + pad);
    const bool zeros = c.zero && !c.left && letter != 's' && letter != 'r';
    if (zeros) body.insert(body[0] == '-' || body[0] == '+' ? 1 : 0, pad, '0');
    out += c.left || zeros ? "" : std::string(pad, ' ');
    out += body;
    if (c.left) out.append(pad, ' ');
  }
  if (next < args.positional.size() && !may_be_left) fail("not all arguments converted during string formatting");
  return heap.text_like(format, std::move(out));
}

}  // namespace moegen::jinja
