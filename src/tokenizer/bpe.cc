#include "tokenizer/bpe.h"

#include <algorithm>
#include <bit>
#include <queue>

#include "base/error.h"
#include "tokenizer/json_fields.h"
#include "tokenizer/unicode.h"

namespace moegen::text {
namespace {

constexpr size_t kMaxMerges = size_t{1} << 22;
constexpr char32_t kLowChars = 0x3000;
constexpr size_t kJoinBits = size_t{1} << 20;
constexpr size_t kShortRun = 24;  // up to here a scan for the best pair beats a heap
constexpr size_t kMaxProbes = 4096;

uint64_t pair_of(int32_t left, int32_t right) { return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) | static_cast<uint32_t>(right); }
size_t mix(uint64_t x) {
  x *= 0x9E3779B97F4A7C15U;
  return static_cast<size_t>(x ^ (x >> 32));
}
size_t join_bit(char32_t a, char32_t b) { return mix((static_cast<uint64_t>(a) << 21) | b) & (kJoinBits - 1); }

char32_t first_char(std::string_view s) {
  size_t i = 0;
  return next_char(s, i);
}
char32_t last_char(std::string_view s) {
  size_t i = s.size() - 1;
  while (i > 0 && (static_cast<unsigned char>(s[i]) & 0xC0) == 0x80) --i;
  return next_char(s, i);
}

}  // namespace

void MergeList::add(std::string_view left, std::string_view right) {
  if (size() >= kMaxMerges || bytes.size() + left.size() + right.size() > UINT32_MAX)
    throw_error(ErrorCode::corrupt, "more than {} merges", kMaxMerges);
  if (left.empty() || right.empty()) throw_error(ErrorCode::corrupt, "merge {} has an empty part", size());
  bytes += left;
  ends.push_back(static_cast<uint32_t>(bytes.size()));
  bytes += right;
  ends.push_back(static_cast<uint32_t>(bytes.size()));
}

std::string_view MergeList::part(size_t i) const {
  const uint32_t begin = i == 0 ? 0 : ends[i - 1];
  return std::string_view(bytes).substr(begin, ends[i] - begin);
}

Bpe Bpe::build(TokenTable vocab, const MergeList& merges, const nlohmann::json& options) {
  Bpe b;
  b.vocab_ = std::move(vocab);
  b.read_options(options);
  b.index_chars();
  b.index_merges(merges);
  b.whole_ = std::make_unique<std::atomic<uint8_t>[]>(static_cast<size_t>(b.vocab_.size()));
  return b;
}

void Bpe::read_options(const nlohmann::json& options) {
  const Fields f(options, "model");
  if (vocab_.entries() == 0) f.corrupt("there is no vocab");
  if (f.has("dropout") && f.at("dropout") != 0) f.refuse("dropout");
  unk_ = f.text("unk_token", "");
  prefix_ = f.text("continuing_subword_prefix", "");
  suffix_ = f.text("end_of_word_suffix", "");
  fuse_unk_ = f.flag("fuse_unk", false);
  byte_fallback_ = f.flag("byte_fallback", false);
  ignore_merges_ = f.flag("ignore_merges", false);
  if (!unk_.empty()) unk_id_ = vocab_.find(unk_);
}

void Bpe::index_chars() {
  low_chars_.assign(kLowChars, TokenTable::kNone);
  for (char32_t c = 0; c < kLowChars; ++c) low_chars_[c] = vocab_.find(to_utf8(c));
  for (int b = 0; b < 256; ++b) byte_ids_[b] = vocab_.find(fmt::format("<0x{:02X}>", b));
  // With a prefix or suffix the text of a token is not that of its characters, and boundaries cannot be told from characters.
  cut_at_joins_ = prefix_.empty() && suffix_.empty();
  joins_.assign(kJoinBits / 64, 0);
}

void Bpe::set_may_join(char32_t a, char32_t b) { joins_[join_bit(a, b) / 64] |= uint64_t{1} << (join_bit(a, b) % 64); }
bool Bpe::may_join(char32_t a, char32_t b) const { return (joins_[join_bit(a, b) / 64] >> (join_bit(a, b) % 64)) & 1; }

