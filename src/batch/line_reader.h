#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "batch/byte_source.h"

namespace moegen {

struct Line {
  std::string_view text{};  ///< without the spaces around it; valid until the next call
  int64_t number = 0;       ///< from 1, blank lines counted
  int64_t begin = 0;        ///< offset of its first byte
  int64_t end = 0;          ///< offset behind its line feed
  bool complete = false;    ///< ends in a line feed
  bool too_long = false;    ///< text is only its start, the same whatever is too long
  size_t limit = 0;         ///< of the bytes of a line
};

/// The lines of a source that are not blank. Lines end at \n; a byte order mark before the first is dropped.
/// Holds at most one chunk and one line. Not thread-safe.
class LineReader {
 public:
  static constexpr size_t kMaxLineBytes = size_t{64} << 20;  ///< a prompt of 10 million token ids

  explicit LineReader(std::unique_ptr<ByteSource> source, size_t max_line_bytes = kMaxLineBytes);
  /// False at the end. Throws what the source throws.
  bool next(Line& line);
  /// Whether next() has a whole line, one that is too long, or the end, without waiting for more.
  [[nodiscard]] bool ready();

 private:
  bool next_any(Line& line);
  bool fill();

  std::unique_ptr<ByteSource> source_;
  size_t max_line_bytes_;
  std::string buffer_;  // read and not yet given, but for pos_ bytes
  size_t pos_ = 0;
  size_t searched_ = 0;  // no line ends before it
  bool ended_ = false;   // nothing more in the source
  int64_t base_ = 0;     // offset in the source of buffer_[0]
  int64_t number_ = 0;
  std::string long_start_;  // start of a line that was too long to keep
};

}  // namespace moegen
