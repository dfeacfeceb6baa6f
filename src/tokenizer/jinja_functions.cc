#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "tokenizer/jinja_format.h"
#include "tokenizer/jinja_interpreter.h"
#include "tokenizer/jinja_operators.h"
#include "tokenizer/jinja_params.h"

namespace moegen::jinja {
namespace {

constexpr uint64_t kMaxRange = 100'000;  // as Jinja's sandbox

class Function : public Object {
 public:
  using Code = Value (*)(Interpreter&, Args&);
  explicit Function(Code code) : code_(code) {}
  [[nodiscard]] std::string type_name() const override { return "function"; }
  [[nodiscard]] bool callable() const override { return true; }
  Value call(Interpreter& interpreter, Args& args) override { return code_(interpreter, args); }

 private:
  Code code_;
};

Value range(Interpreter& in, Args& args) {
  const Params p("range", args, {"start", "stop", "step"}, 1);
  const int64_t start = p.has(1) ? p.integer(0, 0) : 0;
  const int64_t stop = p.has(1) ? p.integer(1, 0) : p.integer(0, 0);
  const int64_t step = p.integer(2, 1);
  if (step == 0) fail("range() arg 3 must not be zero");
  const auto low = static_cast<uint64_t>(step > 0 ? start : stop);
  const auto high = static_cast<uint64_t>(step > 0 ? stop : start);
  const uint64_t width = (step > 0 ? start < stop : stop < start) ? high - low : 0;
  const uint64_t stride = step > 0 ? static_cast<uint64_t>(step) : uint64_t{0} - static_cast<uint64_t>(step);
  const uint64_t count = width / stride + (width % stride != 0 ? 1 : 0);
  if (count > kMaxRange) fail("Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000).");
  in.heap().charge(count * sizeof(Value));
  std::vector<Value> items;
  for (uint64_t i = 0; i < count; ++i) items.emplace_back(static_cast<int64_t>(static_cast<uint64_t>(start) + i * static_cast<uint64_t>(step)));
  return in.heap().list(std::move(items), SeqKind::range);
}

Dict dict_of(Interpreter& in, const Args& args) {
  Dict d;
  if (args.positional.size() > 1) fail("dict expected at most 1 argument");
  for (const Value& v : args.positional) {
    if (const Dict* from = v.dict()) {
      for (const auto& [key, value] : from->items()) d.set(key, value);
      continue;
    }
    for (const Value& pair : in.items_of(v)) {
      const std::vector<Value> two = in.items_of(pair);
      if (two.size() != 2) fail("dictionary update sequence needs pairs");
      d.set(two[0], two[1]);
    }
  }
  for (const auto& [name, value] : args.named) d.set(in.heap().text(name), value);
  in.heap().charge(d.size() * 4 * sizeof(Value));
  return d;
}

Value raise_exception(Interpreter& in, Args& args) {
  const Params p("raise_exception", args, {"message"}, 1);
  fail(to_text(in.heap(), p.at(0)));
}

constexpr std::array<const char*, 7> kDays = {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};
constexpr std::array<const char*, 12> kMonths = {"January", "February", "March",     "April",   "May",      "June",
                                                 "July",    "August",   "September", "October", "November", "December"};

// Letters that stand for several parts.
std::string compound_time(char letter, const std::tm& t) {
  switch (letter) {
    case 'F':
      return fmt::format("{}-{:02}-{:02}", t.tm_year + 1900, t.tm_mon + 1, t.tm_mday);
    case 'T':
      return fmt::format("{:02}:{:02}:{:02}", t.tm_hour, t.tm_min, t.tm_sec);
    case 'R':
      return fmt::format("{:02}:{:02}", t.tm_hour, t.tm_min);
    case 'D':
    case 'x':
      return fmt::format("{:02}/{:02}/{:02}", t.tm_mon + 1, t.tm_mday, (t.tm_year + 1900) % 100);
    case 'X':
      return fmt::format("{:02}:{:02}:{:02}", t.tm_hour, t.tm_min, t.tm_sec);
    case 'c':
      return fmt::format("{} {} {:2} {:02}:{:02}:{:02} {}", std::string_view(kDays[static_cast<size_t>(t.tm_wday)], 3),
                         std::string_view(kMonths[static_cast<size_t>(t.tm_mon)], 3), t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec, t.tm_year + 1900);
    default:
      return std::string("%") + letter;
  }
}

// As strftime in the C locale; an unknown letter stays as it stands.
std::string time_part(char letter, const std::tm& t) {
  auto day = std::string(kDays[static_cast<size_t>(t.tm_wday)]);
  auto month = std::string(kMonths[static_cast<size_t>(t.tm_mon)]);
  const int hour12 = t.tm_hour % 12 == 0 ? 12 : t.tm_hour % 12;
  switch (letter) {
    case 'Y':
      return fmt::format("{}", t.tm_year + 1900);
    case 'y':
      return fmt::format("{:02}", (t.tm_year + 1900) % 100);
    case 'm':
      return fmt::format("{:02}", t.tm_mon + 1);
    case 'd':
      return fmt::format("{:02}", t.tm_mday);
    case 'e':
      return fmt::format("{:2}", t.tm_mday);
    case 'H':
      return fmt::format("{:02}", t.tm_hour);
    case 'I':
      return fmt::format("{:02}", hour12);
    case 'M':
      return fmt::format("{:02}", t.tm_min);
    case 'S':
      return fmt::format("{:02}", t.tm_sec);
    case 'f':
      return "000000";
    case 'j':
      return fmt::format("{:03}", t.tm_yday + 1);
    case 'p':
      return t.tm_hour < 12 ? "AM" : "PM";
    case 'A':
      return day;
    case 'a':
      return day.substr(0, 3);
    case 'B':
      return month;
    case 'b':
    case 'h':
      return month.substr(0, 3);
    case 'w':
      return fmt::format("{}", t.tm_wday);
    case 'u':
      return fmt::format("{}", t.tm_wday == 0 ? 7 : t.tm_wday);
    case 'z':
    case 'Z':
      return "";
    case 'n':
      return "\n";
    case 't':
      return "\t";
    case '%':
      return "%";
    default:
      return compound_time(letter, t);
  }
}

Value strftime_now(Interpreter& in, Args& args) {
  const Params p("strftime_now", args, {"format"}, 1);
  const std::string& format = p.text(0);
  std::string out;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%' || i + 1 == format.size()) {
      out += format[i];
      continue;
    }
    ++i;
    const bool unpadded = format[i] == '-' && i + 1 < format.size();  // glibc's %-d
    if (unpadded) ++i;
    std::string part = time_part(format[i], in.now());
    while (unpadded && part.size() > 1 && (part[0] == '0' || part[0] == ' ')) part.erase(0, 1);
    out += part;
  }
  return in.heap().text(std::move(out));
}

