#pragma once

#include "base/file.h"

namespace moegen {

/// A file for reads that go around the page cache, where its file system can do that; else through it.
class DirectFile {
 public:
  /// `file` must outlive it: what is read is that very file, whatever its path names by now.
  explicit DirectFile(const FileReader& file);
  DirectFile(DirectFile&& other) noexcept;
  DirectFile& operator=(DirectFile&&) = delete;
  ~DirectFile();

  [[nodiscard]] const FileReader& file() const { return *file_; }
  [[nodiscard]] bool direct() const { return direct_; }
  [[nodiscard]] int descriptor() const { return direct_ ? fd_ : file_->descriptor(); }
  /// For file systems that open with O_DIRECT and then refuse to read so: later reads go through the page cache.
  void give_up_direct() { direct_ = false; }

 private:
  const FileReader* file_;
  int fd_ = -1;  // stays open while direct reads may be under way
  bool direct_ = false;
};

}  // namespace moegen
