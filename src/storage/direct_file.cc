#include "storage/direct_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <utility>

namespace moegen {

DirectFile::DirectFile(const FileReader& file)
    : file_(&file), fd_(::open(fmt::format("/proc/self/fd/{}", file.descriptor()).c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT)), direct_(fd_ >= 0) {}

DirectFile::DirectFile(DirectFile&& other) noexcept : file_(other.file_), fd_(std::exchange(other.fd_, -1)), direct_(other.direct_) {}

DirectFile::~DirectFile() {
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace moegen
