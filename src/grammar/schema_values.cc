// Strings, numbers, literals, and values that no schema constrains.
#include "grammar/dfa.h"
#include "grammar/formats.h"
#include "grammar/number_range.h"
#include "grammar/schema_compiler.h"

namespace moegen::grammar {
namespace {

// What stands between quotes without an escape.
CodePoints unescaped() {
  CodePoints out = CodePoints::all();
  CodePoints not_these{0, 0x1F};
  not_these.add('"', '"');
  not_these.add('\\', '\\');
  return out.without(not_these);
}

// All texts but `keys`: a tree of their characters, left at any character that is not in it. `keys` sorted, from `depth` on.
Pattern all_but(const std::vector<std::u32string_view>& keys, size_t depth) {
  std::vector<Pattern> ways;
  CodePoints inside;
  size_t i = 0;
  const bool is_key = !keys.empty() && keys[0].size() == depth;
  if (is_key) ++i;
  while (i < keys.size()) {
    const char32_t c = keys[i][depth];
    std::vector<std::u32string_view> below;
    for (; i < keys.size() && keys[i][depth] == c; ++i) below.push_back(keys[i]);
    inside.add(c, c);
    ways.push_back(Pattern::sequence({Pattern::of({c, c}), all_but(below, depth + 1)}));
  }
  ways.push_back(Pattern::sequence({Pattern::of(unescaped().without(inside)), Pattern::repeat(Pattern::of(unescaped()), 0, Pattern::kNoLimit)}));
  if (!is_key) ways.emplace_back();
  return Pattern::choice(std::move(ways));
}

}  // namespace

int32_t SchemaCompiler::separator(int32_t from, char c) {
  const int32_t behind = builder_.add_node();
  const int32_t next = builder_.add_node();
  builder_.byte(from, static_cast<uint8_t>(c), static_cast<uint8_t>(c), behind);
  builder_.byte(behind, ' ', ' ', next);
  builder_.skip(behind, next);
  return next;
}

int32_t SchemaCompiler::key(int32_t from, const std::string& name) { return separator(builder_.text(from, Json(name).dump()), ':'); }

int32_t SchemaCompiler::write_literal(const Json& value, int32_t from) {
  if (!value.is_structured()) return builder_.text(from, value.dump());
  from = builder_.text(from, value.is_object() ? "{" : "[");
  bool first = true;
  for (const auto& [name, inner] : value.items()) {
    if (!first) from = separator(from, ',');
    first = false;
    if (value.is_object()) from = key(from, name);
    from = write_literal(inner, from);
  }
  return builder_.text(from, value.is_object() ? "}" : "]");
}

// A string of JSON. `memo`: what it is, so that the same is written once.
int32_t SchemaCompiler::quoted_rule(const std::string& memo, const Pattern& body, const Pattern* also) {
  if (const auto it = shared_.find(memo); it != shared_.end()) return it->second;
  // The quotes are no characters of the string: where it is written quoted, they are put around afterwards.
  Dfa inner = build_dfa(body, Encoding::quoted);
  if (also != nullptr) inner = intersection(inner, build_dfa(*also, Encoding::quoted));
  const auto end = static_cast<int32_t>(inner.states.size());
  for (Dfa::State& s : inner.states) {
    if (!s.accepts) continue;
    s.accepts = false;
    s.edges.push_back({'"', '"', end});  // free: a quote within is escaped
  }
  inner.states.emplace_back().accepts = true;
  const int32_t rule = builder_.add_rule();
  const int32_t body_rule = builder_.add_rule(inner);
  builder_.byte(builder_.start(rule), '"', '"', builder_.start(body_rule));
  return shared_[memo] = rule;
}

int32_t SchemaCompiler::free_string() {
  return quoted_rule("string", Pattern::repeat({Pattern::Kind::json_char, {}, {}, 0, 0}, 0, Pattern::kNoLimit));
}

int32_t SchemaCompiler::string_rule(const Place& schema) {
  const Json* pattern = schema.find("pattern");
  const Json* format = schema.find("format");
  const int min = schema.count("minLength", 0);
  const int max = schema.count("maxLength", Pattern::kNoLimit);
  if (max != Pattern::kNoLimit && max < min) schema.invalid("maxLength", "is below 'minLength'");
  const std::string_view kind = pattern != nullptr ? "pattern" : "format";
  if (pattern == nullptr && format == nullptr) {
    if (min == 0 && max == Pattern::kNoLimit) return free_string();
    // Within bounds a character is itself or its one usual escape: fewer states.
    try {
      return quoted_rule(fmt::format("length {} {}", min, max), Pattern::repeat(Pattern::of(CodePoints::all()), min, max));
    } catch (const Error& e) {
      schema.unsupported(max != Pattern::kNoLimit ? "maxLength" : "minLength", fmt::format("is too large ({})", e.what()));
    }
  }
  if (pattern != nullptr && format != nullptr) schema.unsupported("format", "beside 'pattern' is not supported");
  const Json& value = pattern != nullptr ? *pattern : *format;
  if (!value.is_string()) schema.invalid(kind, "is not a string");
  const std::string text = value.get<std::string>();
  const std::string regex = pattern != nullptr ? text : std::string(format_pattern(text));
  if (regex.empty() && format != nullptr) schema.unsupported("format", fmt::format("'{}' is not supported", text));
  try {
    const bool bounded = min > 0 || max != Pattern::kNoLimit;
    const Pattern length = Pattern::repeat(Pattern::of(CodePoints::all()), min, max);
    const Pattern body = without_anchors(parse_pattern(regex), pattern != nullptr);
    return quoted_rule(fmt::format("{} {} {} {}", kind, min, max, text), body, bounded ? &length : nullptr);
  } catch (const Error& e) {
    throw_error(e.code(), "'{}' at {}: {}", kind, schema.path, e.what());
  }
}

int32_t SchemaCompiler::free_number() {
  if (const auto it = shared_.find("number"); it != shared_.end()) return it->second;
  const Pattern p = parse_pattern("-?(0|[1-9][0-9]{0,17})(\\.[0-9]{1,17})?([eE][+-]?[0-9]{1,2})?");
  return shared_["number"] = builder_.add_rule(build_dfa(p, Encoding::plain));
}

int32_t SchemaCompiler::number_rule(const Place& schema, bool integer) {
  constexpr size_t kMaxDivisorDigits = 4;  // a state for each remainder
  constexpr double kBeyond = 1e18;         // what is written has at most kMaxDigits digits before the point
  NumberRange range;
  range.integer = integer;
  bool bounded = false;
  const auto bound = [&](const char* keyword, bool lower, bool exclusive) {
    const Json* value = schema.find(keyword);
    if (value == nullptr) return;
    if (!value->is_number()) schema.invalid(keyword, "is not a number");
    bounded = true;
    if (lower ? value->get<double>() <= -kBeyond : value->get<double>() >= kBeyond) return;
    const auto decimal = Decimal::from(*value);
    if (!decimal) schema.unsupported(keyword, fmt::format("needs more than {} digits before or behind the point", kMaxDigits));
    std::optional<Decimal>& have = lower ? range.min : range.max;
    const bool tighter = !have || (lower ? *have < *decimal : *decimal < *have) || (exclusive && !(*have < *decimal) && !(*decimal < *have));
    if (!tighter) return;
    have = decimal;
    (lower ? range.above_min : range.below_max) = exclusive;
  };
  bound("minimum", true, false);
  bound("exclusiveMinimum", true, true);
  bound("maximum", false, false);
  bound("exclusiveMaximum", false, true);
  if (const Json* of = schema.find("multipleOf")) {
    if (!of->is_number() || !(of->get<double>() > 0)) schema.invalid("multipleOf", "is not a number above 0");
    const auto decimal = Decimal::from(*of);
    const std::string digits = decimal ? decimal->whole + decimal->fraction : "";
    if (digits.empty() || digits.size() > kMaxDivisorDigits)
      schema.unsupported("multipleOf", fmt::format("of more than {} digits is not supported", kMaxDivisorDigits));
    range.multiples = {std::stoull(digits), decimal->fraction.size()};
  } else if (!integer && !bounded) {
    return free_number();
  }
  const auto name = [](const std::optional<Decimal>& d) { return d ? fmt::format("{}{}.{}", d->negative ? "-" : "", d->whole, d->fraction) : ""; };
  const std::string memo = fmt::format("range {} {} {} {} {} {} {}", name(range.min), name(range.max), range.above_min, range.below_max, integer,
                                       range.multiples.divisor, range.multiples.places);
  if (const auto it = shared_.find(memo); it != shared_.end()) return it->second;
  try {
    return shared_[memo] = add_number_rule(builder_, range);
  } catch (const Error& e) {
    schema.unsupported(range.multiples.divisor > 1 ? "multipleOf" : "type", fmt::format("is too large ({})", e.what()));
  }
}

// A key that is none of `keys`: without escapes, so that no key is written in two ways.
int32_t SchemaCompiler::other_keys(const std::vector<std::string>& keys) {
  constexpr size_t kMaxLength = 256;
  std::vector<std::u32string> texts;
  for (const std::string& k : keys) {
    std::u32string text;
    for (const char* at = k.data(); at < k.data() + k.size();) text.push_back(next_code_point(at));
    if (text.size() > kMaxLength)
      throw_error(ErrorCode::unsupported, "'additionalProperties' beside a name of more than {} characters is not supported", kMaxLength);
    texts.push_back(std::move(text));
  }
  std::sort(texts.begin(), texts.end());
  texts.erase(std::unique(texts.begin(), texts.end()), texts.end());
  std::string memo = "keys";
  for (const std::string& k : keys) memo.append(1, '\0').append(k);
  const std::vector<std::u32string_view> views(texts.begin(), texts.end());
  return quoted_rule(memo, all_but(views, 0));
}

int32_t SchemaCompiler::any_value() {
  if (const auto it = shared_.find("value"); it != shared_.end()) return it->second;
  const int32_t rule = builder_.add_rule();
  shared_["value"] = rule;
  const int32_t end = builder_.add_node();
  builder_.finish(end);
  for (const int32_t part : {container(true), container(false), free_string(), free_number()}) builder_.call(builder_.start(rule), part, end);
  builder_.texts(builder_.start(rule), {"true", "false", "null"}, end);
  return rule;
}

int32_t SchemaCompiler::any_object() { return container(true); }

int32_t SchemaCompiler::container(bool object) {
  const std::string memo = object ? "object" : "array";
  if (const auto it = shared_.find(memo); it != shared_.end()) return it->second;
  const int32_t rule = builder_.add_rule();
  shared_[memo] = rule;
  const int32_t open = builder_.text(builder_.start(rule), object ? "{" : "[");
  const int32_t element = builder_.add_node();
  const int32_t behind = builder_.add_node();
  const int32_t end = builder_.add_node();
  builder_.finish(end);
  builder_.skip(open, element);
  int32_t value = element;
  if (object) {
    const int32_t named = builder_.add_node();
    builder_.call(element, free_string(), named);
    value = separator(named, ':');
  }
  builder_.call(value, any_value(), behind);
  builder_.skip(separator(behind, ','), element);
  for (const int32_t at : {open, behind}) builder_.byte(at, object ? '}' : ']', object ? '}' : ']', end);
  return rule;
}

}  // namespace moegen::grammar