class Cycler : public Object {
 public:
  explicit Cycler(std::vector<Value> v) : items(std::move(v)) {}
  [[nodiscard]] std::string type_name() const override { return "Cycler"; }
  [[nodiscard]] uint32_t depth() const override {
    uint32_t d = 1;
    for (const Value& v : items) d = std::max(d, v.depth() + 1);
    return d;
  }
  void clear() override { items.clear(); }
  std::vector<Value> items;
  size_t at = 0;

  // `next` and `reset` act on the cycler that they were taken from; it lives as long as the rendering.
  class Method : public Object {
   public:
    Method(Cycler& cycler, bool next) : cycler_(cycler), next_(next) {}
    [[nodiscard]] std::string type_name() const override { return "method"; }
    [[nodiscard]] bool callable() const override { return true; }
    Value call(Interpreter&, Args&) override {
      if (!next_) return cycler_.at = 0, Value::none();
      const size_t at = cycler_.at;
      cycler_.at = (at + 1) % cycler_.items.size();
      return cycler_.items[at];
    }

   private:
    Cycler& cycler_;
    bool next_;
  };

  Value attribute(Interpreter& interpreter, const std::string& name) override {
    if (name == "current") return items[at];
    if (name == "next" || name == "reset") return interpreter.heap().object(std::make_shared<Method>(*this, name == "next"), false);
    return Object::attribute(interpreter, name);
  }
};

class Joiner : public Object {
 public:
  explicit Joiner(Value separator) : separator_(std::move(separator)) {}
  [[nodiscard]] std::string type_name() const override { return "Joiner"; }
  [[nodiscard]] bool callable() const override { return true; }
  [[nodiscard]] uint32_t depth() const override { return separator_.depth() + 1; }
  Value call(Interpreter& in, Args&) override {
    if (used_) return separator_;
    used_ = true;
    return in.heap().text("");
  }

 private:
  Value separator_;
  bool used_ = false;
};

Value cycler(Interpreter& in, Args& args) {
  if (args.positional.empty() || !args.named.empty()) fail("cycler() needs items");
  return in.heap().object(std::make_shared<Cycler>(args.positional), true);
}

Value joiner(Interpreter& in, Args& args) {
  const Params p("joiner", args, {"sep"});
  return in.heap().object(std::make_shared<Joiner>(p.has(0) ? p.at(0) : in.heap().text(", ")), true);
}

}  // namespace

Value global_function(Interpreter& in, const std::string& name) {
  struct Entry {
    const char* name;
    Function::Code code;
  };
  static constexpr std::array<Entry, 7> kFunctions = {{{"range", range},
                                                       {"dict", [](Interpreter& i, Args& args) { return i.heap().dict(dict_of(i, args)); }},
                                                       {"namespace", [](Interpreter& i, Args& args) { return make_namespace(i, dict_of(i, args)); }},
                                                       {"raise_exception", raise_exception},
                                                       {"strftime_now", strftime_now},
                                                       {"cycler", cycler},
                                                       {"joiner", joiner}}};
  for (const Entry& e : kFunctions) {
    if (name == e.name) return in.heap().object(std::make_shared<Function>(e.code), false);
  }
  return {};
}

}  // namespace moegen::jinja
