#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "base/key.h"
#include "storage/temp_file.h"

namespace moegen {

/// What is known of keys, in the same memory however many there are: beyond some thousands it lies in an unnamed file of 64 to 128 bytes
/// a key, which the page cache holds as long as there is memory for it.
class KeyTable {
 public:
  struct Entry {
    uint32_t seen = 0;      ///< input lines
    bool answered = false;  ///< there is an answer
    bool changed = false;   ///< to a request that is another one now
    uint64_t request = 0;   ///< what the request was that the journal has last for it; 0: it has none
    [[nodiscard]] bool empty() const { return seen == 0 && !answered && !changed && request == 0; }
  };

  /// The file, if it comes to that, is made in `folder`.
  explicit KeyTable(std::filesystem::path folder);

  /// An empty entry where there is none. Both throw Error(io).
  [[nodiscard]] Entry find(const Key& key) const { return slot_of(key).entry; }
  /// Adds to what is known of a key, and returns what was known before.
  Entry add(const Key& key, Entry more);

 private:
  KeyTable(std::filesystem::path folder, uint64_t num_slots);
  struct Slot {
    Key key;
    Entry entry;  // an empty one: the slot is free
  };
  struct Found {
    uint64_t index;
    Entry entry;
  };
  [[nodiscard]] Found slot_of(const Key& key) const;
  [[nodiscard]] Slot read(uint64_t index) const;
  void write(uint64_t index, const Slot& slot);
  void grow();

  uint64_t num_slots_;  // a power of two
  uint64_t num_used_ = 0;
  std::filesystem::path folder_;
  std::vector<Slot> memory_;  // all slots, or none
  TempFile file_;             // all slots, where memory_ has none
};

}  // namespace moegen
