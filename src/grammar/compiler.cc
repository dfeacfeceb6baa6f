#include "grammar/compiler.h"

#include "base/error.h"
#include "base/json.h"
#include "grammar/dfa.h"
#include "grammar/pattern.h"
#include "grammar/schema.h"
#include "tokenizer/unicode.h"

namespace moegen {
namespace {

constexpr size_t kMaxKept = 64;
constexpr size_t kMaxKeptBytes = 64 << 20;
constexpr size_t kMaxMembers = 4096;   // of one object: the ordered kind takes quadratic time
constexpr size_t kMaxBytes = 4 << 20;  // of a schema

using Kind = StructuredOutput::Kind;

void add_choice(grammar::NetworkBuilder& builder, const std::string& text) {
  const nlohmann::ordered_json choices = parse_ordered_json(text, "choice");
  std::vector<std::string_view> texts;
  for (const auto& choice : choices) texts.emplace_back(choice.get_ref<const std::string&>());
  const int32_t rule = builder.add_rule();
  const int32_t end = builder.add_node();
  builder.finish(end);
  builder.texts(builder.start(rule), texts, end);
}

void check_members(const nlohmann::json& value) {
  if (value.is_object() && value.size() > kMaxMembers)
    throw_error(ErrorCode::unsupported, "an object of more than {} members is not supported", kMaxMembers);
  if (!value.is_structured()) return;
  for (const auto& inner : value) check_members(inner);
}

nlohmann::ordered_json parse_schema(const std::string& text) {
  check_members(parse_json(text, "the schema"));
  return parse_ordered_json(text, "the schema");
}

void add(grammar::NetworkBuilder& builder, const StructuredOutput& wanted) {
  switch (wanted.kind) {
    case Kind::regex:
      builder.add_rule(build_dfa(without_anchors(grammar::parse_pattern(wanted.text), false), grammar::Encoding::plain));
      return;
    case Kind::choice:
      add_choice(builder, wanted.text);
      return;
    case Kind::json_object:
      add_json_object(builder);
      return;
    case Kind::json_schema:
      add_schema(builder, parse_schema(wanted.text));
      return;
  }
}

std::string key_of(const StructuredOutput& wanted) {
  return std::string(1, static_cast<char>('0' + static_cast<int>(wanted.kind))).append(wanted.text);
}

}  // namespace

GrammarCompiler::GrammarCompiler(std::shared_ptr<const grammar::TokenTrie> trie) : vocab_(trie->vocab()), trie_(std::move(trie)) {}

void GrammarCompiler::build_trie() {
  if (trie_ == nullptr) trie_ = std::make_shared<grammar::TokenTrie>(*tokenizer_, vocab_);
  if (budget_ == nullptr) budget_ = std::make_shared<grammar::MaskBudget>(mask_bytes(vocab_));
}

void GrammarCompiler::drop_old() {
  while (recent_.size() > kMaxKept || (kept_bytes_ > kMaxKeptBytes && recent_.size() > 1)) {
    kept_bytes_ -= recent_.back().second->network_bytes();
    by_text_.erase(recent_.back().first);
    recent_.pop_back();
  }
}

std::shared_ptr<Grammar> GrammarCompiler::compile(const StructuredOutput& wanted) {
  if (wanted.text.size() > kMaxBytes)
    throw_error(ErrorCode::unsupported, "{} bytes are more than the {} that a grammar may have", wanted.text.size(), kMaxBytes);
  if (const size_t at = text::first_invalid(wanted.text); at != wanted.text.size())
    throw_error(ErrorCode::invalid_argument, "'{}' is not UTF-8 at byte {}", wanted.param, at);
  std::string key = key_of(wanted);
  if (const auto it = by_text_.find(key); it != by_text_.end()) {
    recent_.splice(recent_.begin(), recent_, it->second);
    return it->second->second;
  }
  build_trie();
  grammar::NetworkBuilder builder;
  add(builder, wanted);
  auto made = std::make_shared<Grammar>(builder.build(trie_->longest()), trie_, budget_);
  recent_.emplace_front(key, made);
  by_text_.emplace(std::move(key), recent_.begin());
  kept_bytes_ += made->network_bytes();
  drop_old();
  return made;
}

}  // namespace moegen
