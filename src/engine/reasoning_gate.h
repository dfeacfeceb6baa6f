#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "moegen/request.h"

namespace moegen {

/// What the reasoning before an answer begins and ends with, as tokens.
struct ReasoningTokens {
  TokenId open = -1;           ///< may stand in place of the answer's first token; -1: the prompt has opened the reasoning
  std::vector<TokenId> close;  ///< these in a row end it; the first one is none of the others
  TokenId then = -1;           ///< and behind them all up to this one is still no answer; -1: nothing
};

/// Where in a text the answer, and with it the grammar, begins. A function of the generated tokens.
class ReasoningGate {
 public:
  ReasoningGate() = default;  ///< at once
  explicit ReasoningGate(std::shared_ptr<const ReasoningTokens> tokens) : tokens_(std::move(tokens)), inside_(tokens_ && tokens_->open < 0) {}

  /// Whatever comes next is no answer.
  [[nodiscard]] bool inside() const { return inside_; }
  /// The token that may come beside those that begin an answer; -1: none.
  [[nodiscard]] TokenId opening() const { return tokens_ && !inside_ ? tokens_->open : -1; }

  /// Goes on behind a token. True if it belongs to the answer.
  bool accept(TokenId token) {
    if (!tokens_) return true;
    if (!inside_) {
      inside_ = token == tokens_->open;
      if (!inside_) tokens_.reset();
      return !inside_;
    }
    bool closed = false;
    if (seen_ == tokens_->close.size()) {
      closed = token == tokens_->then;
    } else {
      seen_ = token == tokens_->close[seen_] ? seen_ + 1 : token == tokens_->close[0] ? 1 : 0;
      closed = seen_ == tokens_->close.size() && tokens_->then < 0;
    }
    if (closed) *this = {};
    return false;
  }

 private:
  std::shared_ptr<const ReasoningTokens> tokens_;  // null: the answer has begun
  bool inside_ = false;
  size_t seen_ = 0;  // of close
};

}  // namespace moegen