void Bpe::index_merges(const MergeList& merges) {
  merges_.assign(std::bit_ceil(merges.size() / 2 * 3 + 2), Merge{});  // full to a third or two, which keeps llama-3 within 4x its file
  const size_t mask = merges_.size() - 1;
  std::string joined;
  const auto is_byte_or_unk = [&](int32_t id) { return id == unk_id_ || std::find(byte_ids_, byte_ids_ + 256, id) != byte_ids_ + 256; };
  const auto is_special = [&](std::string_view part, int32_t id) { return part[0] == '<' && is_byte_or_unk(id); };
  for (size_t i = 0; i < merges.size(); ++i) {
    const std::string_view left = merges.part(2 * i);
    const std::string_view right = merges.part(2 * i + 1);
    joined.assign(left).append(right.starts_with(prefix_) ? right.substr(prefix_.size()) : right);
    const int32_t l = vocab_.find(left);
    const int32_t r = vocab_.find(right);
    const int32_t id = vocab_.find(joined);
    if (l < 0 || r < 0 || id < 0) {
      throw_error(ErrorCode::corrupt, "model: merge {} ({} {}) is made of or makes a token that is not in the vocabulary", i, left, right);
    }
    if (is_special(left, l) || is_special(right, r) || l == unk_id_ || r == unk_id_) cut_at_joins_ = false;
    set_may_join(last_char(left), first_char(right));
    const uint64_t pair = pair_of(l, r);
    size_t at = mix(pair) & mask;
    for (size_t probes = 0; merges_[at].pair != kNoPair && merges_[at].pair != pair; at = (at + 1) & mask) {
      if (++probes > kMaxProbes) throw_error(ErrorCode::corrupt, "model: the merges are made to collide");
    }
    merges_[at] = {pair, static_cast<int32_t>(i), id};  // of two, the later one: as a hash map is filled
  }
}

const Bpe::Merge* Bpe::find_merge(int32_t left, int32_t right) const {
  const uint64_t pair = pair_of(left, right);
  const size_t mask = merges_.size() - 1;
  for (size_t at = mix(pair) & mask; merges_[at].pair != kNoPair; at = (at + 1) & mask) {
    if (merges_[at].pair == pair) return &merges_[at];
  }
  return nullptr;
}

void Bpe::encode(std::string_view word, std::vector<int32_t>& ids) const {
  if (word.empty()) return;
  const int32_t id = vocab_.find(word);
  if (id < 0) {
    merge_all(word, ids);
    return;
  }
  if (ignore_merges_) {
    ids.push_back(id);
    return;
  }
  std::atomic<uint8_t>& whole = whole_[static_cast<size_t>(id)];
  const uint8_t known = whole.load(std::memory_order_relaxed);
  if (known == is_one) {
    ids.push_back(id);
    return;
  }
  const size_t before = ids.size();
  merge_all(word, ids);
  if (known == not_known) {
    whole.store(ids.size() == before + 1 && ids.back() == id ? is_one : is_many, std::memory_order_relaxed);
  }
}

int32_t Bpe::char_id(std::string_view word, size_t begin, size_t end) const {
  const bool first = begin == 0;
  const bool last = end == word.size();
  if ((prefix_.empty() || first) && (suffix_.empty() || !last)) return vocab_.find(word.substr(begin, end - begin));
  std::string s = first ? "" : prefix_;
  s += word.substr(begin, end - begin);
  if (last) s += suffix_;
  return vocab_.find(s);
}

void Bpe::initial_symbols(std::string_view word, std::vector<Symbol>& symbols) const {
  const bool plain = prefix_.empty() && suffix_.empty();
  bool pending_unk = false;
  bool last_is_char = false;
  char32_t last = 0;
  for (size_t i = 0; i < word.size();) {
    const size_t begin = i;
    const char32_t c = next_char(word, i);
    const int32_t id = plain && c < kLowChars ? low_chars_[c] : char_id(word, begin, i);
    if (id >= 0) {
      if (pending_unk) {
        symbols.push_back({unk_id_, !cut_at_joins_});
      } else if (last_is_char && cut_at_joins_) {
        symbols.back().joins_next = may_join(last, c);
      }
      pending_unk = false;
      symbols.push_back({id, !cut_at_joins_});
      last_is_char = true;
      last = c;
      continue;
    }
    const auto* bytes = reinterpret_cast<const unsigned char*>(word.data());
    if (byte_fallback_ && std::all_of(bytes + begin, bytes + i, [&](unsigned char b) { return byte_ids_[b] >= 0; })) {
      last_is_char = false;
      for (size_t k = begin; k < i; ++k) symbols.push_back({byte_ids_[bytes[k]], !cut_at_joins_});
    } else if (unk_id_ < 0 && !unk_.empty()) {
      throw_error(ErrorCode::invalid_argument, "the tokenizer has no token for '{}', and its unk_token '{}' is not in the vocabulary",
                  word.substr(begin, i - begin), unk_);
    } else if (unk_id_ >= 0) {  // else it vanishes, and its neighbours are neighbours
      last_is_char = false;
      if (pending_unk && !fuse_unk_) symbols.push_back({unk_id_, !cut_at_joins_});
      pending_unk = true;
    }
  }
  if (pending_unk) symbols.push_back({unk_id_, !cut_at_joins_});
}

