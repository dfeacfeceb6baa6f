#include "storage/piece_reader.h"

#include <cerrno>
#include <cstring>

#include "base/check.h"
#include "base/error.h"
#include "base/log.h"

namespace moegen {

PieceReader::PieceReader(std::span<const FileReader> files, std::unique_ptr<AsyncReader> reader, unsigned depth)
    : flights_(depth), results_(depth), reader_(std::move(reader)) {
  for (const FileReader& file : files) files_.emplace_back(file);
  for (uint32_t tag = depth; tag-- > 0;) free_.push_back(tag);
  ended_.reserve(depth);
}

void PieceReader::begin(const Piece& piece) {
  MOEGEN_CHECK(!free_.empty());
  if (idle()) busy_since_ = Clock::now();
  const uint32_t tag = free_.back();
  free_.pop_back();
  flights_[tag] = {piece};
  submit(tag);
}

void PieceReader::submit(uint32_t tag) {
  Flight& f = flights_[tag];
  const DirectFile& file = files_[f.piece.file_idx];
  f.direct = file.direct();
  reader_->submit({file.descriptor(), f.piece.offset, f.piece.to, f.piece.bytes, tag, f.piece.buffer});
}

std::span<const int> PieceReader::wait() {
  ended_.clear();
  const size_t count = reader_->wait(results_);
  for (const ReadResult& result : std::span(results_).first(count)) {
    if (!ended(result)) {
      submit(result.tag);
      continue;
    }
    ended_.push_back(flights_[result.tag].piece.buffer);
    free_.push_back(result.tag);
  }
  if (idle()) busy_seconds_ += Clock::seconds_since(busy_since_);
  return ended_;
}

double PieceReader::busy_seconds() const { return idle() ? busy_seconds_ : busy_seconds_ + Clock::seconds_since(busy_since_); }

// Whether the piece is all there; if not, it now says what is left.
bool PieceReader::ended(const ReadResult& result) {
  Flight& f = flights_[result.tag];
  Piece& p = f.piece;
  if (result.bytes == -EINTR || result.bytes == -EAGAIN) return false;
  if ((result.bytes == -EINVAL || result.bytes == -EOPNOTSUPP) && f.direct) {
    DirectFile& file = files_[p.file_idx];
    if (file.direct())
      log_line("{}: its file system refuses direct reads at multiples of {} bytes ({}): they go through the page cache", file.file().path().string(),
               kReadAlignment, std::strerror(static_cast<int>(-result.bytes)));
    file.give_up_direct();
    return false;
  }
  if (result.bytes < 0) fail(p, std::strerror(static_cast<int>(-result.bytes)));
  const auto got = static_cast<uint32_t>(result.bytes);
  if (got >= p.needed) {
    bytes_read_ += p.needed;
    return true;
  }
  const auto whole = static_cast<uint32_t>(got / kReadAlignment * kReadAlignment);  // a direct read goes on at a block
  if (got == 0 || (whole == 0 && f.stalled)) {
    fail(p, fmt::format("only {} came, the file ends there: was it changed while in use?", got));
  }
  f.stalled = whole == 0;
  bytes_read_ += whole;
  p.offset += whole;
  p.to += whole;
  p.bytes -= whole;
  p.needed -= whole;
  return false;
}

void PieceReader::fail(const Piece& piece, const std::string& cause) const {
  throw_error(ErrorCode::io, "{}: reading {} bytes at offset {}: {}", files_[piece.file_idx].file().path().string(), piece.needed, piece.offset,
              cause);
}

}  // namespace moegen
