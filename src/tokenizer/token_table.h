#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace moegen::text {

/// Tokens by id and ids by token, in three flat arrays: a vocabulary of 250k entries takes some 10 MB.
class TokenTable {
 public:
  static constexpr int32_t kMaxId = (1 << 22) - 1;
  static constexpr int32_t kNone = -1;

  /// The last of two entries of the same text or the same id wins. Throws Error(corrupt) where the id is out of range.
  void add(std::string_view token, int64_t id);
  /// To be called once, after the last add().
  void finish();
  [[nodiscard]] int32_t find(std::string_view token) const;
  /// "" where there is none.
  [[nodiscard]] std::string_view text(int32_t id) const;
  [[nodiscard]] bool has(int32_t id) const { return id >= 0 && id < size() && entry_of_[static_cast<size_t>(id)] >= 0; }
  [[nodiscard]] int32_t size() const { return static_cast<int32_t>(entry_of_.size()); }  ///< highest id + 1
  [[nodiscard]] size_t entries() const { return entries_.size(); }

 private:
  struct Entry {
    uint32_t offset;
    uint32_t bytes;
    int32_t id;
  };
  struct Slot {
    int32_t entry = -1;
    uint32_t hash = 0;
  };
  [[nodiscard]] std::string_view text_of(const Entry& e) const { return std::string_view(bytes_).substr(e.offset, e.bytes); }
  std::string bytes_;
  std::vector<Entry> entries_;
  std::vector<int32_t> entry_of_;  // by id
  std::vector<Slot> slots_;        // open addressing, a power of two
};

}  // namespace moegen::text
