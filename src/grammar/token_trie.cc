#include "grammar/token_trie.h"

#include <algorithm>

#include "tokenizer/tokenizer.h"

namespace moegen::grammar {
namespace {

constexpr size_t kMaxTokenBytes = 4096;  // longer tokens are left out

std::vector<std::string> token_texts(const Tokenizer& tokenizer, int64_t vocab) {
  std::vector<std::string> out(static_cast<size_t>(vocab));
  const auto count = std::min<int64_t>(vocab, tokenizer.vocab_size());
  for (int32_t id = 0; id < count; ++id) {
    if (!tokenizer.is_added(id)) out[static_cast<size_t>(id)] = tokenizer.token_bytes(id);
  }
  return out;
}

size_t common_prefix(std::string_view a, std::string_view b) {
  return static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

}  // namespace

TokenTrie::TokenTrie(const Tokenizer& tokenizer, int64_t vocab) : TokenTrie(token_texts(tokenizer, vocab)) {}

TokenTrie::TokenTrie(std::vector<std::string> tokens) : vocab_(static_cast<int64_t>(tokens.size())) {
  offsets_.reserve(tokens.size() + 1);
  for (std::string& token : tokens) {
    if (token.size() > kMaxTokenBytes) token.clear();
    offsets_.push_back(static_cast<uint32_t>(text_.size()));
    text_ += token;
    longest_ = std::max(longest_, static_cast<int32_t>(token.size()));
  }
  offsets_.push_back(static_cast<uint32_t>(text_.size()));
  text_.shrink_to_fit();
  build(tokens);
}

void TokenTrie::build(const std::vector<std::string>& tokens) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (!tokens[i].empty()) ids_.push_back(static_cast<int32_t>(i));
  }
  const auto text = [&](int32_t id) -> const std::string& { return tokens[static_cast<size_t>(id)]; };
  std::sort(ids_.begin(), ids_.end(), [&](int32_t a, int32_t b) {
    const int order = text(a).compare(text(b));
    return order < 0 || (order == 0 && a < b);
  });
  std::vector<size_t> open = {0};  // nodes from the root to the last token
  nodes_.push_back({0, 0, 0, 0});
  const auto close_to = [&](size_t depth) {
    for (; open.size() > depth + 1; open.pop_back()) nodes_[open.back()].end = static_cast<int32_t>(nodes_.size());
  };
  std::string_view before;
  for (size_t k = 0; k < ids_.size(); ++k) {
    const std::string& token = text(ids_[k]);
    if (token == before) continue;  // another id of the same bytes: at the same node
    close_to(common_prefix(before, token));
    for (size_t depth = open.size(); depth <= token.size(); ++depth) {
      open.push_back(nodes_.size());
      nodes_.push_back({0, static_cast<uint32_t>(k), static_cast<uint16_t>(depth), static_cast<uint8_t>(token[depth - 1])});
    }
    before = token;
  }
  close_to(0);
  nodes_[0].end = static_cast<int32_t>(nodes_.size());
  // On the way to a token a node has none of its own: its tokens begin and end where its first child's begin.
  nodes_.push_back({0, static_cast<uint32_t>(ids_.size()), 0, 0});
  nodes_.shrink_to_fit();
}

std::string_view TokenTrie::bytes(int32_t id) const {
  if (id < 0 || id >= vocab_) return {};
  const auto i = static_cast<size_t>(id);
  return std::string_view(text_).substr(offsets_[i], offsets_[i + 1] - offsets_[i]);
}

size_t TokenTrie::memory() const {
  return nodes_.capacity() * sizeof(Node) + ids_.capacity() * sizeof(int32_t) + text_.capacity() + offsets_.capacity() * sizeof(uint32_t);
}

}  // namespace moegen::grammar
