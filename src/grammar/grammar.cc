#include "grammar/grammar.h"

#include <utility>

namespace moegen {
namespace {

constexpr size_t kMaxCacheBytes = 4 << 20;  // some ten thousand states

}  // namespace

using grammar::Machine;

Grammar::Grammar(grammar::Network network, std::shared_ptr<const grammar::TokenTrie> trie, std::shared_ptr<grammar::MaskBudget> budget)
    : network_(std::move(network)), trie_(std::move(trie)), budget_(std::move(budget)), cache_(std::make_shared<Cache>(network_, *trie_, *budget_)) {}

size_t Grammar::network_bytes() const {
  return network_.nodes.capacity() * sizeof(grammar::Network::Node) + network_.edges.capacity() * sizeof(grammar::Network::Edge);
}

std::shared_ptr<Grammar::Cache> Grammar::current() {
  if (cache_->memory() > kMaxCacheBytes) cache_ = std::make_shared<Cache>(network_, *trie_, *budget_);
  return cache_;
}

GrammarState::GrammarState(std::shared_ptr<Grammar> grammar) : grammar_(std::move(grammar)) {
  const std::lock_guard lock(grammar_->mutex_);
  cache_ = grammar_->current();
  state_ = cache_->machine.start();
}

std::shared_ptr<const TokenMask> GrammarState::mask() const {
  const std::lock_guard lock(grammar_->mutex_);
  if (state_ == Machine::kDead) return std::make_shared<TokenMask>();
  return cache_->mask(state_);
}

void GrammarState::accept(int32_t token) {
  const std::lock_guard lock(grammar_->mutex_);
  if (state_ == Machine::kDead) return;
  if (auto now = grammar_->current(); now != cache_) {
    state_ = cache_->machine.copy_to(now->machine, state_);
    cache_ = std::move(now);
  }
  const std::string_view bytes = grammar_->trie_->bytes(token);
  if (bytes.empty()) state_ = Machine::kDead;
  for (const char c : bytes) {
    if (state_ != Machine::kDead) state_ = cache_->machine.step(state_, static_cast<uint8_t>(c));
  }
}

bool GrammarState::can_end() const {
  const std::lock_guard lock(grammar_->mutex_);
  return state_ != Machine::kDead && cache_->machine.accepts(state_);
}

bool GrammarState::ended() const {
  const std::lock_guard lock(grammar_->mutex_);
  return state_ != Machine::kDead && cache_->machine.accepts(state_) && cache_->machine.ended(state_);
}

}  // namespace moegen
