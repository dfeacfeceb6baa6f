#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

namespace moegen {

[[nodiscard]] inline bool is_same_file(const struct stat& a, const struct stat& b) {
  return S_ISREG(a.st_mode) && S_ISREG(b.st_mode) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/// A file of lines that only grows. Every line goes out with one write, so what a crash leaves is complete lines and at most
/// one torn one at the end. A regular file is locked against a second run, by a lock that ends with the process. Not thread-safe.
class AnswerFile {
 public:
  using Look = std::function<bool(std::string_view line)>;

  /// Opens or makes the file; an existing one is not touched before start(). `path` may be "-": stdout. Throws Error(io).
  explicit AnswerFile(const std::string& path);
  AnswerFile(const AnswerFile&) = delete;
  AnswerFile& operator=(const AnswerFile&) = delete;
  ~AnswerFile();

  /// Throws Error(invalid_argument) if `other` is the same file by whatever name.
  void refuse_same(const struct stat& other, const std::string& other_name) const;
  /// Locks the file. Throws Error(invalid_argument) if another run has it, and where it holds something already and
  /// `resume` does not say what to do with it.
  void claim(std::optional<bool> resume);
  /// Gives the complete lines that are there to `look`, which says whether it knows what the line is. Throws Error: the file is not what it
  /// should be if no line is known, or if it ends in half a line that does not begin as `begins` (or with zeros, as a power cut leaves).
  /// Of a line longer than `max_line_bytes` it gives the start.
  void read_lines(const Look& look, std::string_view begins = "", size_t max_line_bytes = std::numeric_limits<size_t>::max());
  /// Makes the file ready: empty, or if `keep` with the lines that were read, without a torn last one. Throws Error.
  void start(bool keep);
  /// Before start(true): leaves out the lines for which `drop`. The others go to a new file that takes the name at once, so that a crash
  /// leaves the one or the other. Throws Error.
  void rewrite(const Look& drop);
  /// `line` ends in a line feed. Throws Error(io) that says what to do; a torn line is taken back where that is possible.
  void append(std::string_view line);
  /// Throws Error(io) where nothing can be found again of what is written, because the file was removed.
  void check_there() const;
  /// To the disk. Throws Error(io).
  void flush();

  [[nodiscard]] const struct stat& identity() const { return stat_; }
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] bool regular() const { return regular_; }

 private:
  [[noreturn]] void fail(const char* what, int error) const;

  std::string name_;
  bool regular_ = false;
  int fd_ = -1;
  struct stat stat_ {};
  int64_t size_ = 0;   // of complete lines; regular files only
  int64_t lines_ = 0;  // written by this run
};

}  // namespace moegen
