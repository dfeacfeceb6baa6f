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

// Of a disk that was not used yet: for the bytes, and beside them.
constexpr double kUsualRate = 1e9, kUsualSeconds = 5e-3;

bool is_memory(const std::filesystem::path& folder) {
  struct statfs s {};
  return ::statfs(folder.c_str(), &s) == 0 && (s.f_type == TMPFS_MAGIC || s.f_type == RAMFS_MAGIC);
}

// None where that cannot be told.
std::optional<uint64_t> free_bytes(const std::filesystem::path& folder) {
  std::error_code error;
  const auto space = std::filesystem::space(folder, error);
  return error ? std::nullopt : std::optional<uint64_t>(space.available);
}

// Adds the time of its life.
class Timer {
 public:
  explicit Timer(double& sum) : sum_(sum) {}
  ~Timer() { sum_ += Clock::seconds_since(start_); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

 private:
  double& sum_;
  Clock::time_point start_ = Clock::now();
};

}  // namespace

uint64_t SwapFile::most_bytes(const std::filesystem::path& folder, std::optional<uint64_t> asked) {
  return std::min(asked.value_or(is_memory(folder) ? 0 : UINT64_MAX), free_bytes(folder).value_or(0) / 2);
}

SwapFile::SwapFile(PassRunner& runner, const KvLayout& kv, std::filesystem::path folder, std::optional<uint64_t> asked)
    : runner_(runner), kv_(kv), folder_(std::move(folder)), asked_(asked), file_(folder_, "sequences that wait for KV pages") {}

// Calls f(place in the file, memory) for all that a sequence has.
template <typename F>
void SwapFile::for_each_part(const Sequence& sequence, uint64_t begin, const F& f) {
  for (const int32_t page : sequence.pages) {
    if (page < 0) continue;
    f(begin, runner_.kv_page(page));
    begin += kv_.page_bytes;
  }
  if (sequence.state >= 0 && kv_.state_bytes() > 0) f(begin, runner_.state(sequence.state));
}

// Whether f goes well; says so where the file fails.
template <typename F>
bool SwapFile::works(const F& f) {
  try {
    f();
    return true;
  } catch (const Error& e) {
    tell(e.what());
    return false;
  }
}

// Out and in, by what it took so far.
bool SwapFile::pays(const Sequence& sequence, uint64_t bytes) const {
  const double both = 2 * static_cast<double>(bytes);
  const double seconds = moved_ > 0 ? both * seconds_ / moved_ : kUsualSeconds + both / kUsualRate;
  return seconds < token_seconds_ * static_cast<double>(sequence.computed);
}

bool SwapFile::keep(const Sequence& sequence) {
  const uint64_t bytes = memory_of(sequence, kv_);
  if (!asked_ && is_memory(folder_)) {
    tell(fmt::format("{} is in memory, no disk (--swap-space N allows it)", folder_.string()));
    return false;
  }
  if (!asked_ && !pays(sequence, bytes)) return false;
  if (asked_ && end_ + bytes > *asked_) {
    tell(fmt::format("--swap-space {} has no room for {} more", format_bytes(*asked_), format_bytes(bytes)));
    return false;
  }
  if (const auto free = free_bytes(folder_); free && end_ + 2 * bytes > *free) {  // what stays free is for answers
    tell(fmt::format("{}: no room for {} more", folder_.string(), format_bytes(bytes)));
    return false;
  }
  const Timer timer(seconds_);
  const bool whole = works([&] {
    for_each_part(sequence, end_, [&](uint64_t at, std::span<const std::byte> memory) { file_.write(at, memory.data(), memory.size()); });
    file_.sync();
  });
  if (!whole) {
    cut(end_);
    return false;
  }
  moved_ += static_cast<double>(bytes);
  begins_.push_back(end_);
  end_ += bytes;
  return true;
}

bool SwapFile::bring_back(const Sequence& sequence) {
  const Timer timer(seconds_);
  const bool whole = works([&] {
    for_each_part(sequence, begins_.back(), [&](uint64_t at, std::span<std::byte> memory) { file_.read(at, memory.data(), memory.size()); });
  });
  if (whole) moved_ += static_cast<double>(memory_of(sequence, kv_));
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
  works([&] { file_.resize(end); });
}

// Once: a job goes on without it.
void SwapFile::tell(const std::string& why) {
  if (!told_) log_line("some preempted sequences are computed again: {}", why);
  told_ = true;
}

}  // namespace moegen
