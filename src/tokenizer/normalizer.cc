#include "tokenizer/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <variant>

#include "base/error.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/json_fields.h"
#include "tokenizer/replacer.h"
#include "tokenizer/unicode.h"

namespace moegen::text {
namespace {

constexpr int kMaxNesting = 8;
constexpr size_t kMaxSteps = 64;

struct Form {
  bool compat;
  bool compose;
};
struct Prepend {
  std::string text;
};
struct Strip {
  bool left;
  bool right;
};
struct Lowercase {};
struct Bytes {};

// Canonical ordering is sorted here, run by run: utf8proc's own is quadratic in the length of a run of combining marks.
void sort_marks(std::vector<utf8proc_int32_t>& chars) {
  const auto rank = [](utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; };
  for (size_t i = 0; i < chars.size(); ++i) {
    if (rank(chars[i]) == 0) continue;
    size_t end = i;
    while (end < chars.size() && rank(chars[end]) != 0) ++end;
    std::stable_sort(chars.begin() + static_cast<std::ptrdiff_t>(i), chars.begin() + static_cast<std::ptrdiff_t>(end),
                     [&](utf8proc_int32_t a, utf8proc_int32_t b) { return rank(a) < rank(b); });
    i = end - 1;
  }
}

std::string in_form(const Form& form, std::string_view text) {
  const auto decompose = static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | UTF8PROC_STABLE | (form.compat ? UTF8PROC_COMPAT : 0));
  std::vector<utf8proc_int32_t> chars;
  chars.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const auto c = static_cast<utf8proc_int32_t>(next_char(text, i));
    utf8proc_int32_t parts[32];  // the longest decomposition has 18
    int boundary = 0;
    const utf8proc_ssize_t n = utf8proc_decompose_char(c, parts, 32, decompose, &boundary);
    if (n < 0 || n > 32) {
      chars.push_back(c);
    } else {
      chars.insert(chars.end(), parts, parts + n);
    }
  }
  sort_marks(chars);
  auto length = static_cast<utf8proc_ssize_t>(chars.size());
  if (form.compose) {
    length = utf8proc_normalize_utf32(chars.data(), length, static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
  }
  std::string out;
  for (utf8proc_ssize_t i = 0; i < length; ++i) append_utf8(out, static_cast<char32_t>(chars[static_cast<size_t>(i)]));
  return out;
}

std::string_view first_chars(std::string_view text, size_t chars) {
  size_t end = 0;
  for (; chars > 0 && end < text.size(); --chars) end += char_bytes(text[end]);
  return text.substr(0, end);
}

// In all of these `at_start` is how many characters at the begin stand for the first of the original text.

// Piece by piece: nothing combines with a character that the tables do not know.
void apply(const Form& form, std::string& text, Regex::Scratch&, size_t& at_start) {
  if (is_ascii(text)) return;
  at_start = count_chars(in_form(form, first_chars(text, at_start)));
  std::string out;
  size_t done = 0;
  for (size_t i = 0; i < text.size();) {
    const size_t at = i;
    if (!is_new_in_normal_forms(next_char(text, i))) continue;
    out += in_form(form, std::string_view(text).substr(done, at - done));
    out.append(text, at, i - at);
    done = i;
  }
  text = out + in_form(form, std::string_view(text).substr(done));
}

void apply(const Prepend& step, std::string& text, Regex::Scratch&, size_t& at_start) {
  if (text.empty()) return;
  text.insert(0, step.text);
  if (at_start > 0) at_start += count_chars(step.text);
}

void apply(const Strip& step, std::string& text, Regex::Scratch&, size_t& at_start) {
  if (!step.left && !step.right) return;
  size_t begin = 0;
  size_t end = 0;
  bool seen = false;
  for (size_t i = 0; i < text.size();) {
    const size_t at = i;
    if (is_whitespace(next_char(text, i))) continue;
    if (!seen) begin = at;
    seen = true;
    end = i;
  }
  if (!seen) {
    text.clear();
    return;
  }
  if (step.right) text.resize(end);
  if (!step.left) return;
  at_start -= std::min(at_start, count_chars(std::string_view(text).substr(0, begin)));
  text.erase(0, begin);
}

void apply(const Lowercase&, std::string& text, Regex::Scratch&, size_t& at_start) {
  const size_t start_bytes = first_chars(text, at_start).size();
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    append_lower(out, next_char(text, i));
    if (i == start_bytes) at_start = count_chars(out);
  }
  text = std::move(out);
}

void apply(const Bytes&, std::string& text, Regex::Scratch&, size_t&) { text = ByteAlphabet::get().to_text(text); }

void apply(const Replacer& step, std::string& text, Regex::Scratch& scratch, size_t& at_start) { text = step.apply(text, scratch, at_start); }

}  // namespace

struct Normalizer::Step {
  std::variant<Form, Prepend, Strip, Lowercase, Bytes, Replacer> what;
};

namespace {

void parse_into(std::vector<std::unique_ptr<const Normalizer::Step>>& steps, const nlohmann::json& spec, int depth) {
  const Fields f(spec, "normalizer");
  if (depth > kMaxNesting || steps.size() > kMaxSteps) f.refuse("so many or so deeply nested normalizers");
  const std::string type = f.type();
  const auto add = [&](auto step) { steps.push_back(std::make_unique<Normalizer::Step>(Normalizer::Step{std::move(step)})); };
  if (type == "Sequence") {
    for (const auto& inner : f.array("normalizers")) parse_into(steps, inner, depth + 1);
  } else if (type == "NFC" || type == "NFD" || type == "NFKC" || type == "NFKD") {
    add(Form{type[2] == 'K', type.back() == 'C'});
  } else if (type == "Prepend") {
    add(Prepend{f.text("prepend")});
  } else if (type == "Replace") {
    add(Replacer::parse(f));
  } else if (type == "Strip") {
    add(Strip{f.flag("strip_left", true), f.flag("strip_right", true)});
  } else if (type == "Lowercase") {
    add(Lowercase{});
  } else if (type == "ByteLevel") {
    add(Bytes{});
  } else {
    f.refuse(std::string("the type ") + type);
  }
}

}  // namespace

Normalizer::Normalizer() = default;
Normalizer::~Normalizer() = default;
Normalizer::Normalizer(Normalizer&&) noexcept = default;
Normalizer& Normalizer::operator=(Normalizer&&) noexcept = default;

Normalizer Normalizer::parse(const nlohmann::json& spec) {
  Normalizer n;
  if (!spec.is_null()) parse_into(n.steps_, spec, 0);
  return n;
}

size_t Normalizer::apply(std::string& text, Regex::Scratch& scratch) const {
  size_t at_start = 1;
  for (const auto& step : steps_) std::visit([&](const auto& s) { text::apply(s, text, scratch, at_start); }, step->what);
  return at_start;
}

}  // namespace moegen::text
