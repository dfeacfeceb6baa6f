#include "base/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace moegen {

FileReader::FileReader(const std::filesystem::path& path) : path_(path) {
  fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // or a pipe of that name would wait for a writer
  if (fd_ < 0) {
    throw_error(errno == ENOENT ? ErrorCode::not_found : ErrorCode::io, "{}: cannot open: {}", path.string(), std::strerror(errno));
  }
  struct stat st {};
  if (::fstat(fd_, &st) != 0 || !S_ISREG(st.st_mode)) {
    ::close(fd_);
    throw_error(ErrorCode::io, "{}: not a regular file", path.string());
  }
  size_ = static_cast<uint64_t>(st.st_size);
  changed_ = st.st_mtim;
}

FileReader::FileReader(FileReader&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), size_(other.size_), changed_(other.changed_) {}

FileReader::~FileReader() {
  if (fd_ >= 0) ::close(fd_);
}

void FileReader::read(uint64_t offset, void* to, size_t bytes) const {
  constexpr size_t kMaxRead = size_t{1} << 30;  // Linux reads at most 2 GiB at once
  char* p = static_cast<char*>(to);
  while (bytes > 0) {
    const ssize_t got = ::pread(fd_, p, std::min(bytes, kMaxRead), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_error(ErrorCode::io, "{}: reading {} bytes at offset {}: {}", path_.string(), bytes, offset, std::strerror(errno));
    if (got == 0) {
      throw_error(ErrorCode::io, "{}: the file ends at offset {}, {} bytes before it should: was it changed while in use?", path_.string(), offset,
                  bytes);
    }
    p += got;
    offset += static_cast<uint64_t>(got);
    bytes -= static_cast<size_t>(got);
  }
}

void FileReader::check_unchanged() const {
  struct stat st {};
  if (::fstat(fd_, &st) != 0) throw_error(ErrorCode::io, "{}: {}", path_.string(), std::strerror(errno));
  if (static_cast<uint64_t>(st.st_size) != size_) {
    throw_error(ErrorCode::io, "{}: now has {} bytes, it had {} when it was opened: it was changed while in use", path_.string(), st.st_size, size_);
  }
  if (st.st_mtim.tv_sec != changed_.tv_sec || st.st_mtim.tv_nsec != changed_.tv_nsec) {
    throw_error(ErrorCode::io, "{}: was written to while in use: its time of modification is not that of when it was opened", path_.string());
  }
}

std::string read_text_file(const std::filesystem::path& path, uint64_t max_bytes) {
  const FileReader file(path);
  if (file.size() > max_bytes) {
    throw_error(ErrorCode::corrupt, "{}: {} bytes, more than the {} that such a file may have", path.string(), file.size(), max_bytes);
  }
  std::string text(file.size(), '\0');
  file.read(0, text.data(), text.size());
  return text;
}

}  // namespace moegen
