#include "tokenizer/added_tokens.h"

#include "base/error.h"
#include "tokenizer/json_fields.h"
#include "tokenizer/unicode.h"

namespace moegen::text {
namespace {

constexpr size_t kMaxTokens = 1 << 18;
constexpr size_t kMaxContentBytes = 1024;  // bounds the steps at one position of a text

char32_t char_before(std::string_view text, size_t pos) {
  size_t i = pos - 1;
  while (i > 0 && (static_cast<unsigned char>(text[i]) & 0xC0) == 0x80) --i;
  return next_char(text, i);
}

size_t spaces_begin(std::string_view text, size_t pos, size_t low) {
  while (pos > low && is_whitespace(char_before(text, pos))) {
    do {
      --pos;
    } while (pos > low && (static_cast<unsigned char>(text[pos]) & 0xC0) == 0x80);
  }
  return pos;
}

size_t spaces_end(std::string_view text, size_t pos) {
  while (pos < text.size()) {
    size_t next = pos;
    if (!is_whitespace(next_char(text, next))) break;
    pos = next;
  }
  return pos;
}

bool stands_alone(std::string_view text, size_t begin, size_t end) {
  if (begin > 0 && is_word(char_before(text, begin))) return false;
  size_t i = end;
  return end == text.size() || !is_word(next_char(text, i));
}

}  // namespace

void Trie::add(std::string_view text, int32_t value) {
  int32_t node = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    int32_t& next = i == 0 ? root_[byte] : children_.try_emplace((static_cast<uint64_t>(node) << 8) | byte, -1).first->second;
    if (next < 0) {
      next = static_cast<int32_t>(values_.size());
      values_.push_back(-1);
    }
    node = next;
  }
  values_[static_cast<size_t>(node)] = value;
}

int32_t Trie::child(int32_t node, char byte) const {
  const auto b = static_cast<unsigned char>(byte);
  if (node == 0) return root_[b];
  const auto it = children_.find((static_cast<uint64_t>(node) << 8) | b);
  return it == children_.end() ? -1 : it->second;
}

int32_t Trie::longest_at(std::string_view text, size_t pos, size_t& bytes) const {
  int32_t best = -1;
  int32_t node = 0;
  for (size_t i = pos; i < text.size(); ++i) {
    node = child(node, text[i]);
    if (node < 0) break;
    if (values_[static_cast<size_t>(node)] >= 0) {
      best = values_[static_cast<size_t>(node)];
      bytes = i + 1 - pos;
    }
  }
  return best;
}

AddedTokens AddedTokens::parse(const nlohmann::json& list, const TokenTable& vocab, const Normalizer& normalizer, Regex::Scratch& scratch) {
  AddedTokens added;
  if (list.is_null()) return added;
  if (!list.is_array()) throw_error(ErrorCode::corrupt, "added_tokens: is no array");
  if (list.size() > kMaxTokens) throw_error(ErrorCode::corrupt, "added_tokens: more than {}", kMaxTokens);
  for (size_t i = 0; i < list.size(); ++i) {
    const Fields f(list[i], fmt::format("added_tokens[{}]", i));
    AddedToken t{f.text("content"),
                 static_cast<int32_t>(f.number("id", TokenTable::kMaxId)),
                 f.flag("special", false),
                 f.flag("single_word", false),
                 f.flag("lstrip", false),
                 f.flag("rstrip", false),
                 true,
                 ""};
    t.normalized = f.flag("normalized", !t.special);
    if (t.content.empty()) continue;
    if (t.content.size() > kMaxContentBytes) f.corrupt("the content is too long");
    if (const int32_t known = vocab.find(t.content); known >= 0) t.id = known;
    const auto index = static_cast<int32_t>(added.tokens_.size());
    t.encoded = t.content;
    if (t.normalized) normalizer.apply(t.encoded, scratch);
    if (!t.encoded.empty()) added.tries_[t.normalized ? 1 : 0].add(t.encoded, index);
    added.by_id_[t.id] = added.tokens_.size();
    added.by_content_[t.content] = added.tokens_.size();
    added.tokens_.push_back(std::move(t));
  }
  return added;
}

std::vector<AddedTokens::Part> AddedTokens::cut(std::string_view text, bool normalized) const {
  const Trie& trie = tries_[normalized ? 1 : 0];
  std::vector<Part> parts;
  size_t done = 0;
  for (size_t pos = 0; pos < text.size();) {
    size_t bytes = 0;
    const int32_t index = trie.longest_at(text, pos, bytes);
    if (index < 0) {
      ++pos;
      continue;
    }
    const AddedToken& token = tokens_[static_cast<size_t>(index)];
    size_t begin = pos;
    size_t end = pos + bytes;
    pos = end;
    if (begin < done || (token.single_word && !stands_alone(text, begin, end))) continue;
    if (token.lstrip) begin = spaces_begin(text, begin, done);
    if (token.rstrip) end = spaces_end(text, end);
    if (done < begin) parts.push_back({done, begin, -1});
    parts.push_back({begin, end, token.id});
    done = end;
  }
  if (done < text.size()) parts.push_back({done, text.size(), -1});
  return parts;
}

const AddedToken* AddedTokens::find(int32_t id) const {
  const auto it = by_id_.find(id);
  return it == by_id_.end() ? nullptr : &tokens_[it->second];
}

const AddedToken* AddedTokens::find(std::string_view content) const {
  const auto it = by_content_.find(std::string(content));
  return it == by_content_.end() ? nullptr : &tokens_[it->second];
}

}  // namespace moegen::text
