#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "batch/ledger.h"

namespace moegen {

/// A file of lines that only grows. Every line goes out with one write, so what a crash leaves is complete lines and at most
/// one torn one at the end. A regular file is locked against a second run. Not thread-safe.
class AnswerFile {
 public:
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
  /// Makes the file ready: empty, or if `keep`, with its complete lines, which are entered in `ledger` (null: they are no
  /// answers), and without a torn last one. Throws Error; a file that holds something else stays as it is.
  void start(bool keep, Ledger* ledger);
  /// `line` ends in a line feed. Throws Error(io) that says what to do; a torn line is taken back where that is possible.
  void append(std::string_view line);
  /// To the disk. Throws Error(io).
  void flush();

  [[nodiscard]] const struct stat& identity() const { return stat_; }
  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  [[noreturn]] void fail(const char* what, int error) const;
  void keep_lines(Ledger* ledger);

  std::string name_;
  bool regular_ = false;
  int fd_ = -1;
  struct stat stat_ {};
  int64_t size_ = 0;   // of complete lines; regular files only
  int64_t lines_ = 0;  // written by this run
};

}  // namespace moegen
