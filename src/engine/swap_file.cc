#include "engine/swap_file.h"

#include <linux/magic.h>
#include <sys/vfs.h>

#include <algorithm>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/size.h"

namespace moegen {
namespace {

// A disk on which this takes so long is slower than computing again.
constexpr double kSlowSeconds = 20, kSlowRate = 50e6;

bool is_memory(const std::filesystem::path& folder) {
  struct statfs s {};
  return ::statfs(folder.c_str(), &s) == 0 && (s.f_type == TMPFS_MAGIC || s.f_type == RAMFS_MAGIC);
}

uint64_t free_bytes(const std::filesystem::path& folder) {
  std::error_code error;
  const auto space = std::filesystem::space(folder, error);
  return error ? 0 : space.available;
}

}  // namespace

uint64_t SwapFile::most_bytes(const std::filesystem::path& folder, std::optional<uint64_t> asked) {
  return std::min(asked.value_or(is_memory(folder) ? 0 : UINT64_MAX), free_bytes(folder) / 2);
}

SwapFile::SwapFile(PassRunner& runner, const KvLayout& kv, std::filesystem::path folder, std::optional<uint64_t> asked)
    : runner_(runner), kv_(kv), folder_(std::move(folder)), asked_(asked), file_(folder_, "sequences that wait for KV pages") {}

uint64_t SwapFile::bytes_of(const Sequence& s) const {
  const auto pages = static_cast<uint64_t>(std::count_if(s.pages.begin(), s.pages.end(), [](int32_t page) { return page >= 0; }));
  return pages * kv_.page_bytes + (s.state >= 0 ? kv_.state_bytes() : 0);
}

// Calls move(place in the file, memory) for all parts of a sequence. False where the file fails.
template <typename F>
bool SwapFile::move_parts(const Sequence& sequence, uint64_t begin, const F& move) {
  const auto start = Clock::now();
  uint64_t at = begin;
  try {
    for (const int32_t page : sequence.pages) {
      if (page < 0) continue;
      move(at, runner_.kv_page(page));
      at += kv_.page_bytes;
    }
    if (sequence.state >= 0 && kv_.state_bytes() > 0) move(at, runner_.state(sequence.state));
  } catch (const Error& e) {
    tell(e.what());
    return false;
  }
  seconds_ += Clock::seconds_since(start);
  moved_ += static_cast<double>(bytes_of(sequence));
  return true;
}

bool SwapFile::is_slow() const { return seconds_ > kSlowSeconds && moved_ < kSlowRate * seconds_; }

bool SwapFile::keep(const Sequence& sequence) {
  const uint64_t bytes = bytes_of(sequence), end = end_ + bytes;
  if (!asked_ && is_memory(folder_)) {
    tell(fmt::format("{} is in memory, no disk (--swap-space N allows it)", folder_.string()));
    return false;
  }
  if (end > asked_.value_or(UINT64_MAX) || end + bytes > free_bytes(folder_)) {  // what stays free is for answers
    tell(fmt::format("{}: no room for {} more", folder_.string(), format_bytes(bytes)));
    return false;
  }
  if (is_slow()) {
    tell(fmt::format("{}: {:.0f} MB/s, which is slower", folder_.string(), 1e-6 * moved_ / seconds_));
    return false;
  }
  const auto write = [&](uint64_t at, std::span<const std::byte> memory) {
    file_.write(at, memory.data(), memory.size());
    if (at + memory.size() == end) file_.sync();
  };
  if (!move_parts(sequence, end_, write)) {
    cut(end_);
    return false;
  }
  begins_.push_back(end_);
  end_ = end;
  return true;
}

bool SwapFile::bring_back(const Sequence& sequence) {
  const bool whole =
      move_parts(sequence, begins_.back(), [&](uint64_t at, std::span<std::byte> memory) { file_.read(at, memory.data(), memory.size()); });
  drop();
  return whole;
}

void SwapFile::drop() {
  cut(begins_.back());
  begins_.pop_back();
}

// What lies behind takes no disk any more.
void SwapFile::cut(uint64_t end) {
  end_ = end;
  try {
    file_.resize(end);
  } catch (const Error& e) {
    tell(e.what());
  }
}

// Once: a job goes on without it.
void SwapFile::tell(const std::string& why) {
  if (!told_) log_line("preempted sequences are computed again: {}", why);
  told_ = true;
}

}  // namespace moegen
