#include "doctor/facts.h"

#include <linux/io_uring.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <limits>
#include <sstream>

#include "base/error.h"
#include "base/thread_pool.h"
#include "checkpoint/checkpoint.h"
#include "kernels/functions.h"
#include "memory/mapped_memory.h"
#include "profile/disk.h"
#include "profile/machine_profile.h"

namespace moegen {
namespace {

namespace fs = std::filesystem;

std::string first_line(const fs::path& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

int number_in(const fs::path& path, int otherwise) {
  std::ifstream in(path);
  int value = 0;
  return in >> value ? value : otherwise;
}

// "always [madvise] never"
std::string chosen(const std::string& line) {
  const size_t begin = line.find('[');
  const size_t end = line.find(']');
  return begin == std::string::npos || end == std::string::npos ? "" : line.substr(begin + 1, end - begin - 1);
}

// The value of "KEY: 123 kB" or "KEY: text" in a file of such lines.
std::string value_of(const fs::path& path, const std::string& key) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with(key + ":")) continue;
    const size_t at = line.find_first_not_of(" \t", key.size() + 1);
    return at == std::string::npos ? "" : line.substr(at);
  }
  return "";
}

uint64_t kib_of(const fs::path& path, const std::string& key) { return std::strtoull(value_of(path, key).c_str(), nullptr, 10) * 1024; }

// Calls look(folder) for the cgroup and all above it.
template <typename Look>
void for_each_group(const fs::path& mount, std::string group, const Look& look) {
  for (;;) {
    look(mount / (group.empty() || group == "/" ? "" : group.substr(1)));
    if (group.empty() || group == "/") return;
    group.resize(group.rfind('/'));
  }
}

void lower(Limit& limit, const std::string& text) {
  char* end = nullptr;
  const uint64_t value = std::strtoull(text.c_str(), &end, 10);
  if (end == text.c_str() || value > std::numeric_limits<uint64_t>::max() / 4) return;  // "max", and what v1 says for it
  limit = std::min(limit.value_or(value), value);
}

void lower(std::optional<double>& cores, double quota, double period) {
  if (quota > 0 && period > 0) cores = std::min(cores.value_or(quota / period), quota / period);
}

void read_cgroups(const fs::path& root, Facts& f) {
  std::ifstream in(root / "proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const std::string group = line.substr(second + 1);
    if (controllers == ",,") {
      if (f.cgroup_version.empty()) f.cgroup_version = "v2";
      for_each_group(root / "sys/fs/cgroup", group, [&](const fs::path& dir) {
        lower(f.cgroup_memory, first_line(dir / "memory.max"));
        std::istringstream cpu(first_line(dir / "cpu.max"));
        double quota = 0;
        double period = 0;
        if (cpu >> quota >> period) lower(f.cgroup_cores, quota, period);
      });
    }
    if (controllers.find(",memory,") != std::string::npos) {
      f.cgroup_version = "v1";
      for_each_group(root / "sys/fs/cgroup/memory", group,
                     [&](const fs::path& dir) { lower(f.cgroup_memory, first_line(dir / "memory.limit_in_bytes")); });
    }
    if (controllers.find(",cpu,") != std::string::npos) {
      for_each_group(root / "sys/fs/cgroup/cpu", group, [&](const fs::path& dir) {
        lower(f.cgroup_cores, number_in(dir / "cpu.cfs_quota_us", -1), number_in(dir / "cpu.cfs_period_us", 0));
      });
    }
  }
}

void read_bus(const fs::path& root, Facts& f) {
  std::error_code none;
  for (const auto& device : fs::directory_iterator(root / "sys/bus/pci/devices", none)) {
    const std::string kind = first_line(device.path() / "class");
    if (first_line(device.path() / "vendor") == "0x10de" && (kind.starts_with("0x0300") || kind.starts_with("0x0302"))) f.nvidia_device = true;
  }
  std::istringstream version(first_line(root / "proc/driver/nvidia/version"));
  for (std::string word; version >> word;) {
    if (word.find_first_not_of("0123456789.") == std::string::npos && word.find('.') != std::string::npos) f.nvidia_driver = word;
  }
}

int count_nodes(const fs::path& root) {
  int count = 0;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(root / "sys/devices/system/node", none)) {
    const std::string name = entry.path().filename();
    if (name.starts_with("node") && name.size() > 4 && name.find_first_not_of("0123456789", 4) == std::string::npos) ++count;
  }
  return std::max(1, count);
}

