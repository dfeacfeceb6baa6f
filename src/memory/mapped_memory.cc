#include "memory/mapped_memory.h"

#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <limits>
#include <string>

#include "base/error.h"
#include "base/size.h"

namespace moegen {

namespace {

std::atomic<int> preferred_node{-1};

// A hint; the call itself, since libnuma would be a library for one line.
void prefer(int node, void* memory, size_t bytes) {
  constexpr int kMostNodes = 1024, kBits = 8 * sizeof(unsigned long);
  int policy = MPOL_DEFAULT;
  if (node < 0 || node >= kMostNodes || ::syscall(SYS_get_mempolicy, &policy, nullptr, 0UL, nullptr, 0UL) != 0) return;
  if (policy != MPOL_DEFAULT) return;  // as numactl says
  std::array<unsigned long, kMostNodes / kBits> nodes{};
  nodes[static_cast<size_t>(node / kBits)] = 1UL << (node % kBits);
  static_cast<void>(::syscall(SYS_mbind, memory, bytes, MPOL_PREFERRED, nodes.data(), kMostNodes + 1UL, 0U));
}

}  // namespace

void prefer_numa_node(int node) noexcept { preferred_node = node; }

MappedMemory::MappedMemory(size_t bytes, std::string_view purpose) : bytes_(bytes) {
  if (bytes == 0) return;
  void* p = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw_error(ErrorCode::out_of_memory, "{} for {}: {}", format_bytes(bytes), purpose, std::strerror(errno));
  ::madvise(p, bytes, MADV_HUGEPAGE);  // a hint: fewer TLB misses where it is taken
  prefer(preferred_node, p, bytes);
  data_ = static_cast<std::byte*>(p);
}

MappedMemory::~MappedMemory() {
  if (data_ != nullptr) ::munmap(data_, bytes_);
}

namespace {

constexpr uint64_t kNoLimit = std::numeric_limits<uint64_t>::max();

uint64_t read_number(const std::string& path, uint64_t otherwise) {
  std::ifstream in(path);
  uint64_t value = 0;
  return in >> value ? value : otherwise;
}

// Bytes of page cache that count as used in a group, and that the kernel takes back before the limit hurts. In v1 the names with
// "total_" have the groups below in them.
uint64_t page_cache(const std::string& stat_file) {
  std::ifstream in(stat_file);
  std::string key;
  uint64_t own = 0;
  uint64_t total = 0;
  for (uint64_t value = 0; in >> key >> value;) {
    if (key == "inactive_file" || key == "active_file") own += value;
    if (key == "total_inactive_file" || key == "total_active_file") total += value;
  }
  return std::max(own, total);
}

// "8:memory:/a/b" (v1) or "0::/a/b" (v2) of /proc/self/cgroup: what the group and all above it leave.
uint64_t left_in_cgroups(const std::string& root, std::string group, const char* limit_file, const char* usage_file) {
  uint64_t left = kNoLimit;
  for (;;) {
    const std::string dir = root + (group == "/" ? "" : group);
    const uint64_t limit = read_number(dir + "/" + limit_file, kNoLimit);
    if (limit < kNoLimit / 4) {
      const uint64_t counted = read_number(dir + "/" + usage_file, 0);
      const uint64_t used = counted - std::min(counted, page_cache(dir + "/memory.stat"));
      left = std::min(left, limit > used ? limit - used : 0);
    }
    if (group.empty() || group == "/") return left;
    group.resize(group.rfind('/'));
  }
}

// ulimit -v, as batch systems set it.
uint64_t left_of_address_space() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return kNoLimit;
  std::ifstream statm("/proc/self/statm");
  uint64_t pages = 0;
  statm >> pages;
  const uint64_t used = pages * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  return limit.rlim_cur - std::min<uint64_t>(limit.rlim_cur, used);
}

}  // namespace

size_t available_host_memory() {
  uint64_t available = kNoLimit;
  std::ifstream meminfo("/proc/meminfo");
  for (std::string key; meminfo >> key;) {
    if (key == "MemAvailable:" && meminfo >> available) available *= 1024;
    meminfo.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  struct sysinfo info {};
  if (available == kNoLimit && ::sysinfo(&info) == 0) available = uint64_t{info.freeram} * info.mem_unit;  // no /proc
  std::ifstream cgroups("/proc/self/cgroup");
  for (std::string line; std::getline(cgroups, line);) {
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string group = line.substr(second + 1);
    if (controllers.empty()) {
      available = std::min(available, left_in_cgroups("/sys/fs/cgroup", group, "memory.max", "memory.current"));
    } else if (("," + controllers + ",").find(",memory,") != std::string::npos) {
      available = std::min(available, left_in_cgroups("/sys/fs/cgroup/memory", group, "memory.limit_in_bytes", "memory.usage_in_bytes"));
    }
  }
  return std::min<uint64_t>(available, left_of_address_space());
}

}  // namespace moegen
