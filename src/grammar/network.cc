#include "grammar/network.h"

#include <algorithm>

#include "base/error.h"
#include "grammar/horizon.h"

namespace moegen::grammar {
namespace {

constexpr size_t kMaxNodes = 1 << 17;
constexpr size_t kMaxEdges = 1 << 20;

using Kind = Network::Kind;

void find_classes(Network& n) {
  std::array<bool, 257> begins{};
  begins[0] = true;
  for (const Network::Edge& e : n.edges) {
    if (e.kind != Kind::byte) continue;
    begins[e.lo] = true;
    begins[size_t{e.hi} + 1] = true;
  }
  for (size_t b = 0; b < 256; ++b) {
    if (begins[b]) n.representatives.push_back(static_cast<uint8_t>(b));
    n.class_of[b] = static_cast<uint8_t>(n.representatives.size() - 1);
  }
}

}  // namespace

int32_t NetworkBuilder::add_node() {
  if (nodes_.size() >= kMaxNodes) throw_error(ErrorCode::unsupported, "the grammar has more than {} states", kMaxNodes);
  nodes_.emplace_back();
  return static_cast<int32_t>(nodes_.size()) - 1;
}

int32_t NetworkBuilder::add_rule() {
  starts_.push_back(add_node());
  return static_cast<int32_t>(starts_.size()) - 1;
}

int32_t NetworkBuilder::add_rule(const Dfa& dfa) {
  const int32_t rule = add_rule();
  for (size_t i = 1; i < dfa.states.size(); ++i) add_node();
  for (size_t i = 0; i < dfa.states.size(); ++i) {
    const int32_t node = start(rule) + static_cast<int32_t>(i);
    for (const Dfa::Edge& e : dfa.states[i].edges) byte(node, e.lo, e.hi, start(rule) + e.to);
    if (dfa.states[i].accepts) finish(node);
  }
  return rule;
}

void NetworkBuilder::add_edge(int32_t from, Network::Edge edge) {
  if (++num_edges_ > kMaxEdges) throw_error(ErrorCode::unsupported, "the grammar has more than {} transitions", kMaxEdges);
  nodes_[static_cast<size_t>(from)].edges.push_back(edge);
}

int32_t NetworkBuilder::text(int32_t from, std::string_view bytes) {
  for (const char c : bytes) {
    const int32_t next = add_node();
    byte(from, static_cast<uint8_t>(c), static_cast<uint8_t>(c), next);
    from = next;
  }
  return from;
}

void NetworkBuilder::texts(int32_t from, const std::vector<std::string_view>& texts, int32_t to) {
  std::unordered_map<uint64_t, int32_t> children;  // by node and byte
  std::vector<int32_t> ends;
  const int32_t root = add_node();
  skip(from, root);
  for (const std::string_view text : texts) {
    int32_t at = root;
    for (const char c : text) {
      const auto b = static_cast<uint8_t>(c);
      const auto [it, fresh] = children.try_emplace(static_cast<uint64_t>(at) << 8U | b, 0);
      if (fresh) {
        it->second = add_node();
        byte(at, b, b, it->second);
      }
      at = it->second;
    }
    ends.push_back(at);
  }
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
  for (const int32_t end : ends) skip(end, to);
}

// A call with nothing behind it needs no frame to come back to.
bool NetworkBuilder::is_tail(const Network::Edge& e) const {
  const Node& to = nodes_[static_cast<size_t>(e.to)];
  return to.final && to.edges.empty();
}

int32_t NetworkBuilder::height_over(const Network::Edge& e) const {
  const int32_t behind = nodes_[static_cast<size_t>(e.to)].height;
  if (e.kind != Kind::call) return behind;
  const int32_t inner = nodes_[static_cast<size_t>(start(e.rule))].height + (is_tail(e) ? 0 : 1);
  return std::max(behind, inner);
}

// The least solution; nodes are mostly made from front to back, so going backwards few rounds are needed.
void NetworkBuilder::find_heights() {
  for (bool changed = true; changed;) {
    changed = false;
    for (auto node = nodes_.rbegin(); node != nodes_.rend(); ++node) {
      int32_t least = node->final ? 0 : kUnreachable;
      for (const Network::Edge& e : node->edges) least = std::min(least, height_over(e));
      if (least < node->height) {
        node->height = least;
        changed = true;
      }
    }
  }
}

Network NetworkBuilder::build(int32_t horizon) {
  finish(add_node());
  find_heights();
  const int32_t height = nodes_[static_cast<size_t>(start(0))].height;
  if (height >= kUnreachable) throw_error(ErrorCode::invalid_argument, "no text satisfies it");
  if (height > kMaxDepth) throw_error(ErrorCode::unsupported, "every text that satisfies it is nested deeper than {} levels", kMaxDepth);
  Network out;
  out.starts = starts_;
  out.nodes.reserve(nodes_.size());
  for (const Node& node : nodes_) {
    Network::Node& n = out.nodes.emplace_back();
    n.first_edge = static_cast<uint32_t>(out.edges.size());
    n.final = node.final;
    n.height = std::min(node.height, kUnreachable);
    for (const Network::Edge& e : node.edges) {
      if (height_over(e) < kUnreachable) out.edges.push_back(e);
    }
    n.num_edges = static_cast<uint32_t>(out.edges.size()) - n.first_edge;
  }
  nodes_.clear();
  find_classes(out);
  find_aliases(out, horizon);
  return out;
}

}  // namespace moegen::grammar
