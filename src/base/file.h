#pragma once

#include <cstddef>
#include <cstdint>
#include <ctime>
#include <filesystem>
#include <string>

namespace moegen {

/// What O_DIRECT asks of offsets, lengths and addresses: enough for every device and file system with blocks of up to 4 KiB.
inline constexpr uint64_t kReadAlignment = 4096;

/// A file open for reading at offsets. Owns its descriptor; const members may be called from many threads.
class FileReader {
 public:
  /// Throws Error(not_found | io).
  explicit FileReader(const std::filesystem::path& path);
  FileReader(FileReader&& other) noexcept;
  FileReader& operator=(FileReader&&) = delete;
  ~FileReader();

  [[nodiscard]] uint64_t size() const { return size_; }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  /// Exactly `bytes` bytes from `offset`. Throws Error(io) with file, offset and cause, also where the file ends before.
  void read(uint64_t offset, void* to, size_t bytes) const;
  /// Throws Error(io) where the file no longer has the size and the time of change that it had when it was opened.
  void check_unchanged() const;
  /// Stays the reader's.
  [[nodiscard]] int descriptor() const { return fd_; }

 private:
  std::filesystem::path path_;
  int fd_ = -1;
  uint64_t size_ = 0;
  timespec changed_{};
};

/// The whole file. Throws Error; a file above `max_bytes` is refused before it is read.
std::string read_text_file(const std::filesystem::path& path, uint64_t max_bytes);

}  // namespace moegen
