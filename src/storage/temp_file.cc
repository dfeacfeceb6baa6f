#include "storage/temp_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace moegen {

TempFile::TempFile(TempFile&& other) noexcept
    : folder_(std::move(other.folder_)), purpose_(std::move(other.purpose_)), fd_(std::exchange(other.fd_, -1)) {}

TempFile& TempFile::operator=(TempFile&& other) noexcept {
  folder_.swap(other.folder_);
  purpose_.swap(other.purpose_);
  std::swap(fd_, other.fd_);
  return *this;
}

TempFile::~TempFile() {
  if (fd_ >= 0) ::close(fd_);
}

void TempFile::open() {
  if (fd_ >= 0) return;
  std::string name = (folder_ / ".moegen-XXXXXX").string();
  fd_ = ::mkostemp(name.data(), O_CLOEXEC);
  if (fd_ < 0) fail("cannot make it", errno);
  ::unlink(name.c_str());
}

void TempFile::fail(const char* what, int error) const {
  throw_error(ErrorCode::io, "{}: a temporary file there, for {}: {}: {}", folder_.string(), purpose_, what, std::strerror(error));
}

// Moves all bytes by pread or pwrite; 0, or the error that ended it.
template <typename Byte, typename Transfer>
int TempFile::move_all(const Transfer& transfer, uint64_t offset, Byte* at, size_t bytes) const {
  while (bytes > 0) {
    const ssize_t n = transfer(fd_, at, bytes, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n < 0 ? errno : EIO;
    at += n;
    bytes -= static_cast<size_t>(n);
    offset += static_cast<uint64_t>(n);
  }
  return 0;
}

void TempFile::write(uint64_t offset, const void* from, size_t bytes) {
  open();
  if (const int error = move_all(::pwrite, offset, static_cast<const char*>(from), bytes)) fail("cannot write", error);
}

void TempFile::read(uint64_t offset, void* to, size_t bytes) const {
  if (const int error = move_all(::pread, offset, static_cast<char*>(to), bytes)) fail("cannot read", error);
}

void TempFile::resize(uint64_t bytes) {
  open();
  if (::ftruncate(fd_, static_cast<off_t>(bytes)) != 0) fail("cannot change its size", errno);
}

void TempFile::sync() {
  open();
  if (::fdatasync(fd_) != 0) fail("cannot write", errno);
  static_cast<void>(::posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED));  // a hint
}

}  // namespace moegen
