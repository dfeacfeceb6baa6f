#include "batch/line_reader.h"

#include <algorithm>
#include <utility>

namespace moegen {
namespace {

constexpr size_t kChunkBytes = size_t{256} << 10;
constexpr size_t kStartBytes = size_t{16} << 10;  // of a line that is too long

std::string_view trim(std::string_view text) {
  constexpr std::string_view kSpaces = " \t\r\n";
  const size_t begin = text.find_first_not_of(kSpaces);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpaces) + 1 - begin);
}

}  // namespace

LineReader::LineReader(std::unique_ptr<ByteSource> source, size_t max_line_bytes) : source_(std::move(source)), max_line_bytes_(max_line_bytes) {}

bool LineReader::next(Line& line) {
  while (next_any(line)) {
    if (line.number == 1 && line.text.starts_with("\xef\xbb\xbf")) line.text.remove_prefix(3);
    line.text = trim(line.text);
    if (!line.text.empty()) return true;
  }
  return false;
}

bool LineReader::next_any(Line& line) {
  line = Line{.number = ++number_, .begin = base_ + static_cast<int64_t>(pos_), .limit = max_line_bytes_};
  size_t length = 0;  // of the line, as far as it was searched
  long_start_.clear();
  for (;;) {
    const size_t at = buffer_.find('\n', pos_ + length);
    line.complete = at != std::string::npos;
    length = (line.complete ? at : buffer_.size()) - pos_;
    if (length > max_line_bytes_ && long_start_.empty()) long_start_.assign(buffer_, pos_, std::min(max_line_bytes_, kStartBytes));
    if (line.complete) break;
    if (!long_start_.empty()) {  // only its end is of interest now
      pos_ += length;
      length = 0;
    }
    if (!fill()) break;
  }
  line.too_long = !long_start_.empty();
  line.text = line.too_long ? std::string_view(long_start_) : std::string_view(buffer_).substr(pos_, length);
  pos_ += length + (line.complete ? 1 : 0);
  searched_ = pos_;
  line.end = base_ + static_cast<int64_t>(pos_);
  return line.end > line.begin;
}

bool LineReader::ready() {
  for (;;) {
    if (ended_ || buffer_.size() - pos_ > max_line_bytes_ || buffer_.find('\n', std::max(pos_, searched_)) != std::string::npos) return true;
    searched_ = buffer_.size();
    if (!source_->ready()) return false;
    ended_ = !fill();
  }
}

bool LineReader::fill() {
  buffer_.erase(0, pos_);
  searched_ -= std::min(searched_, pos_);
  base_ += static_cast<int64_t>(pos_);
  pos_ = 0;
  const size_t kept = buffer_.size();
  buffer_.resize(kept + kChunkBytes);
  const size_t got = source_->read(buffer_.data() + kept, kChunkBytes);
  buffer_.resize(kept + got);
  return got > 0;
}

}  // namespace moegen
