#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "device/device.h"

namespace moegen {

/// Finds work that may meet other work in the same memory, whether or not it did this time: every stream, and the host, has a vector clock
/// (Fidge, Mattern), events carry clocks from one to another, and memory remembers who used it when.
class AccessCheck {
 public:
  using Clock = std::vector<uint64_t>;  ///< of each actor, how much of it has happened before
  static constexpr size_t kHost = 0;

  [[nodiscard]] size_t add_actor();
  [[nodiscard]] Clock now(size_t actor) const { return clocks_[actor]; }
  /// All that happened before `clock` happens before what the actor does from now on.
  void join(size_t actor, const Clock& clock);

  /// The actor does something to memory; a stream does it after all that the host has seen. Throws std::logic_error that names both where it is
  /// not certain that what came before is over.
  void use(size_t actor, std::string_view name, const std::vector<Region>& reads, const std::vector<Region>& writes);
  /// What may still be using memory that the host gives back; empty: nothing.
  [[nodiscard]] std::string users(Region region) const;

 private:
  struct Use {
    const std::byte* begin;
    const std::byte* end;
    size_t actor;
    uint64_t tick;
    bool writes;
    std::string name;
  };
  void check(const Clock& clock, std::string_view name, Region region, bool writes) const;
  void note(size_t actor, std::string_view name, Region region, bool writes);
  void forget();

  std::vector<Clock> clocks_{Clock{0}};
  std::vector<Use> uses_;
};

}  // namespace moegen
