#include "batch/new_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace moegen {

NewFile::NewFile(std::string path, std::string name) : path_(std::move(path)), name_(std::move(name)), temporary_(path_ + ".XXXXXX") {
  const int fd = ::mkostemp(temporary_.data(), O_CLOEXEC);
  if (fd < 0) fail("cannot write beside it");
  file_ = ::fdopen(fd, "w");
  if (file_ != nullptr) return;
  ::close(fd);
  ::unlink(temporary_.c_str());
  fail("cannot write beside it");
}

NewFile::~NewFile() {
  if (file_ != nullptr) std::fclose(file_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void NewFile::write(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), file_) != text.size()) fail("cannot write");
}

void NewFile::put_in_place(mode_t mode, bool sync) {
  if (::fchmod(::fileno(file_), mode) != 0 || std::fflush(file_) != 0 || (sync && ::fsync(::fileno(file_)) != 0)) fail("cannot write");
  if (std::fclose(std::exchange(file_, nullptr)) != 0) fail("cannot write");
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) fail("cannot put the new one in its place");
  temporary_.clear();
}

void NewFile::fail(const char* what) const { throw_error(ErrorCode::io, "{}: {}: {}", name_, what, std::strerror(errno)); }

}  // namespace moegen
