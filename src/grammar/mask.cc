#include "grammar/mask.h"

#include <algorithm>
#include <bit>

namespace moegen {

bool TokenMask::allows(int32_t id) const {
  if (bits.empty()) return std::binary_search(ids.begin(), ids.end(), id);
  const auto i = static_cast<size_t>(id);
  return i / 64 < bits.size() && (bits[i / 64] >> (i % 64) & 1U) != 0;
}

namespace grammar {
namespace {

constexpr size_t kMaxLocals = 64;  // an automaton of many states shares few of them

size_t words(const TokenTrie& trie) { return (static_cast<size_t>(trie.vocab()) + 63) / 64; }
size_t memory_of(const LocalMask& m) { return m.bits.capacity() * sizeof(uint64_t) + m.exits.capacity() * sizeof(int32_t); }

// Ids instead of bits where they take less.
void compress(TokenMask& mask) {
  size_t count = 0;
  for (const uint64_t word : mask.bits) count += static_cast<size_t>(std::popcount(word));
  if (count * sizeof(int32_t) > mask.bits.size() * sizeof(uint64_t)) return;
  mask.ids.reserve(count);
  for (size_t w = 0; w < mask.bits.size(); ++w) {
    for (uint64_t word = mask.bits[w]; word != 0; word &= word - 1) mask.ids.push_back(static_cast<int32_t>(w * 64) + std::countr_zero(word));
  }
  mask.bits = {};
}

}  // namespace

void walk(Machine& machine, int32_t state, const TokenTrie& trie, int32_t node, std::vector<uint64_t>& bits, std::vector<int32_t>* exits) {
  const auto nodes = trie.nodes();
  const int32_t end = nodes[static_cast<size_t>(node)].end;
  const size_t top = nodes[static_cast<size_t>(node)].depth;
  std::vector<int32_t> states(static_cast<size_t>(trie.longest()) + 1);  // by depth
  states[top] = state;
  for (int32_t i = node + 1; i < end;) {
    const TokenTrie::Node& n = nodes[static_cast<size_t>(i)];
    const int32_t next = machine.step(states[n.depth - 1U], n.byte);
    if (next == Machine::kDead) {
      i = n.end;
      continue;
    }
    states[n.depth] = next;
    for (const int32_t id : trie.tokens(i)) bits[static_cast<size_t>(id) / 64] |= uint64_t{1} << (static_cast<size_t>(id) % 64);
    if (exits != nullptr && n.end > i + 1 && machine.accepts(next)) exits->push_back(i);
    ++i;
  }
}

MaskBuilder::MaskBuilder(const Network& network, const TokenTrie& trie, MaskBudget& budget)
    : machine(network), network_(network), trie_(trie), budget_(budget) {}

MaskBuilder::~MaskBuilder() { budget_.used -= charged_; }

// True if `bytes` could be charged, maybe at the cost of masks that were not used for long.
bool MaskBuilder::make_room(size_t bytes) {
  while (budget_.used.load() + bytes > budget_.limit && !masks_.empty()) {
    std::vector<std::pair<uint64_t, int32_t>> by_age;
    for (const auto& [state, kept] : masks_) by_age.emplace_back(kept.last_use, state);
    std::sort(by_age.begin(), by_age.end());
    by_age.resize((by_age.size() + 3) / 4);  // a quarter at once: seldom
    for (const auto& [age, state] : by_age) {
      const auto it = masks_.find(state);
      const size_t freed = it->second.mask->memory();
      masks_.erase(it);
      budget_.used -= freed;
      charged_ -= freed;
    }
  }
  if (budget_.used.load() + bytes > budget_.limit) return false;
  budget_.used += bytes;
  charged_ += bytes;
  return true;
}

std::shared_ptr<const TokenMask> MaskBuilder::mask(int32_t state) {
  ++clock_;
  if (const auto it = masks_.find(state); it != masks_.end()) {
    it->second.last_use = clock_;
    return it->second.mask;
  }
  auto made = make(state);
  if (make_room(made->memory())) masks_.emplace(state, Kept{made, clock_});
  return made;
}

std::shared_ptr<const TokenMask> MaskBuilder::make(int32_t state) {
  auto out = std::make_shared<TokenMask>();
  out->can_end = machine.accepts(state);
  out->bits.resize(words(trie_));
  const auto span = machine.configs(state);
  std::vector<Machine::Config> configs(span.begin(), span.end());  // the machine grows meanwhile
  std::sort(configs.begin(), configs.end(),
            [](const auto& a, const auto& b) { return a.frame < b.frame || (a.frame == b.frame && a.node < b.node); });
  for (auto first = configs.begin(); first != configs.end();) {
    const auto last = std::find_if(first, configs.end(), [&](const Machine::Config& c) { return c.frame != first->frame; });
    add_group({first, last}, out->bits);
    first = last;
  }
  compress(*out);
  return out;
}

// Places with the same stack.
void MaskBuilder::add_group(std::span<const Machine::Config> configs, std::vector<uint64_t>& bits) {
  const int32_t frame = configs[0].frame;
  std::vector<Machine::Config> above;
  above.reserve(configs.size());
  for (const Machine::Config& c : configs) above.push_back({network_.nodes[static_cast<size_t>(c.node)].alias, machine.bottom_like(frame)});
  const auto part = local(std::move(above));
  for (size_t i = 0; i < bits.size(); ++i) bits[i] |= part->bits[i];
  if (machine.is_bottom(frame) || part->exits.empty()) return;
  const int32_t below = machine.pop(frame);
  if (below == Machine::kDead) return;
  for (const int32_t node : part->exits) walk(machine, below, trie_, node, bits, nullptr);
}

std::shared_ptr<const LocalMask> MaskBuilder::local(std::vector<Machine::Config> configs) {
  const int32_t state = machine.intern(std::move(configs));
  if (const auto it = locals_.find(state); it != locals_.end()) return it->second;
  auto made = std::make_shared<LocalMask>();
  made->bits.resize(words(trie_));
  walk(machine, state, trie_, 0, made->bits, &made->exits);
  made->exits.shrink_to_fit();
  const size_t bytes = memory_of(*made);
  if (locals_.size() < kMaxLocals && make_room(bytes)) locals_.emplace(state, made);
  return made;
}

}  // namespace grammar
}  // namespace moegen
