#include "tokenizer/replacer.h"

#include "base/error.h"
#include "tokenizer/unicode.h"

namespace moegen::text {

// A short text can grow by at most this factor in one replacement; a chain of them is bounded by kMaxTextBytes.
constexpr size_t kMaxTextBytes = size_t{1} << 30;

Pattern Pattern::parse(const Fields& owner, const char* key) {
  const nlohmann::json& v = owner.at(key);
  Pattern p;
  if (v.is_string()) {
    p.literal_ = v.get<std::string>();
  } else {
    const Fields fields(v, owner.where() + "." + key);
    if (fields.has("Regex")) {
      try {
        p.regex_ = Regex::compile(fields.text("Regex"));
      } catch (const Error& e) {
        throw_error(e.code(), "{}: {}", fields.where(), e.what());
      }
      return p;
    }
    p.literal_ = fields.text("String");
  }
  if (p.literal_.empty()) owner.refuse("an empty pattern");
  return p;
}

Replacer Replacer::parse(const Fields& fields) {
  Replacer r;
  r.pattern_ = Pattern::parse(fields, "pattern");
  r.content_ = fields.text("content");
  return r;
}

std::string Replacer::apply(std::string_view text, Regex::Scratch& scratch) const {
  size_t at_start = 0;
  return apply(text, scratch, at_start);
}

std::string Replacer::apply(std::string_view text, Regex::Scratch& scratch, size_t& at_start) const {
  std::string out;
  size_t done = 0;
  pattern_.for_each(text, scratch, [&](Match m) {
    if (m.begin == 0 && m.end > 0) {  // what replaces several characters stands for the last of them
      const size_t replaced = count_chars(text.substr(0, m.end));
      at_start = replaced > at_start ? 0 : at_start - replaced + count_chars(content_);
    }
    out.append(text.substr(done, m.begin - done)).append(content_);
    if (out.size() > kMaxTextBytes)
      throw_error(ErrorCode::invalid_argument, "the tokenizer's replacements make this text longer than {} bytes", kMaxTextBytes);
    done = m.end;
  });
  out.append(text.substr(done));
  return out;
}

}  // namespace moegen::text
