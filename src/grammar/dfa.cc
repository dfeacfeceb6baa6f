#include "grammar/dfa.h"

#include <algorithm>
#include <array>
#include <map>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "grammar/nfa.h"

namespace moegen::grammar {
namespace {

constexpr size_t kMaxStates = 1 << 17;
constexpr int64_t kMaxWork = 20'000'000;  // steps over states and edges: some tenths of a second

using Set = std::vector<int32_t>;  // of states of the Nfa, ascending

struct SetHash {
  size_t operator()(const Set& s) const {
    uint64_t h = 0xcbf29ce484222325U;
    for (const int32_t x : s) h = (h ^ static_cast<uint32_t>(x)) * 0x100000001b3U;
    return h ^ h >> 29U;
  }
};

// Subset construction. Bytes that no edge tells apart are one class, and classes are intervals.
class Subsets {
 public:
  explicit Subsets(const Nfa& nfa) : nfa_(nfa), stamp_(nfa.size(), 0) {
    std::array<bool, 257> begins{};
    begins[0] = true;
    for (const Nfa::Edge& e : nfa.edges()) {
      if (e.empty) continue;
      begins[e.lo] = true;
      begins[size_t{e.hi} + 1] = true;
    }
    for (size_t b = 0; b < 256; ++b) {
      if (begins[b]) first_byte_.push_back(static_cast<uint8_t>(b));
      class_of_[b] = static_cast<uint8_t>(first_byte_.size() - 1);
    }
    targets_.resize(first_byte_.size());
  }

  Dfa run() {
    intern(closure({nfa_.start()}));
    for (size_t i = 0; i < todo_.size(); ++i) expand(i);
    return std::move(dfa_);
  }

 private:
  void count(int64_t steps) {
    work_ += steps;
    if (work_ > kMaxWork) throw_error(ErrorCode::unsupported, "the pattern is too complex: its deterministic automaton takes too much work");
  }

  // States with edges that take a byte, and the accepting one.
  Set closure(const Set& from) {
    ++now_;
    Set out;
    stack_.clear();
    const auto visit = [&](int32_t s) {
      if (stamp_[static_cast<size_t>(s)] == now_) return;
      stamp_[static_cast<size_t>(s)] = now_;
      stack_.push_back(s);
    };
    for (const int32_t s : from) visit(s);
    while (!stack_.empty()) {
      const int32_t s = stack_.back();
      stack_.pop_back();
      bool keep = s == nfa_.accept();
      int64_t steps = 1;
      for (int32_t e = nfa_.first_edge(s); e >= 0; e = nfa_.edge(e).next, ++steps) {
        if (nfa_.edge(e).empty) {
          visit(nfa_.edge(e).to);
        } else {
          keep = true;
        }
      }
      count(steps);
      if (keep) out.push_back(s);
    }
    std::sort(out.begin(), out.end());
    return out;
  }

  // Behind these states: closed once, since a class of characters leads to the same ones by a thousand edges.
  int32_t state_of(const Set& targets) {
    count(static_cast<int64_t>(targets.size()));
    if (const auto known = behind_.find(targets); known != behind_.end()) return known->second;
    const int32_t to = intern(closure(targets));
    behind_.emplace(targets, to);
    return to;
  }

  int32_t intern(Set set) {
    const auto [it, fresh] = ids_.try_emplace(std::move(set), static_cast<int32_t>(dfa_.states.size()));
    if (!fresh) return it->second;
    if (dfa_.states.size() >= kMaxStates) throw_error(ErrorCode::unsupported, "the pattern is too complex: more than {} states", kMaxStates);
    dfa_.states.emplace_back().accepts = std::binary_search(it->first.begin(), it->first.end(), nfa_.accept());
    todo_.push_back(&it->first);
    return it->second;
  }

  void expand(size_t state) {
    const Set& set = *todo_[state];
    count(static_cast<int64_t>(targets_.size()));
    for (Set& t : targets_) t.clear();
    for (const int32_t s : set) {
      for (int32_t e = nfa_.first_edge(s); e >= 0; e = nfa_.edge(e).next) {
        const Nfa::Edge& edge = nfa_.edge(e);
        if (edge.empty) continue;
        count(class_of_[edge.hi] - class_of_[edge.lo] + 1);
        for (size_t c = class_of_[edge.lo]; c <= class_of_[edge.hi]; ++c) targets_[c].push_back(edge.to);
      }
    }
    Set before;
    for (size_t c = 0; c < targets_.size(); ++c) {
      if (targets_[c].empty()) continue;
      const auto lo = first_byte_[c];
      const auto hi = static_cast<uint8_t>(c + 1 == first_byte_.size() ? 255 : first_byte_[c + 1] - 1);
      if (c > 0 && targets_[c] == before && !dfa_.states[state].edges.empty() && dfa_.states[state].edges.back().hi + 1 == lo) {
        dfa_.states[state].edges.back().hi = hi;  // the same as the class before
        continue;
      }
      before = targets_[c];
      const int32_t to = state_of(targets_[c]);
      dfa_.states[state].edges.push_back({lo, hi, to});
    }
  }

  const Nfa& nfa_;
  Dfa dfa_;
  std::array<uint8_t, 256> class_of_{};
  std::vector<uint8_t> first_byte_;
  std::vector<Set> targets_;  // by class
  std::unordered_map<Set, int32_t, SetHash> ids_;
  std::unordered_map<Set, int32_t, SetHash> behind_;  // by the targets of a state's edges, as they come
  std::vector<const Set*> todo_;                      // by state: keys of ids_, which stay where they are
  std::vector<uint32_t> stamp_;
  uint32_t now_ = 0;
  std::vector<int32_t> stack_;
  int64_t work_ = 0;
};

}  // namespace

Dfa intersection(const Dfa& a, const Dfa& b) {
  Dfa out;
  std::map<std::pair<int32_t, int32_t>, int32_t> ids;
  std::vector<std::pair<int32_t, int32_t>> todo;
  const auto intern = [&](int32_t x, int32_t y) {
    const auto [it, fresh] = ids.try_emplace({x, y}, static_cast<int32_t>(todo.size()));
    if (!fresh) return it->second;
    if (todo.size() >= kMaxStates) throw_error(ErrorCode::unsupported, "the pattern is too complex: more than {} states", kMaxStates);
    todo.emplace_back(x, y);
    out.states.emplace_back().accepts = a.states[static_cast<size_t>(x)].accepts && b.states[static_cast<size_t>(y)].accepts;
    return it->second;
  };
  intern(0, 0);
  for (size_t i = 0; i < todo.size(); ++i) {
    const auto& left = a.states[static_cast<size_t>(todo[i].first)].edges;
    const auto& right = b.states[static_cast<size_t>(todo[i].second)].edges;
    std::vector<Dfa::Edge> edges;
    for (size_t l = 0, r = 0; l < left.size() && r < right.size(); left[l].hi < right[r].hi ? ++l : ++r) {
      const uint8_t lo = std::max(left[l].lo, right[r].lo);
      const uint8_t hi = std::min(left[l].hi, right[r].hi);
      if (lo <= hi) edges.push_back({lo, hi, intern(left[l].to, right[r].to)});
    }
    out.states[i].edges = std::move(edges);
  }
  return out;
}

Dfa build_dfa(const Pattern& pattern, Encoding encoding) { return Subsets(Nfa(pattern, encoding)).run(); }

}  // namespace moegen::grammar
