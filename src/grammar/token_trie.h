#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace moegen {

class Tokenizer;

namespace grammar {

/// The tokens of a vocabulary by their bytes, as a tree in preorder: a node's children follow it, its subtree is an interval.
/// Immutable. Added and special tokens are not in it: no grammar allows them.
class TokenTrie {
 public:
  struct Node {
    int32_t end;           ///< behind the last node of the subtree
    uint32_t first_token;  ///< its tokens end where those of the next node begin
    uint16_t depth;        ///< bytes up to here
    uint8_t byte;          ///< the last of them
  };
  /// `vocab`: ids from there on have no logits.
  TokenTrie(const Tokenizer& tokenizer, int64_t vocab);
  /// Of texts by id; the empty ones are left out.
  explicit TokenTrie(std::vector<std::string> tokens);

  /// The root first.
  [[nodiscard]] std::span<const Node> nodes() const { return {nodes_.data(), nodes_.size() - 1}; }
  [[nodiscard]] std::span<const int32_t> tokens(int32_t node) const {
    const auto i = static_cast<size_t>(node);
    return {ids_.data() + nodes_[i].first_token, ids_.data() + nodes_[i + 1].first_token};
  }
  /// "" for ids that are not in it.
  [[nodiscard]] std::string_view bytes(int32_t id) const;
  [[nodiscard]] int64_t vocab() const { return vocab_; }
  [[nodiscard]] int32_t longest() const { return longest_; }
  [[nodiscard]] size_t memory() const;

 private:
  void build(const std::vector<std::string>& tokens);

  int64_t vocab_;
  int32_t longest_ = 0;
  std::vector<Node> nodes_;  // and one more, to end the last node's tokens
  std::vector<int32_t> ids_;
  std::string text_;               // of all tokens, by id
  std::vector<uint32_t> offsets_;  // by id, and one more
};

}  // namespace grammar
}  // namespace moegen
