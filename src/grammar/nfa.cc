#include "grammar/nfa.h"

#include <fmt/format.h>

#include <string>

#include "base/error.h"

namespace moegen::grammar {
namespace {

constexpr size_t kMaxStates = 1 << 18;
constexpr size_t kMaxEdges = 1 << 20;

using Kind = Pattern::Kind;

// What JSON strings cannot hold as it is.
const CodePoints& escaped() {
  static const CodePoints set = [] {
    CodePoints out{0, 0x1F};
    out.add('"', '"');
    out.add('\\', '\\');
    return out;
  }();
  return set;
}

std::string json_escape(uint32_t c) {
  static constexpr std::string_view kPlain = "\"\\\b\f\n\r\t";
  static constexpr std::string_view kNames = "\"\\bfnrt";
  const auto known = kPlain.find(static_cast<char>(c));
  return known != std::string_view::npos ? fmt::format("\\{}", kNames[known]) : fmt::format("\\u{:04x}", c);
}

}  // namespace

Nfa::Nfa(const Pattern& pattern, Encoding encoding) : encoding_(encoding) { accept_ = emit(pattern, add_state()); }

int32_t Nfa::add_state() {
  if (first_.size() >= kMaxStates) throw_error(ErrorCode::unsupported, "a pattern of more than {} states: fewer or smaller repeats", kMaxStates);
  first_.push_back(-1);
  return static_cast<int32_t>(first_.size()) - 1;
}

void Nfa::add_edge(int32_t from, int32_t to, int lo, int hi, bool empty) {
  if (edges_.size() >= kMaxEdges) throw_error(ErrorCode::unsupported, "a pattern of more than {} transitions: fewer or smaller repeats", kMaxEdges);
  int32_t& first = first_[static_cast<size_t>(from)];
  edges_.push_back({to, first, static_cast<uint8_t>(lo), static_cast<uint8_t>(hi), empty});
  first = static_cast<int32_t>(edges_.size()) - 1;
}

int32_t Nfa::emit(const Pattern& p, int32_t from) {
  switch (p.kind) {
    case Kind::set:
    case Kind::json_char: {
      const int32_t to = add_state();
      emit_set(p.kind == Kind::set ? p.set : CodePoints::all().without(escaped()), from, to);
      if (p.kind == Kind::json_char) emit_escapes(from, to);
      return to;
    }
    case Kind::sequence:
      for (const Pattern& part : p.parts) from = emit(part, from);
      return from;
    case Kind::choice: {
      const int32_t to = add_state();
      for (const Pattern& part : p.parts) {
        const int32_t inner = add_state();
        skip(from, inner);
        skip(emit(part, inner), to);
      }
      return to;
    }
    case Kind::repeat:
      return emit_repeat(p, from);
    case Kind::begin:
    case Kind::end:
      break;
  }
  throw_error(ErrorCode::unsupported, "an anchor within a pattern is not supported");
}

int32_t Nfa::emit_repeat(const Pattern& p, int32_t from) {
  const Pattern& part = p.parts[0];
  for (int i = 0; i < p.min; ++i) from = emit(part, from);
  const int32_t to = add_state();
  if (p.max == Pattern::kNoLimit) {
    const int32_t loop = add_state();
    skip(from, loop);
    skip(emit(part, loop), loop);
    skip(loop, to);
    return to;
  }
  for (int i = p.min; i < p.max; ++i) {
    skip(from, to);
    const int32_t inner = add_state();
    skip(from, inner);
    from = emit(part, inner);
  }
  skip(from, to);
  return to;
}

void Nfa::emit_set(const CodePoints& set, int32_t from, int32_t to) {
  if (encoding_ == Encoding::plain) {
    emit_bytes(set, from, to);
    return;
  }
  emit_bytes(set.without(escaped()), from, to);
  std::map<std::string, int32_t> behind;  // what escapes begin with: shared, there are many copies of this in a repeat
  for (uint32_t c = 0; c <= '\\'; ++c) {
    if (!escaped().contains(c) || !set.contains(c)) continue;
    const std::string escape = json_escape(c);
    int32_t at = from;
    for (size_t i = 1; i < escape.size(); ++i) {
      const auto [it, fresh] = behind.try_emplace(escape.substr(0, i), 0);
      if (fresh) add_edge(at, it->second = add_state(), escape[i - 1], escape[i - 1]);
      at = it->second;
    }
    add_edge(at, to, escape.back(), escape.back());
  }
}

void Nfa::emit_bytes(const CodePoints& set, int32_t from, int32_t to) {
  tails_.clear();
  for (const ByteRanges& form : utf8_ranges(set)) {
    int32_t behind = to;
    for (size_t i = static_cast<size_t>(form.size) - 1; i > 0; --i) {
      const auto [lo, hi] = form.bytes[i];
      const auto [it, fresh] = tails_.try_emplace({behind, lo, hi}, 0);
      if (fresh) {
        it->second = add_state();
        add_edge(it->second, behind, lo, hi);
      }
      behind = it->second;
    }
    add_edge(from, behind, form.bytes[0].lo, form.bytes[0].hi);
  }
}

// Every escape of JSON; \u only for characters, or for pairs of surrogates.
void Nfa::emit_escapes(int32_t from, int32_t to) {
  const int32_t slash = add_state();
  add_edge(from, slash, '\\', '\\');
  for (const char c : std::string_view("\"\\/bfnrt")) add_edge(slash, to, c, c);
  const int32_t hex4 = add_state();
  const int32_t hex3 = add_state();
  const int32_t hex2 = add_state();
  const int32_t hex1 = add_state();
  const auto hex = [&](int32_t a, int32_t b, std::string_view digits) {
    for (const char c : digits) add_edge(a, b, c, c);
  };
  static constexpr std::string_view kAll = "0123456789abcdefABCDEF";
  add_edge(slash, hex4, 'u', 'u');
  hex(hex4, hex3, "0123456789abcefABCEF");
  hex(hex3, hex2, kAll);
  hex(hex2, hex1, kAll);
  hex(hex1, to, kAll);
  const int32_t after_d = add_state();
  hex(hex4, after_d, "dD");
  hex(after_d, hex2, "01234567");
  const int32_t high2 = add_state();
  const int32_t high1 = add_state();
  const int32_t high0 = add_state();
  const int32_t low_u = add_state();
  const int32_t low4 = add_state();
  const int32_t low3 = add_state();
  hex(after_d, high2, "89abAB");
  hex(high2, high1, kAll);
  hex(high1, high0, kAll);
  add_edge(high0, low_u, '\\', '\\');
  add_edge(low_u, low4, 'u', 'u');
  hex(low4, low3, "dD");
  hex(low3, hex2, "cdefCDEF");
}

}  // namespace moegen::grammar