int uring_error() {
  io_uring_params params{};
  const long fd = ::syscall(__NR_io_uring_setup, 2, &params);
  if (fd < 0) return errno;
  ::close(static_cast<int>(fd));
  return 0;
}

Limit soft_limit(int resource, Limit* hard = nullptr) {
  rlimit limit{};
  ::getrlimit(static_cast<__rlimit_resource_t>(resource), &limit);
  const auto value = [](rlim_t n) { return n == RLIM_INFINITY ? Limit() : Limit(n); };
  if (hard != nullptr) *hard = value(limit.rlim_max);
  return value(limit.rlim_cur);
}

// Where the rates of this model on this machine are kept.
std::optional<std::string> kept_rates(const fs::path& directory) {
  if (!fs::exists(directory / "config.json")) return std::nullopt;
  try {
    const ModelSpec spec = load_spec(directory);
    ProfileInput in;
    in.spec = &spec;
    in.act = spec.dtype == DType::f32 ? DType::f32 : DType::bf16;
    in.kv_dtype = in.act;
    in.directory = directory;
    const auto profile = kept_profile(in);
    return profile ? profile->source : "";
  } catch (const Error&) {
    return std::nullopt;  // no model that runs
  }
}

}  // namespace

std::optional<Mount> mount_of(const std::string& mountinfo, const fs::path& directory, const fs::path& root) {
  std::optional<Mount> best;
  size_t longest = 0;
  std::istringstream in(mountinfo);
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string id, parent, device, from, point, options, word, type, source;
    words >> id >> parent >> device >> from >> point >> options;
    while (words >> word && word != "-") {
    }
    if (!(words >> type >> source)) continue;
    const std::string inside = directory.string() + "/";
    const bool within = point == "/" || inside.starts_with(point + "/");
    if (!within || (best && point.size() < longest)) continue;  // of equal ones the last lies on top
    longest = point.size();
    best = Mount{type, source, ("," + options + ",").find(",ro,") != std::string::npos, {}};
    const fs::path block = root / "sys/dev/block" / device;
    for (const fs::path& queue : {block / "queue", block / "../queue"}) {  // a disk, or a part of one
      const int rotates = number_in(queue / "rotational", -1);
      if (rotates >= 0 && !best->rotates) best->rotates = rotates == 1;
    }
  }
  return best;
}

Facts read_files(const fs::path& root) {
  Facts f;
  f.governor = first_line(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
  f.uring_disabled = number_in(root / "proc/sys/kernel/io_uring_disabled", 0);
  f.seccomp = value_of(root / "proc/self/status", "Seccomp") == "2";
  f.memory = kib_of(root / "proc/meminfo", "MemTotal");
  f.available = kib_of(root / "proc/meminfo", "MemAvailable");
  f.huge_pages = chosen(first_line(root / "sys/kernel/mm/transparent_hugepage/enabled"));
  f.overcommit = number_in(root / "proc/sys/vm/overcommit_memory", 0);
  f.numa_nodes = count_nodes(root);
  read_cgroups(root, f);
  read_bus(root, f);
  return f;
}

Facts read_facts(const fs::path& directory) {
  if (!directory.empty() && !fs::is_directory(directory)) throw_error(ErrorCode::not_found, "{}: no such directory", directory.string());
  Facts f = read_files("/");
  f.cpu_name = cpu_name();
  f.cpu = cpu_features();
  for (const Kernels* kernels : usable_kernels()) f.paths.emplace_back(kernels->name);
  f.usable_cores = usable_cores();
  f.online_cpus = static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN));
  utsname name{};
  if (::uname(&name) == 0) f.linux_release = name.release;
  f.gpu = find_gpus();
  f.uring_error = uring_error();
  f.available = available_host_memory();
  f.locked_memory = soft_limit(RLIMIT_MEMLOCK);
  f.open_files = soft_limit(RLIMIT_NOFILE, &f.most_open_files);
  if (directory.empty()) return f;
  constexpr uint64_t kFileBytes = uint64_t{256} << 20;
  f.directory = fs::canonical(directory);
  std::ostringstream mounts;
  mounts << std::ifstream("/proc/self/mountinfo").rdbuf();
  f.mount = mount_of(mounts.str(), f.directory, "/");
  f.ssd = disk_profile(f.directory, kFileBytes, {.rounds = 2, .seconds = 1});
  f.rates = kept_rates(f.directory);
  return f;
}

}  // namespace moegen
