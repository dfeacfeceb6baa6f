#include "tokenizer/tokenizer_file.h"

#include "base/error.h"

namespace moegen::text {
namespace {

constexpr size_t kMaxDepth = 32;
constexpr size_t kMaxValues = 4'000'000;  // outside vocab and merges

/// Events of nlohmann's parser. Builds a document, but for `model.vocab` (an object) and `model.merges` (an array).
class Reader : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit Reader(TokenizerFile& file) : file_(file) {}

  bool null() override { return value(nullptr); }
  bool boolean(bool v) override { return value(v); }
  bool number_integer(number_integer_t v) override { return number(v, v); }
  bool number_unsigned(number_unsigned_t v) override { return number(v, v <= INT64_MAX ? static_cast<int64_t>(v) : -1); }
  bool number_float(number_float_t v, const string_t&) override { return value(v); }
  bool string(string_t& v) override {
    if (part_ != Part::merges) return value(std::move(v));
    if (in_pair_) {
      pair_.push_back(std::move(v));
      if (pair_.size() > 2) wrong("a merge has more than two parts");
      return true;
    }
    if (v.starts_with("#version")) return true;  // the first line of a merges.txt
    const size_t space = v.find(' ');
    if (space == std::string::npos || v.find(' ', space + 1) != std::string::npos)
      wrong(std::string("the merge \"") + v + "\" is not two parts with a space between");
    file_.merges.add(std::string_view(v).substr(0, space), std::string_view(v).substr(space + 1));
    return true;
  }
  bool binary(binary_t&) override { return false; }

  bool start_object(size_t) override {
    if (part_ != Part::other) wrong("an object stands where none can be");
    if (at_model_ && key_ == "merges") wrong("merges are no array");
    if (at_model_ && key_ == "vocab") {
      part_ = Part::vocab;
      return true;
    }
    return open(nlohmann::json::object());
  }
  bool key(string_t& v) override {
    key_ = std::move(v);
    at_model_ = stack_.size() == 2 && in_model_;
    return true;
  }
  bool end_object() override { return close(); }
  bool start_array(size_t) override {
    if (part_ == Part::vocab) wrong("an array stands where none can be");
    if (part_ == Part::merges) {
      if (in_pair_) wrong("a merge is no pair of texts");
      in_pair_ = true;
      pair_.clear();
      return true;
    }
    if (at_model_ && key_ == "merges") {
      part_ = Part::merges;
      return true;
    }
    return open(nlohmann::json::array());
  }
  bool end_array() override {
    if (part_ == Part::merges && in_pair_) {
      if (pair_.size() != 2) wrong("a merge has not two parts");
      file_.merges.add(pair_[0], pair_[1]);
      in_pair_ = false;
      return true;
    }
    return close();
  }
  bool parse_error(size_t, const std::string&, const nlohmann::json::exception& e) override { throw_error(ErrorCode::corrupt, "{}", e.what()); }

 private:
  enum class Part { other, vocab, merges };
  [[noreturn]] static void wrong(const std::string& what) { throw_error(ErrorCode::corrupt, "model: {}", what); }

  template <typename T>
  bool number(T v, int64_t id) {
    if (part_ != Part::vocab) return value(v);
    file_.vocab.add(key_, id);
    return true;
  }

  nlohmann::json* put(nlohmann::json v) {
    if (part_ != Part::other) wrong("vocab or merges hold a value that does not belong there");
    if (++values_ > kMaxValues) throw_error(ErrorCode::corrupt, "too many values");
    if (stack_.empty()) {
      file_.rest = std::move(v);
      return &file_.rest;
    }
    nlohmann::json& parent = *stack_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(v));
      return &parent.back();
    }
    nlohmann::json& slot = parent[key_];
    slot = std::move(v);
    return &slot;
  }
  bool value(nlohmann::json v) {
    put(std::move(v));
    return true;
  }
  bool open(nlohmann::json container) {
    if (stack_.size() >= kMaxDepth) throw_error(ErrorCode::corrupt, "JSON nested deeper than {} levels", kMaxDepth);
    if (stack_.size() == 1) in_model_ = key_ == "model" && stack_[0]->is_object();
    stack_.push_back(put(std::move(container)));
    at_model_ = false;
    return true;
  }
  bool close() {
    if (part_ != Part::other) {
      part_ = Part::other;
      return true;
    }
    stack_.pop_back();
    at_model_ = false;
    return true;
  }

  TokenizerFile& file_;
  std::vector<nlohmann::json*> stack_;  // open containers; a parent does not move while a child is open
  std::string key_;
  std::vector<std::string> pair_;
  size_t values_ = 0;
  Part part_ = Part::other;
  bool in_model_ = false;  // the container of depth 2 is "model"
  bool at_model_ = false;  // the last key stood directly in it
  bool in_pair_ = false;
};

}  // namespace

TokenizerFile parse_tokenizer_file(const std::string& text, const std::string& name) {
  TokenizerFile file;
  Reader reader(file);
  try {
    nlohmann::json::sax_parse(text.data(), text.data() + text.size(), &reader);
    if (!file.rest.is_object() || !file.rest.contains("model") || !file.rest["model"].is_object())
      throw_error(ErrorCode::corrupt, "no object \"model\"");
    file.vocab.finish();
  } catch (const Error& e) {
    throw_error(e.code(), "{}: {}", name, e.what());
  }
  return file;
}

}  // namespace moegen::text
