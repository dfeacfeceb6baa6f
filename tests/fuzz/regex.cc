// A regular expression, and bytes that choose the tokens of a text that it matches; they are tried as a text themselves too.
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "moegen/error.h"
#include "tests/fuzz/grammar_walk.h"
#include "tokenizer/unicode.h"

namespace moegen::testing {
namespace {

// The syntax that ECMA-262 and PCRE2 take for the same.
bool is_common(std::string_view pattern) {
  constexpr std::string_view kSyntax = "()|*+?{},[]^- _abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
  if (pattern.find_first_not_of(kSyntax) != std::string_view::npos) return false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == '^' && (i == 0 || pattern[i - 1] != '[')) return false;
    const std::string_view rest = pattern.substr(i);
    if (rest.starts_with("[]") || rest.starts_with("[^]") || rest.starts_with("(?") || rest.starts_with("(*")) return false;
  }
  return true;
}

// PCRE2 as the judge; nothing where it gives up.
std::optional<bool> matches(std::string_view pattern, std::string_view text) {
  const std::string whole = fmt::format("\\A(?:{})\\z", pattern);
  int error = 0;
  PCRE2_SIZE at = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(whole.data()), whole.size(), PCRE2_UTF, &error, &at, nullptr);
  if (code == nullptr) return {};
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_set_match_limit(context, 100'000);
  pcre2_match_data* data = pcre2_match_data_create_from_pattern(code, nullptr);
  const int rc = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0, 0, data, context);
  pcre2_match_data_free(data);
  pcre2_match_context_free(context);
  pcre2_code_free(code);
  if (rc < 0 && rc != PCRE2_ERROR_NOMATCH) return {};
  return rc >= 0;
}

}  // namespace

void fuzz_one(std::string_view input) {
  constexpr size_t kMaxChoices = 64;
  const auto [pattern, rest] = two_parts(input);
  const std::string_view choices = rest.substr(0, kMaxChoices);
  try {
    const auto grammar = regex(std::string(pattern));
    const auto text = write_text(grammar, choices);
    if (text) require(text::first_invalid(*text) == text->size(), "what is written is UTF-8");
    if (!is_common(pattern)) return;
    if (text) require(matches(pattern, *text).value_or(true), fmt::format("'{}' matches '{}'", pattern, *text));
    if (text::first_invalid(choices) != choices.size()) return;
    const bool accepted = accepts(grammar, choices);
    require(matches(pattern, choices).value_or(accepted) == accepted, fmt::format("'{}' is for '{}' what it is for PCRE2", pattern, choices));
  } catch (const Error&) {
    return;  // refused with a message
  }
}

}  // namespace moegen::testing
