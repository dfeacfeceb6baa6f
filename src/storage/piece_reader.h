#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/file.h"
#include "storage/async_reader.h"
#include "storage/direct_file.h"

namespace moegen {

/// Some bytes of a file and where they belong. Offset, `to` and `bytes` are multiples of kReadAlignment; at the end of the file
/// `needed` may be less than `bytes`.
struct Piece {
  size_t file_idx = 0;
  uint64_t offset = 0;
  std::byte* to = nullptr;
  uint32_t bytes = 0;   ///< room at `to`
  uint32_t needed = 0;  ///< of these, bytes that must come
  int buffer = -1;      ///< index of the reader's buffer that holds `to`
};

/// Reads pieces, several at a time, until all their bytes are there or cannot come. One thread uses it; it allocates nothing after its
/// construction.
class PieceReader {
 public:
  /// `files` must outlive it. `depth`: pieces that may be under way, the same for `reader`.
  PieceReader(std::span<const FileReader> files, std::unique_ptr<AsyncReader> reader, unsigned depth);

  [[nodiscard]] bool full() const { return free_.empty(); }
  [[nodiscard]] bool idle() const { return free_.size() == flights_.size(); }
  /// There must be room for one more.
  void begin(const Piece& piece);
  /// Waits until some piece has all its bytes; gives the buffers of those that have, valid until the next call; may be empty.
  /// Interrupted and short reads go on where they stopped. Throws Error(io) with file, offset and cause for what cannot be read.
  std::span<const int> wait();

  [[nodiscard]] uint64_t bytes_read() const { return bytes_read_; }
  /// Seconds in which at least one read was under way, until now.
  [[nodiscard]] double busy_seconds() const;
  [[nodiscard]] const AsyncReader& reader() const { return *reader_; }

 private:
  struct Flight {
    Piece piece;
    bool direct = false;
    bool stalled = false;  // the last read brought less than a block
  };
  void submit(uint32_t tag);
  bool ended(const ReadResult& result);
  [[noreturn]] void fail(const Piece& piece, const std::string& cause) const;

  std::vector<DirectFile> files_;
  std::vector<Flight> flights_;
  std::vector<uint32_t> free_;
  std::vector<ReadResult> results_;
  std::vector<int> ended_;
  uint64_t bytes_read_ = 0;
  double busy_seconds_ = 0;  // of the times that are over
  Clock::time_point busy_since_;
  std::unique_ptr<AsyncReader> reader_;  // last: it ends before what it writes to
};

}  // namespace moegen
