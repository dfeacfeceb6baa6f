#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/cpu.h"
#include "device/gpu.h"
#include "plan/machine.h"

namespace moegen {

/// A number that may have no limit.
using Limit = std::optional<uint64_t>;

/// The file system that a directory is on.
struct Mount {
  std::string type;  ///< "ext4"
  std::string source;
  bool read_only = false;
  std::optional<bool> rotates;  ///< the device does; empty: not known
};

/// What a machine has that a run depends on, as it was found; what to think of it is findings().
struct Facts {
  std::string cpu_name;
  CpuFeatures cpu;
  std::vector<std::string> paths;  ///< of the kernels, that run here
  int usable_cores = 0;
  int online_cpus = 0;  ///< logical ones
  std::string governor;
  std::string linux_release;

  GpuBackend gpu;
  bool nvidia_device = false;  ///< on the bus, whatever drives it
  std::string nvidia_driver;   ///< version; empty: none

  int uring_error = 0;     ///< errno of io_uring_setup; 0: it works
  int uring_disabled = 0;  ///< sysctl kernel.io_uring_disabled
  bool seccomp = false;

  uint64_t memory = 0;  ///< bytes of the machine
  uint64_t available = 0;
  Limit cgroup_memory;
  std::optional<double> cgroup_cores;
  std::string cgroup_version;  ///< "v1", "v2" or empty
  std::string huge_pages;      ///< transparent ones: always | madvise | never; empty: the kernel has none
  int overcommit = 0;
  int numa_nodes = 1;
  Limit locked_memory;  ///< RLIMIT_MEMLOCK, soft
  Limit open_files, most_open_files;

  std::filesystem::path directory;  ///< empty: none was given
  std::optional<Mount> mount;
  std::optional<Machine::Ssd> ssd;
  std::optional<std::string> rates;  ///< of steps of a pass: where they are kept; "" where they are not; empty: no model was given
};

/// What can be read under `root`: /proc and /sys of a system. Fields that only calls to the system know stay as they are.
[[nodiscard]] Facts read_files(const std::filesystem::path& root);
/// The mount of a directory, of the text of /proc/self/mountinfo. Empty where it has none.
[[nodiscard]] std::optional<Mount> mount_of(const std::string& mountinfo, const std::filesystem::path& directory, const std::filesystem::path& root);
/// All of this machine. `directory` may be empty. Throws Error(not_found).
[[nodiscard]] Facts read_facts(const std::filesystem::path& directory);

}  // namespace moegen
