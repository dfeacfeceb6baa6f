#pragma once

#include <cstddef>
#include <string_view>
#include <utility>

namespace moegen {

/// On which NUMA node what is mapped from now on is to lie, as far as that has room: the one beside a GPU whose link copies it; -1: wherever it is
/// touched first. Of the whole process.
void prefer_numa_node(int node) noexcept;

/// Memory from the operating system: zero at first, in huge pages where it likes, touched page by page. Owns the mapping.
class MappedMemory {
 public:
  MappedMemory() = default;
  /// Throws Error(out_of_memory) naming `purpose`.
  MappedMemory(size_t bytes, std::string_view purpose);
  MappedMemory(MappedMemory&& other) noexcept : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  MappedMemory& operator=(MappedMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~MappedMemory();

  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] size_t size() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

/// RAM that this process could still take: what the system has available, and what its cgroups (v1, v2) and `ulimit -v` leave.
size_t available_host_memory();

}  // namespace moegen
