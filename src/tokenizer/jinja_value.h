#pragma once

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace moegen::jinja {

class Object;
struct Seq;
class Dict;

/// What a template does wrong; the interpreter adds the line.
class TemplateError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct Undefined {
  std::shared_ptr<const std::string> why;  ///< what to say where it is used
};
struct None {};
/// A text that `escape` or `safe` made: what is joined to it is escaped. A text otherwise.
struct Markup {
  std::shared_ptr<const std::string> text;
};

/// A value as Python has it: immutable, but for objects with state (namespaces, loops). Cheap to copy. Strings are valid
/// UTF-8 and are indexed by code point. Containers come from a Heap, which bounds their number, size and depth.
class Value {
 public:
  using Data = std::variant<Undefined, None, bool, int64_t, double, std::shared_ptr<const std::string>, std::shared_ptr<const Seq>,
                            std::shared_ptr<const Dict>, std::shared_ptr<Object>, Markup>;

  Value() = default;
  template <typename T>
  requires(!std::is_same_v<T, Value>) explicit Value(T v) : data_(std::move(v)) {}

  static Value none() { return Value(None{}); }
  static Value integer(int64_t v) { return Value(v); }
  static Value undefined(std::string why) { return Value(Undefined{std::make_shared<const std::string>(std::move(why))}); }
  /// What an attribute that templates may not reach is: undefined, and an error once it is used.
  static Value unsafe(const std::string& name, const Value& of) {
    return undefined("access to attribute '" + name + "' of '" + of.type_name() + "' object is unsafe.");
  }

  [[nodiscard]] bool is_undefined() const { return std::holds_alternative<Undefined>(data_); }
  /// Undefined for no reason: what a function returns that has found nothing.
  [[nodiscard]] bool is_nothing() const {
    const auto* u = std::get_if<Undefined>(&data_);
    return u != nullptr && u->why == nullptr;
  }
  [[nodiscard]] bool is_none() const { return std::holds_alternative<None>(data_); }
  [[nodiscard]] const bool* boolean() const { return std::get_if<bool>(&data_); }
  [[nodiscard]] const int64_t* integer() const { return std::get_if<int64_t>(&data_); }
  [[nodiscard]] const double* real() const { return std::get_if<double>(&data_); }
  [[nodiscard]] const std::string* text() const { return is_markup() ? std::get<Markup>(data_).text.get() : pointee<const std::string>(); }
  [[nodiscard]] bool is_markup() const { return std::holds_alternative<Markup>(data_); }
  [[nodiscard]] const Seq* seq() const { return pointee<const Seq>(); }
  [[nodiscard]] const Dict* dict() const { return pointee<const Dict>(); }
  [[nodiscard]] Object* object() const { return pointee<Object>(); }
  [[nodiscard]] const Data& data() const { return data_; }

  [[nodiscard]] bool truth() const;
  [[nodiscard]] bool is_number() const { return boolean() != nullptr || integer() != nullptr || real() != nullptr; }
  /// Integers and booleans; nullopt-like: false where it is something else.
  bool as_integer(int64_t& v) const;
  bool as_real(double& v) const;
  [[nodiscard]] uint32_t depth() const;         ///< of nested containers
  [[nodiscard]] uint64_t weight() const;        ///< of the whole tree: what it costs to walk through it
  [[nodiscard]] std::string type_name() const;  ///< as Python's type(x).__name__

 private:
  template <typename T>
  [[nodiscard]] T* pointee() const {
    const auto* p = std::get_if<std::shared_ptr<T>>(&data_);
    return p == nullptr ? nullptr : p->get();
  }
  Data data_;
};

enum class SeqKind : uint8_t { list, tuple, generator, range, keys, values, items };

struct Seq {
  std::vector<Value> items;
  SeqKind kind = SeqKind::list;
  uint32_t depth = 1;
  uint64_t weight = 1;
  mutable bool consumed = false;  ///< generators give their items once
  bool is_group = false;          ///< a pair that groupby made: has .grouper and .list
  [[nodiscard]] bool is_generator() const { return kind == SeqKind::generator; }
};

/// In order of insertion.
class Dict {
 public:
  using Item = std::pair<Value, Value>;
  /// A later value of the same key takes the place of the earlier one.
  void set(Value key, Value value);
  [[nodiscard]] const Value* find(const Value& key) const;
  [[nodiscard]] const Value* find(std::string_view key) const;
  [[nodiscard]] const std::vector<Item>& items() const { return items_; }
  [[nodiscard]] size_t size() const { return items_.size(); }
  uint32_t depth = 1;
  uint64_t weight = 1;

 private:
  [[nodiscard]] size_t index_of(const Value& key) const;
  std::vector<Item> items_;
  std::unordered_map<std::string, size_t> by_text_;
  std::unordered_map<int64_t, size_t> by_number_;  // a boolean is its number, as in Python
  size_t others_ = 0;                              // keys of other types: few, found by search
};

struct Args {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

class Interpreter;

/// Something with attributes, or something to call.
class Object {
 public:
  Object() = default;
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  virtual ~Object() = default;
  [[nodiscard]] virtual std::string type_name() const = 0;
  [[nodiscard]] virtual bool callable() const { return false; }
  [[nodiscard]] virtual uint32_t depth() const { return 0; }
  /// Of a namespace: what repr shows.
  [[nodiscard]] virtual const Dict* fields() const { return nullptr; }
  /// Undefined where there is none.
  virtual Value attribute(Interpreter& interpreter, const std::string& name);
  virtual Value call(Interpreter& interpreter, Args& args);
  /// Drops what it refers to, so that no cycle outlives a rendering.
  virtual void clear() {}
};

/// Equality as Python's ==. The caller pays the lesser weight.
bool equal(const Value& a, const Value& b);
/// Three-way order; throws TemplateError where the types have none. `op` is for the message.
int compare(const Value& a, const Value& b, const char* op);

/// The budget of one rendering, and where containers and long strings are made. Throws TemplateError when spent.
class Heap {
 public:
  /// `max_text_bytes`: of one text.
  Heap(uint64_t max_steps, uint64_t max_bytes, uint64_t max_text_bytes) : steps_left_(max_steps), bytes_left_(max_bytes), max_text_(max_text_bytes) {}
  Heap(const Heap&) = delete;
  Heap& operator=(const Heap&) = delete;
  ~Heap();

  void step(uint64_t n = 1) {
    if (n > steps_left_) spent("steps");
    steps_left_ -= n;
  }
  /// Before the memory is taken.
  void charge(uint64_t bytes) {
    if (bytes > bytes_left_) spent("memory");
    bytes_left_ -= bytes;
    step(bytes / 64);
  }
  Value text(std::string s);
  Value markup(std::string s);
  /// Markup where `model` is, else a plain text.
  Value text_like(const Value& model, std::string s) { return model.is_markup() ? markup(std::move(s)) : text(std::move(s)); }
  /// Before a text of so many bytes is made.
  void check_text(uint64_t bytes) const {
    if (bytes > max_text_) spent("text");
  }
  Value list(std::vector<Value> items, SeqKind kind = SeqKind::list);
  Value dict(Dict dict);
  Value object(std::shared_ptr<Object> object, bool has_state);
  /// Cleared at the end.
  void own(std::shared_ptr<Object> object) { owned_.push_back(std::move(object)); }

 private:
  [[noreturn]] static void spent(const char* what);
  std::shared_ptr<const std::string> stored(std::string s);
  uint64_t steps_left_;
  uint64_t bytes_left_;
  uint64_t max_text_;
  std::vector<std::shared_ptr<Object>> owned_;
};

[[noreturn]] void fail(const std::string& message);

}  // namespace moegen::jinja
