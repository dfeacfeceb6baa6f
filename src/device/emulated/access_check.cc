#include "device/emulated/access_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

namespace moegen {
namespace {

const std::byte* begin_of(Region r) { return static_cast<const std::byte*>(r.data); }

}  // namespace

size_t AccessCheck::add_actor() {
  for (Clock& clock : clocks_) clock.push_back(0);
  clocks_.emplace_back(clocks_.size() + 1);
  return clocks_.size() - 1;
}

void AccessCheck::join(size_t actor, const Clock& clock) {
  Clock& own = clocks_[actor];
  for (size_t i = 0; i < clock.size(); ++i) own[i] = std::max(own[i], clock[i]);
}

void AccessCheck::use(size_t actor, std::string_view name, const std::vector<Region>& reads, const std::vector<Region>& writes) {
  if (actor != kHost) join(actor, clocks_[kHost]);
  for (const Region& r : reads) check(clocks_[actor], name, r, false);
  for (const Region& r : writes) check(clocks_[actor], name, r, true);
  ++clocks_[actor][actor];
  forget();
  for (const Region& r : reads) note(actor, name, r, false);
  for (const Region& r : writes) note(actor, name, r, true);
}

void AccessCheck::check(const Clock& clock, std::string_view name, Region region, bool writes) const {
  if (region.bytes == 0) return;
  const std::byte* begin = begin_of(region);
  for (const Use& u : uses_) {
    if (u.end <= begin || u.begin >= begin + region.bytes || !(u.writes || writes) || clock[u.actor] >= u.tick) continue;
    throw std::logic_error(fmt::format("{} {} {} bytes at {} that {} may still be {}: no event says that it is done", name,
                                       writes ? "writes" : "reads", region.bytes, fmt::ptr(region.data), u.name, u.writes ? "writing" : "reading"));
  }
}

void AccessCheck::note(size_t actor, std::string_view name, Region region, bool writes) {
  if (region.bytes == 0 || actor == kHost) return;  // whatever comes is behind what the host did
  const std::byte* begin = begin_of(region);
  const std::byte* end = begin + region.bytes;
  // What a write covers happened before it; whoever is behind the write is behind that too. Likewise a read, for reads of its own actor.
  std::erase_if(uses_, [&](const Use& u) { return u.begin >= begin && u.end <= end && (writes || (!u.writes && u.actor == actor)); });
  uses_.push_back({begin, end, actor, clocks_[actor][actor], writes, std::string(name)});
}

// Whatever comes is behind what the host has seen the end of.
void AccessCheck::forget() {
  const Clock& host = clocks_[kHost];
  std::erase_if(uses_, [&](const Use& u) { return host[u.actor] >= u.tick; });
}

std::string AccessCheck::users(Region region) const {
  const std::byte* begin = begin_of(region);
  const Clock& host = clocks_[kHost];
  for (const Use& u : uses_) {
    if (u.begin < begin + region.bytes && begin < u.end && host[u.actor] < u.tick) return u.name;
  }
  return {};
}

}  // namespace moegen
