#include "grammar/machine.h"

#include <algorithm>

#include "base/error.h"

namespace moegen::grammar {
namespace {

constexpr size_t kMaxConfigs = 2048;  // places at once
constexpr size_t kFewSeen = 16;

using Kind = Network::Kind;

uint64_t key_of(int32_t a, int32_t b) { return static_cast<uint64_t>(static_cast<uint32_t>(a)) << 32U | static_cast<uint32_t>(b); }

uint64_t hash_of(const std::vector<Machine::Config>& configs, bool accepts) {
  uint64_t h = accepts ? 7 : 3;
  for (const auto& c : configs) {
    h = (h ^ key_of(c.node, c.frame)) * 0x9E3779B97F4A7C15U;
    h ^= h >> 31U;
  }
  return h;
}

}  // namespace

Machine::Machine(const Network& network) : network_(&network), width_(network.representatives.size()), start_(0) {
  for (int32_t d = 0; d <= NetworkBuilder::kMaxDepth; ++d) frames_.push_back({-1, -1, d});
  start_ = intern({{network.starts[0], 0}});
}

int32_t Machine::push(int32_t to, int32_t parent) {
  const auto [it, fresh] = frame_ids_.try_emplace(key_of(to, parent), static_cast<int32_t>(frames_.size()));
  if (fresh) frames_.push_back({to, parent, depth(parent) + 1});
  return it->second;
}

void Machine::visit(int32_t node, int32_t frame) {
  // What cannot end within the depth that is left is no way at all.
  if (depth(frame) + network_->nodes[static_cast<size_t>(node)].height > NetworkBuilder::kMaxDepth) return;
  const Config c{node, frame};
  if (seen_.size() < kFewSeen) {
    if (std::find(seen_.begin(), seen_.end(), c) != seen_.end()) return;
  } else {
    if (visited_.empty()) {
      for (const Config& s : seen_) visited_.insert(key_of(s.node, s.frame));
    }
    if (!visited_.insert(key_of(node, frame)).second) return;
  }
  if (seen_.size() >= 4 * kMaxConfigs) throw_error(ErrorCode::unsupported, "the grammar is too ambiguous: more than {} ways at once", kMaxConfigs);
  seen_.push_back(c);
  open_.push_back(c);
}

// Follows what takes no byte, and keeps the places that take one. True if an empty stack's rule may end.
bool Machine::close(std::vector<Config>& configs) {
  seen_.clear();
  visited_.clear();
  open_.clear();
  for (const Config& c : configs) visit(c.node, c.frame);
  configs.clear();
  bool accepts = false;
  while (!open_.empty()) {
    const auto [n, frame] = open_.back();
    open_.pop_back();
    const Network::Node& node = network_->nodes[static_cast<size_t>(n)];
    bool takes_byte = false;
    for (uint32_t i = node.first_edge; i < node.first_edge + node.num_edges; ++i) {
      const Network::Edge& e = network_->edges[i];
      if (e.kind == Kind::byte) {
        takes_byte = true;
      } else if (e.kind == Kind::skip) {
        visit(e.to, frame);
      } else if (const Network::Node& to = network_->nodes[static_cast<size_t>(e.to)]; to.final && to.num_edges == 0) {
        visit(network_->starts[static_cast<size_t>(e.rule)], frame);
      } else if (depth(frame) < NetworkBuilder::kMaxDepth && depth(frame) + to.height <= NetworkBuilder::kMaxDepth) {
        visit(network_->starts[static_cast<size_t>(e.rule)], push(e.to, frame));
      }
    }
    if (takes_byte) configs.push_back({n, frame});
    if (!node.final) continue;
    if (is_bottom(frame)) {
      accepts = true;
    } else {
      visit(frames_[static_cast<size_t>(frame)].to, frames_[static_cast<size_t>(frame)].parent);
    }
  }
  std::sort(configs.begin(), configs.end());
  return accepts;
}

int32_t Machine::intern(std::vector<Config> configs) {
  const bool accepts = close(configs);
  if (configs.empty() && !accepts) return kDead;
  if (configs.size() > kMaxConfigs) throw_error(ErrorCode::unsupported, "the grammar is too ambiguous: more than {} ways at once", kMaxConfigs);
  const uint64_t hash = hash_of(configs, accepts);
  const auto [first, last] = state_ids_.equal_range(hash);
  for (auto it = first; it != last; ++it) {
    const auto have = this->configs(it->second);
    if (this->accepts(it->second) == accepts && std::equal(have.begin(), have.end(), configs.begin(), configs.end())) return it->second;
  }
  const auto id = static_cast<int32_t>(states_.size());
  const auto begin = static_cast<uint32_t>(configs_.size());
  configs_.insert(configs_.end(), configs.begin(), configs.end());
  states_.push_back({begin, static_cast<uint32_t>(configs_.size()), accepts});
  rows_.resize(rows_.size() + width_, kUnknown);
  state_ids_.emplace(hash, id);
  return id;
}

int32_t Machine::find_step(int32_t state, uint8_t byte_class) {
  const uint8_t byte = network_->representatives[byte_class];
  std::vector<Config> next;
  for (const Config& c : configs(state)) {
    const Network::Node& node = network_->nodes[static_cast<size_t>(c.node)];
    for (uint32_t i = node.first_edge; i < node.first_edge + node.num_edges; ++i) {
      const Network::Edge& e = network_->edges[i];
      if (e.kind == Kind::byte && e.lo <= byte && byte <= e.hi) next.push_back({e.to, c.frame});
    }
  }
  const int32_t to = next.empty() ? kDead : intern(std::move(next));
  rows_[static_cast<size_t>(state) * width_ + byte_class] = to;
  return to;
}

int32_t Machine::copy_to(Machine& other, int32_t state) const {
  std::vector<Config> copied;
  for (const Config& c : configs(state)) {
    std::vector<int32_t> above;  // from the top down
    int32_t frame = c.frame;
    for (; !is_bottom(frame); frame = frames_[static_cast<size_t>(frame)].parent) above.push_back(frames_[static_cast<size_t>(frame)].to);
    for (auto it = above.rbegin(); it != above.rend(); ++it) frame = other.push(*it, frame);
    copied.push_back({c.node, frame});
  }
  // A place that only accepts takes no byte and is not kept: the network's last node stands for it.
  if (accepts(state)) copied.push_back({static_cast<int32_t>(network_->nodes.size()) - 1, 0});
  return other.intern(std::move(copied));
}

size_t Machine::memory() const {
  constexpr size_t kMapEntry = 48;
  return rows_.capacity() * sizeof(int32_t) + configs_.capacity() * sizeof(Config) + states_.capacity() * (sizeof(State) + kMapEntry) +
         frames_.capacity() * (sizeof(Frame) + kMapEntry);
}

}  // namespace moegen::grammar
