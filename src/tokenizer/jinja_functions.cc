#include <algorithm>
#include <array>
#include <ctime>

#include "tokenizer/jinja_format.h"
#include "tokenizer/jinja_interpreter.h"
#include "tokenizer/jinja_operators.h"
#include "tokenizer/jinja_params.h"
#include "tokenizer/unicode.h"

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

// As datetime.strftime of a time without a zone: %f, %z and %Z are Python's, the rest is the C library's.
Value strftime_now(Interpreter& in, Args& args) {
  constexpr size_t kGrowth = 256;  // Python gives up on a longer text too
  const Params p("strftime_now", args, {"format"}, 1);
  std::string format;
  for (size_t i = 0; i < p.text(0).size(); ++i) {
    const char c = p.text(0)[i];
    const char next = i + 1 < p.text(0).size() ? p.text(0)[i + 1] : 0;
    if (c == 0) fail("embedded null character");
    if (c != '%' || next == 0) {
      format += c;
      continue;
    }
    ++i;
    if (next == 'f') format += "000000";
    if (next != 'f' && next != 'z' && next != 'Z') format.append({c, next});
  }
  const size_t most = kGrowth * format.size() + 1;
  in.heap().charge(most);
  std::string out(most, '\0');
  out.resize(std::strftime(out.data(), most, format.c_str(), &in.now()));
  return in.heap().text(text::valid_utf8(out));
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
