#include "grammar/horizon.h"

#include <numeric>
#include <unordered_map>

namespace moegen::grammar {
namespace {

using Kind = Network::Kind;

struct Key {
  uint64_t a;
  uint64_t b;
  bool operator==(const Key&) const = default;
};
struct KeyHash {
  size_t operator()(const Key& k) const { return k.a; }
};

uint64_t mix(uint64_t h, uint64_t x) {
  h = (h ^ x) * 0x9E3779B97F4A7C15U;
  return h ^ h >> 32U;
}

// One round: nodes stay together if they were, and all their edges lead to nodes that were. The number of parts.
// Two hashes of 64 bits stand for the edges: that they agree by chance is out of the question.
size_t refine(const Network& n, const std::vector<bool>& alone, const std::vector<int32_t>& part, std::vector<int32_t>& next) {
  std::unordered_map<Key, int32_t, KeyHash> parts;
  parts.reserve(n.nodes.size());
  for (size_t i = 0; i < n.nodes.size(); ++i) {
    const Network::Node& node = n.nodes[i];
    Key key{mix(1, static_cast<uint64_t>(part[i])), mix(2, static_cast<uint64_t>(part[i]))};
    if (alone[i]) {
      key.a = mix(key.a, ~uint64_t{i});
      key.b = mix(key.b, ~uint64_t{i});
    } else {
      for (uint32_t e = node.first_edge; e < node.first_edge + node.num_edges; ++e) {
        const Network::Edge& edge = n.edges[e];
        const uint64_t label =
            static_cast<uint64_t>(edge.lo) << 40U | static_cast<uint64_t>(edge.hi) << 32U | static_cast<uint32_t>(part[static_cast<size_t>(edge.to)]);
        key.a = mix(key.a, label);
        key.b = mix(key.b, label + 0x5bd1e995U);
      }
    }
    next[i] = parts.try_emplace(key, static_cast<int32_t>(i)).first->second;  // named after its first node
  }
  return parts.size();
}

}  // namespace

void find_aliases(Network& network, int32_t horizon) {
  const size_t size = network.nodes.size();
  // Edges that take no byte would make a round less than a byte: their nodes stay alone.
  std::vector<bool> alone(size, false);
  for (size_t i = 0; i < size; ++i) {
    const Network::Node& node = network.nodes[i];
    for (uint32_t e = node.first_edge; e < node.first_edge + node.num_edges; ++e) {
      if (network.edges[e].kind != Kind::byte) alone[i] = true;
    }
  }
  std::vector<int32_t> part(size);
  std::vector<int32_t> next(size);
  for (size_t i = 0; i < size; ++i) part[i] = network.nodes[i].final ? 1 : 0;
  size_t parts = 0;
  for (int32_t round = 0; round <= horizon; ++round) {
    const size_t now = refine(network, alone, part, next);
    part.swap(next);
    if (now == parts) break;  // no text of any length tells them apart
    parts = now;
  }
  for (size_t i = 0; i < size; ++i) network.nodes[i].alias = part[i];
}

}  // namespace moegen::grammar
