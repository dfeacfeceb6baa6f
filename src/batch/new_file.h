#pragma once

#include <sys/types.h>

#include <cstdio>
#include <string>
#include <string_view>

namespace moegen {

/// A file that takes the place of another, or of none, at once when it is whole: an error leaves what was there. Until then it has a name beside it
/// that no file had.
class NewFile {
 public:
  /// `name` is what errors call it. Throws Error(io), as all here.
  NewFile(std::string path, std::string name);
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;
  ~NewFile();

  void write(std::string_view text);
  /// On the disk, too, if `sync`.
  void put_in_place(mode_t mode, bool sync);

 private:
  [[noreturn]] void fail(const char* what) const;

  std::string path_, name_, temporary_;
  std::FILE* file_ = nullptr;
};

}  // namespace moegen
