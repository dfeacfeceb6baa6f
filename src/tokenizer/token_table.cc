#include "tokenizer/token_table.h"

#include <bit>
#include <functional>

#include "base/error.h"

namespace moegen::text {
namespace {

constexpr size_t kMaxEntries = size_t{1} << 22;
constexpr size_t kMaxProbes = 4096;  // a half-full table of honest tokens needs some dozens

size_t hash_of(std::string_view s) { return std::hash<std::string_view>{}(s); }

}  // namespace

void TokenTable::add(std::string_view token, int64_t id) {
  if (id < 0 || id > kMaxId) throw_error(ErrorCode::corrupt, "the token id {} is not between 0 and {}", id, kMaxId);
  if (entries_.size() >= kMaxEntries || bytes_.size() + token.size() > UINT32_MAX)
    throw_error(ErrorCode::corrupt, "more than {} tokens", kMaxEntries);
  const auto i = static_cast<size_t>(id);
  if (i >= entry_of_.size()) entry_of_.resize(i + 1, -1);
  entry_of_[i] = static_cast<int32_t>(entries_.size());
  entries_.push_back({static_cast<uint32_t>(bytes_.size()), static_cast<uint32_t>(token.size()), static_cast<int32_t>(id)});
  bytes_ += token;
}

void TokenTable::finish() {
  bytes_.shrink_to_fit();
  entries_.shrink_to_fit();
  slots_.assign(std::bit_ceil(entries_.size() * 2 + 1), Slot{});
  const size_t mask = slots_.size() - 1;
  for (size_t e = 0; e < entries_.size(); ++e) {
    const std::string_view token = text_of(entries_[e]);
    const size_t hash = hash_of(token);
    size_t i = hash & mask;
    for (size_t probes = 0; slots_[i].entry >= 0; i = (i + 1) & mask) {
      if (text_of(entries_[static_cast<size_t>(slots_[i].entry)]) == token) break;
      if (++probes > kMaxProbes) throw_error(ErrorCode::corrupt, "the tokens are made to collide");
    }
    slots_[i] = {static_cast<int32_t>(e), static_cast<uint32_t>(hash >> 32)};
  }
}

int32_t TokenTable::find(std::string_view token) const {
  if (slots_.empty()) return kNone;
  const size_t mask = slots_.size() - 1;
  const size_t hash = hash_of(token);
  for (size_t i = hash & mask; slots_[i].entry >= 0; i = (i + 1) & mask) {
    if (slots_[i].hash != static_cast<uint32_t>(hash >> 32)) continue;
    const Entry& e = entries_[static_cast<size_t>(slots_[i].entry)];
    if (text_of(e) == token) return e.id;
  }
  return kNone;
}

std::string_view TokenTable::text(int32_t id) const {
  return has(id) ? text_of(entries_[static_cast<size_t>(entry_of_[static_cast<size_t>(id)])]) : std::string_view();
}

}  // namespace moegen::text
