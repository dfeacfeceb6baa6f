#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>

namespace moegen {

/// A file without a name, made at the first write: it is gone with the process, whatever ends that.
class TempFile {
 public:
  /// `purpose` is for errors: "answers that wait for their turn".
  TempFile(std::filesystem::path folder, std::string purpose) : folder_(std::move(folder)), purpose_(std::move(purpose)) {}
  TempFile(TempFile&& other) noexcept;
  TempFile& operator=(TempFile&& other) noexcept;
  ~TempFile();

  /// Exactly `bytes` bytes at `offset`. Throws Error(io) with folder, purpose and cause.
  void write(uint64_t offset, const void* from, size_t bytes);
  /// What was never written reads as zeros up to the size that resize() gave.
  void read(uint64_t offset, void* to, size_t bytes) const;
  void resize(uint64_t bytes);
  /// Waits until all that was written is on the disk, and takes it out of the page cache.
  void sync();

 private:
  void open();
  template <typename Byte, typename Transfer>
  int move_all(const Transfer& transfer, uint64_t offset, Byte* at, size_t bytes) const;
  [[noreturn]] void fail(const char* what, int error) const;

  std::filesystem::path folder_;
  std::string purpose_;
  int fd_ = -1;
};

}  // namespace moegen
