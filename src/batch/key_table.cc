#include "batch/key_table.h"

#include <algorithm>
#include <random>
#include <utility>

namespace moegen {
namespace {

constexpr uint64_t kSlotsInMemory = 1 << 15;
constexpr const char* kPurpose = "the custom_ids of the input";

// Of this process alone: who writes the input must not know which keys share a slot.
uint64_t secret() {
  static const uint64_t drawn = [] {
    std::random_device device;
    return uint64_t{device()} << 32 | device();
  }();
  return drawn;
}

}  // namespace

KeyTable::KeyTable(std::filesystem::path folder) : KeyTable(std::move(folder), kSlotsInMemory) {}

KeyTable::KeyTable(std::filesystem::path folder, uint64_t num_slots)
    : num_slots_(num_slots), folder_(std::move(folder)), memory_(num_slots > kSlotsInMemory ? 0 : num_slots), file_(folder_, kPurpose) {
  if (memory_.empty()) file_.resize(num_slots * sizeof(Slot));
}

KeyTable::Slot KeyTable::read(uint64_t index) const {
  if (!memory_.empty()) return memory_[index];
  Slot slot;
  file_.read(index * sizeof(Slot), &slot, sizeof(slot));
  return slot;
}

void KeyTable::write(uint64_t index, const Slot& slot) {
  if (!memory_.empty()) {
    memory_[index] = slot;
  } else {
    file_.write(index * sizeof(Slot), &slot, sizeof(slot));
  }
}

KeyTable::Found KeyTable::slot_of(const Key& key) const {
  for (uint64_t index = mix_bits(key.low ^ secret()) & (num_slots_ - 1);; index = (index + 1) & (num_slots_ - 1)) {
    const Slot slot = read(index);
    if (slot.entry.empty() || slot.key == key) return {index, slot.entry};
  }
}

KeyTable::Entry KeyTable::add(const Key& key, Entry more) {
  const Found found = slot_of(key);
  const Entry now{found.entry.seen + more.seen, found.entry.answered || more.answered, found.entry.changed || more.changed,
                  more.request != 0 ? more.request : found.entry.request};
  if (now.empty()) return now;
  write(found.index, {key, now});
  if (found.entry.empty() && ++num_used_ > num_slots_ / 2) grow();
  return found.entry;
}

void KeyTable::grow() {
  KeyTable larger(folder_, 2 * num_slots_);
  constexpr uint64_t kTogether = 1024;
  std::vector<Slot> slots(kTogether);
  for (uint64_t first = 0; first < num_slots_; first += kTogether) {
    if (memory_.empty()) {
      file_.read(first * sizeof(Slot), slots.data(), kTogether * sizeof(Slot));
    } else {
      std::copy_n(memory_.begin() + static_cast<std::ptrdiff_t>(first), kTogether, slots.begin());
    }
    for (const Slot& slot : slots) {
      if (!slot.entry.empty()) larger.write(larger.slot_of(slot.key).index, slot);
    }
  }
  larger.num_used_ = num_used_;
  *this = std::move(larger);
}

}  // namespace moegen
