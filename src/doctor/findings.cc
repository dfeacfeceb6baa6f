#include "doctor/findings.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/size.h"
#include "kernels/paths.h"

namespace moegen {
namespace {

using State = Finding::State;

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kLeastLocked = 64 * kMiB;  // the ring of a small model
constexpr uint64_t kLeastFiles = 1024;
constexpr double kSlowStorage = 1e9;  // bytes/s: an NVMe drive gives more

std::string limit_text(const Limit& limit) { return limit ? format_bytes(*limit) : "no limit"; }

Finding cpu(const Facts& f) {
  Finding out{"CPU", State::good,
              fmt::format("{} ({}); runs {}; compiled in: {}", f.cpu_name, to_string(f.cpu), fmt::join(f.paths, " "), kKernelPaths), "", ""};
  if (!f.cpu.v3) {
    out.state = State::slow;
    out.advice = "AVX2 is missing: only the plain kernels run, which are for comparison; a virtual machine may hide it: give it the host's CPU";
    out.command = "qemu-system-x86_64 -cpu host ..";
  }
  return out;
}

Finding matrix_unit(const Facts& f) {
  if (!f.cpu.amx_on_cpu) return {"AMX", State::good, "this CPU has none", "", ""};
  if (f.cpu.amx_bf16) return {"AMX", State::good, "allowed", "", ""};
  return {"AMX", State::slow, "this CPU has it, the system refuses it (arch_prctl ARCH_REQ_XCOMP_PERM)",
          "Linux 5.16 or later, and no sandbox that forbids arch_prctl; in a container:", "docker run --security-opt seccomp=unconfined .."};
}

Finding cores(const Facts& f) {
  Finding out{"cores", State::good, fmt::format("{} threads compute, of {} logical CPUs", f.usable_cores, f.online_cpus), "", ""};
  if (f.cgroup_cores && *f.cgroup_cores < f.usable_cores + 0.99 && *f.cgroup_cores < f.online_cpus) {
    out.state = State::note;
    out.value += fmt::format("; the cgroup ({}) allows {:.1f}", f.cgroup_version, *f.cgroup_cores);
    out.advice = "more cores, where the container or the service may have them:";
    out.command = f.cgroup_version == "v2" ? "systemctl set-property UNIT CPUQuota=  (or docker update --cpus N CONTAINER)"
                                           : "docker update --cpus N CONTAINER";
  }
  return out;
}

Finding clock(const Facts& f) {
  if (f.governor.empty()) return {"clock", State::good, "the system does not say (usual in a virtual machine)", "", ""};
  if (f.governor == "performance") return {"clock", State::good, "governor performance", "", ""};
  return {"clock", State::note, "governor " + f.governor,
          "some drivers keep the clock low while threads wait for each other:", "cpupower frequency-set -g performance"};
}

Finding gpu(const Facts& f) {
  if (!f.gpu.gpus.empty()) {
    std::string text;
    for (const Gpu& g : f.gpu.gpus)
      text += fmt::format("{}{}, {}, sm_{}", text.empty() ? "" : "; ", g.name, format_bytes(g.memory_bytes), g.compute_capability);
    return {"GPU", State::note, text, "this version computes on the CPU; it only finds GPUs", ""};
  }
  const std::string driver = f.nvidia_driver.empty() ? "no driver" : "driver " + f.nvidia_driver;
  if (!f.nvidia_device) return {"GPU", State::good, "none on the bus; " + driver, "", ""};
  return {"GPU", State::note, fmt::format("one is on the bus, {}; {}", driver, f.gpu.problem), "this version computes on the CPU", ""};
}

Finding uring(const Facts& f) {
  if (f.uring_error == 0) return {"io_uring", State::good, "works", "", ""};
  Finding out{"io_uring", State::slow, fmt::format("refused: {}", std::strerror(f.uring_error)), "", ""};
  const std::string instead = "weights that stream are read by threads in pread() instead, which takes more of the cores; ";
  if (f.uring_error == ENOSYS) {
    out.advice = instead + "Linux 5.6 or later has it";
  } else if (f.uring_disabled > 0) {
    out.value += fmt::format(" (sysctl kernel.io_uring_disabled is {})", f.uring_disabled);
    out.advice = instead + "as root:";
    out.command = "sysctl -w kernel.io_uring_disabled=0";
  } else {
    if (f.seccomp) out.value += " (this process runs under a seccomp filter)";
    out.advice = instead + "a profile that allows io_uring_setup, io_uring_enter and io_uring_register, or none:";
    out.command = "docker run --security-opt seccomp=unconfined ..";
  }
  return out;
}

Finding memory(const Facts& f) {
  Finding out{"memory", State::good, fmt::format("{}, {} available", format_bytes(f.memory), format_bytes(f.available)), "", ""};
  if (f.cgroup_memory && *f.cgroup_memory < f.memory) {
    out.state = State::note;
    out.value += fmt::format("; the cgroup ({}) allows {}", f.cgroup_version, format_bytes(*f.cgroup_memory));
    out.advice = "weights and KV pages stay within 80 % of what it leaves; where it may be more:";
    out.command = f.cgroup_version == "v2" ? "systemctl set-property UNIT MemoryMax=SIZE  (or docker update --memory SIZE CONTAINER)"
                                           : "docker update --memory SIZE CONTAINER";
  }
  return out;
}

Finding huge_pages(const Facts& f) {
  if (f.huge_pages == "always" || f.huge_pages == "madvise") return {"huge pages", State::good, "transparent, " + f.huge_pages, "", ""};
  if (f.huge_pages.empty())
    return {"huge pages", State::slow, "this kernel has no transparent ones", "weights and KV pages lie in pages of 4 KiB", ""};
  return {"huge pages", State::slow, "transparent, " + f.huge_pages,
          "weights and KV pages lie in pages of 4 KiB; as root:", "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"};
}

Finding locks(const Facts& f) {
  Finding out{"locked memory", State::good, limit_text(f.locked_memory) + " (RLIMIT_MEMLOCK)", "", ""};
  if (f.locked_memory && *f.locked_memory < kLeastLocked) {
    out.state = State::note;
    out.advice = "slots that weights stream through may not be registered with io_uring: each read then pins its memory anew";
    out.command = "ulimit -l unlimited  (or LimitMEMLOCK=infinity of the service, --ulimit memlock=-1 of the container)";
  }
  return out;
}

Finding overcommit(const Facts& f) {
  if (f.overcommit != 2) return {"overcommit", State::good, fmt::format("vm.overcommit_memory is {}", f.overcommit), "", ""};
  return {"overcommit", State::note, "vm.overcommit_memory is 2",
          "memory that is reserved and never touched counts, so a run may be refused what it would not use:", "sysctl -w vm.overcommit_memory=0"};
}

Finding numa(const Facts& f) {
  if (f.numa_nodes <= 1) return {"NUMA", State::good, "one node", "", ""};
  return {"NUMA", State::note, fmt::format("{} nodes", f.numa_nodes),
          "memory lies where it was touched first; spread over all nodes:", "numactl --interleave=all moegen run-batch .."};
}

Finding files(const Facts& f) {
  const auto count = [](const Limit& limit) { return limit ? fmt::format("{}", *limit) : "no limit"; };
  Finding out{"open files", State::good, fmt::format("{}, at most {}", count(f.open_files), count(f.most_open_files)), "", ""};
  if (f.open_files && *f.open_files < kLeastFiles) {
    out.state = State::note;
    out.advice = "a large checkpoint has hundreds of files, each open twice:";
    out.command = "ulimit -n 4096";
  }
  return out;
}

Finding file_system(const Facts& f) {
  const Mount& m = *f.mount;
  Finding out{"file system", State::good, fmt::format("{}: {} on {}{}", f.directory.string(), m.type, m.source, m.read_only ? ", read-only" : ""), "",
              ""};
  const bool slow = f.ssd && f.ssd->read_bandwidth && *f.ssd->read_bandwidth < kSlowStorage;  // virtual disks often say that they rotate
  if (m.rotates.value_or(false) && slow) {
    out.state = State::slow;
    out.advice = "a disk that rotates: keep models of which parts stream on an SSD";
  } else if (m.type.starts_with("nfs") || m.type == "cifs" || m.type.starts_with("fuse") || m.type == "9p" || m.type == "virtiofs") {
    out.state = State::note;
    out.advice = "a file system behind a network or another program: models of which parts stream are better on a local SSD";
  }
  return out;
}

Finding storage(const Facts& f) {
  const Machine::Ssd& ssd = *f.ssd;
  if (!ssd.read_bandwidth) return {"storage", State::note, "no rate: " + ssd.note, "", ""};
  Finding out{"storage", State::good, fmt::format("{:.2f} GB/s of reads past the page cache", *ssd.read_bandwidth * 1e-9), "", ""};
  if (!ssd.note.empty()) out.value += " (" + ssd.note + ")";
  if (*ssd.read_bandwidth < kSlowStorage) {
    out.state = State::note;
    out.advice =
        "weights that do not fit are read at this rate in every pass: an NVMe drive gives several times as much, and more --host-memory needs fewer "
        "reads";
  }
  return out;
}

Finding unread_storage() {
  return {"storage", State::note, "not read: no directory was given",
          "how fast the file system of a model is read, past the page cache:", "moegen doctor -m DIR"};
}

Finding rates(const Facts& f) {
  if (!f.rates->empty()) return {"rates", State::good, *f.rates, "", ""};
  return {"rates", State::note, "how fast this machine runs the model's steps is not measured yet",
          "plans and durations come from it; half a minute, once:", fmt::format("moegen bench machine -m {}", f.directory.string())};
}

}  // namespace

std::string_view name_of(Finding::State state) {
  switch (state) {
    case State::good:
      return "good";
    case State::note:
      return "note";
    case State::slow:
      return "slow";
  }
  return "";
}

std::vector<Finding> findings(const Facts& f) {
  std::vector<Finding> out{cpu(f),    matrix_unit(f), cores(f), clock(f),      gpu(f),  uring(f),
                           memory(f), huge_pages(f),  locks(f), overcommit(f), numa(f), files(f)};
  if (f.mount) out.push_back(file_system(f));
  out.push_back(f.ssd ? storage(f) : unread_storage());
  if (f.rates) out.push_back(rates(f));
  return out;
}

}  // namespace moegen
