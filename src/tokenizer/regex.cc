#include "tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "tokenizer/regex_dialect.h"

namespace moegen::text {
namespace {

constexpr size_t kMaxPatternBytes = 64 << 10;
constexpr uint32_t kMatchLimit = 100'000'000;  // of PCRE2's own steps in one match
constexpr uint32_t kHeapLimitKib = 256 << 10;
constexpr size_t kJitStackBytes = 64 << 20;

std::string message_of(int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

PCRE2_SPTR bytes_of(std::string_view s) { return reinterpret_cast<PCRE2_SPTR>(s.data()); }

}  // namespace

struct Regex::Code {
  pcre2_code* code = nullptr;
  std::string pattern;
  Code() = default;
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  ~Code() { pcre2_code_free(code); }
};

struct Regex::Scratch::Impl {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = nullptr;  // only where the 32 KiB of the machine stack were not enough
  Impl() {
    MOEGEN_CHECK(data != nullptr && context != nullptr);
    pcre2_set_match_limit(context, kMatchLimit);
    pcre2_set_heap_limit(context, kHeapLimitKib);
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  ~Impl() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
};

Regex::Scratch::Scratch() : impl_(std::make_unique<Impl>()) {}
Regex::Scratch::~Scratch() = default;

Regex Regex::compile(const std::string& pattern) {
  if (pattern.size() > kMaxPatternBytes) throw_error(ErrorCode::unsupported, "a pattern of {} bytes", pattern.size());
  const std::string rewritten = to_pcre2(pattern);
  auto code = std::make_shared<Code>();
  code->pattern = pattern;
  int error = 0;
  PCRE2_SIZE at = 0;
  pcre2_compile_context* context = pcre2_compile_context_create(nullptr);
  MOEGEN_CHECK(context != nullptr);
  pcre2_set_newline(context, PCRE2_NEWLINE_LF);
  pcre2_set_parens_nest_limit(context, 64);
  // Oniguruma's ^ and $ are those of lines.
  constexpr uint32_t kOptions = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
  code->code = pcre2_compile(bytes_of(rewritten), rewritten.size(), kOptions, &error, &at, context);
  pcre2_compile_context_free(context);
  if (code->code == nullptr) throw_error(ErrorCode::unsupported, "pattern {}: {} (at {} of {})", pattern, message_of(error), at, rewritten);
  pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE);  // where it cannot, the interpreter does
  return Regex(std::move(code));
}

bool Regex::find(std::string_view subject, size_t from, Scratch& scratch, Match& match) const {
  Scratch::Impl& s = *scratch.impl_;
  const auto attempt = [&] { return pcre2_match(code_->code, bytes_of(subject), subject.size(), from, PCRE2_NO_UTF_CHECK, s.data, s.context); };
  int rc = attempt();
  if (rc == PCRE2_ERROR_JIT_STACKLIMIT && s.stack == nullptr) {
    s.stack = pcre2_jit_stack_create(32 << 10, kJitStackBytes, nullptr);
    pcre2_jit_stack_assign(s.context, nullptr, s.stack);
    rc = attempt();
  }
  if (rc == PCRE2_ERROR_NOMATCH) return false;
  if (rc < 0)
    throw_error(ErrorCode::invalid_argument, "the tokenizer's pattern {} cannot be matched on this text: {}", code_->pattern, message_of(rc));
  const PCRE2_SIZE* where = pcre2_get_ovector_pointer(s.data);
  match = {where[0], where[1]};
  return match.begin <= match.end;  // \K inside a lookahead can put the start behind the end
}

}  // namespace moegen::text
