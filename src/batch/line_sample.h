#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "batch/line_reader.h"

namespace moegen {

/// The lines of a file that are not blank: how many there are, and up to 2,000 of them, spread evenly by their number. Of more than 256 MiB
/// a plain file is read in 256 parts of a MiB, and a compressed one from its begin.
class LineSample {
 public:
  /// Counts. Lines behind the first `limit` do not count. Throws Error(io) where the file cannot be read, invalid_argument where it has another
  /// format.
  LineSample(std::string path, int64_t limit);

  [[nodiscard]] int64_t num_lines() const { return num_lines_; }
  /// Gives the chosen lines to `look`, of which what is beyond 64 KiB is cut off. `number` is 0 where the lines before it were not all read.
  void each(const std::function<void(Line&)>& look) const;

 private:
  // Bytes in which lines begin.
  struct Part {
    int64_t begin = 0;
    int64_t end = 0;
  };
  struct Scan {
    int64_t lines = 0;
    double share = 1;  // of the file's bytes, that were gone through
  };
  [[nodiscard]] Scan scan(const std::function<void(Line&, int64_t)>& look) const;
  double scan_part(const Part& part, const std::function<bool(Line&)>& look) const;

  std::string path_;
  int64_t limit_;
  int64_t file_bytes_ = 0;
  bool compressed_ = false;
  std::vector<Part> parts_;
  int64_t lines_read_ = 0;
  int64_t num_lines_ = 0;
};

}  // namespace moegen