void Bpe::merge_all(std::string_view word, std::vector<int32_t>& ids) const {
  std::vector<Symbol> symbols;
  symbols.reserve(word.size());
  initial_symbols(word, symbols);
  size_t begin = 0;
  for (size_t i = 0; i < symbols.size(); ++i) {
    if (i + 1 < symbols.size() && symbols[i].joins_next) continue;
    merge_run(symbols.data() + begin, i + 1 - begin, ids);
    begin = i + 1;
  }
}

void Bpe::merge_run(const Symbol* symbols, size_t count, std::vector<int32_t>& ids) const {
  if (count <= kShortRun) {
    merge_short(symbols, count, ids);
  } else {
    merge_long(symbols, count, ids);
  }
}

void Bpe::merge_short(const Symbol* symbols, size_t count, std::vector<int32_t>& ids) const {
  int32_t id[kShortRun];
  const Merge* merge[kShortRun];  // of a symbol and the next
  for (size_t i = 0; i < count; ++i) id[i] = symbols[i].id;
  for (size_t i = 0; i + 1 < count; ++i) merge[i] = find_merge(id[i], id[i + 1]);
  while (count > 1) {
    size_t best = count;
    for (size_t i = 0; i + 1 < count; ++i) {
      if (merge[i] != nullptr && (best == count || merge[i]->rank < merge[best]->rank)) best = i;
    }
    if (best == count) break;
    id[best] = merge[best]->id;
    for (size_t i = best + 1; i + 1 < count; ++i) {
      id[i] = id[i + 1];
      if (i + 2 < count) merge[i] = merge[i + 1];
    }
    --count;
    if (best > 0) merge[best - 1] = find_merge(id[best - 1], id[best]);
    if (best + 1 < count) merge[best] = find_merge(id[best], id[best + 1]);
  }
  ids.insert(ids.end(), id, id + count);
}

void Bpe::merge_long(const Symbol* symbols, size_t count, std::vector<int32_t>& ids) const {
  struct Node {
    int32_t id;  // < 0: merged into its left neighbour
    int32_t prev;
    int32_t next;
  };
  struct Candidate {
    int32_t rank;
    int32_t at;
    int32_t id;
    bool operator<(const Candidate& o) const { return rank != o.rank ? rank > o.rank : at > o.at; }
  };
  std::vector<Node> nodes(count);
  std::vector<Candidate> heap;
  heap.reserve(count);
  const auto candidate = [&](int32_t at, auto&& push) {
    const Node& n = nodes[static_cast<size_t>(at)];
    if (n.next < 0) return;
    if (const Merge* m = find_merge(n.id, nodes[static_cast<size_t>(n.next)].id)) push(Candidate{m->rank, at, m->id});
  };
  const auto last = static_cast<int32_t>(count) - 1;
  for (int32_t i = 0; i <= last; ++i) nodes[static_cast<size_t>(i)] = {symbols[i].id, i - 1, i < last ? i + 1 : -1};
  for (int32_t i = 0; i <= last; ++i) candidate(i, [&](Candidate c) { heap.push_back(c); });
  std::priority_queue<Candidate> queue(std::less<Candidate>(), std::move(heap));
  while (!queue.empty()) {
    const Candidate c = queue.top();
    queue.pop();
    Node& n = nodes[static_cast<size_t>(c.at)];
    if (n.id < 0 || n.next < 0) continue;
    Node& right = nodes[static_cast<size_t>(n.next)];
    const Merge* m = find_merge(n.id, right.id);
    if (m == nullptr || m->id != c.id) continue;  // one of the two has changed since
    n.id = c.id;
    n.next = right.next;
    right.id = -1;
    if (n.next >= 0) nodes[static_cast<size_t>(n.next)].prev = c.at;
    if (n.prev >= 0) candidate(n.prev, [&](Candidate x) { queue.push(x); });
    candidate(c.at, [&](Candidate x) { queue.push(x); });
  }
  for (int32_t i = 0; i >= 0; i = nodes[static_cast<size_t>(i)].next) ids.push_back(nodes[static_cast<size_t>(i)].id);
}

}  // namespace moegen::text
