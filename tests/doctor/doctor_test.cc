#include "moegen/doctor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "doctor/findings.h"
#include "tests/support/errors.h"
#include "tests/support/temp_dir.h"

namespace moegen {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// A made-up /proc and /sys.
class DoctorTest : public ::testing::Test {
 protected:
  void put(const std::string& path, const std::string& text) { temp_.write(path, text); }
  TempDir temp_;
  const std::filesystem::path& dir = temp_.path();

  static Finding find(const Facts& facts, const std::string& name) {
    for (const Finding& f : findings(facts)) {
      if (f.name == name) return f;
    }
    ADD_FAILURE() << name;
    return {};
  }
  // A machine without fault.
  static Facts good() {
    Facts f;
    f.cpu.v3 = true;
    f.paths = {"avx2", "reference"};
    f.usable_cores = 4;
    f.online_cpus = 8;
    f.memory = uint64_t{64} << 30;
    f.huge_pages = "madvise";
    f.ssd = Machine::Ssd{0, 3e9, {}, 1, 1, ""};
    return f;
  }
};

TEST_F(DoctorTest, ReadsCgroupsOfBothVersionsWithThoseAbove) {
  put("proc/self/cgroup", "0::/a/b\n");
  put("sys/fs/cgroup/a/memory.max", "8589934592\n");
  put("sys/fs/cgroup/a/b/memory.max", "max\n");
  put("sys/fs/cgroup/a/b/cpu.max", "150000 100000\n");
  const Facts v2 = read_files(dir);
  EXPECT_EQ(v2.cgroup_version, "v2");
  EXPECT_EQ(v2.cgroup_memory, uint64_t{8} << 30);
  EXPECT_EQ(v2.cgroup_cores, 1.5);
  put("proc/self/cgroup", "9:memory:/x\n4:cpu,cpuacct:/x\n0::/a\n");
  put("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "1073741824\n");
  put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  put("sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "200000\n");
  put("sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000\n");
  const Facts v1 = read_files(dir);
  EXPECT_EQ(v1.cgroup_version, "v1");
  EXPECT_EQ(v1.cgroup_memory, uint64_t{1} << 30);
  EXPECT_EQ(v1.cgroup_cores, 2);
}

TEST_F(DoctorTest, ReadsSettingsAndDevices) {
  put("proc/meminfo", "MemTotal:       1024 kB\nMemAvailable:    512 kB\n");
  put("sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n");
  put("proc/sys/kernel/io_uring_disabled", "2\n");
  put("proc/self/status", "Name:\tx\nSeccomp:\t2\n");
  put("sys/devices/system/node/node0/x", "");
  put("sys/devices/system/node/node1/x", "");
  put("sys/devices/system/node/possible", "0-1");
  put("sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n");
  put("sys/bus/pci/devices/0000:01:00.0/class", "0x030200\n");
  put("proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun\n");
  const Facts f = read_files(dir);
  EXPECT_EQ(f.memory, 1 << 20);
  EXPECT_EQ(f.available, 1 << 19);
  EXPECT_EQ(f.huge_pages, "never");
  EXPECT_EQ(f.uring_disabled, 2);
  EXPECT_TRUE(f.seccomp);
  EXPECT_EQ(f.numa_nodes, 2);
  EXPECT_TRUE(f.nvidia_device);
  EXPECT_EQ(f.nvidia_driver, "580.65.06");
}

TEST_F(DoctorTest, TheMountThatADirectoryIsOn) {
  put("sys/dev/block/8:1/x", "");
  put("sys/dev/block/queue/rotational", "1\n");
  const std::string info =
      "1 0 0:1 / / rw - overlay overlay rw\n"
      "2 1 8:1 / /data ro,relatime shared:1 - ext4 /dev/sda1 rw\n"
      "3 1 0:9 / /database rw - nfs4 host:/x rw\n";
  const auto data = mount_of(info, "/data/models", dir);
  ASSERT_TRUE(data);
  EXPECT_EQ(data->type, "ext4");
  EXPECT_TRUE(data->read_only);
  EXPECT_EQ(data->rotates, true);
  EXPECT_EQ(mount_of(info, "/database", dir)->type, "nfs4");
  EXPECT_EQ(mount_of(info, "/datab", dir)->type, "overlay");
  EXPECT_FALSE(mount_of("", "/x", dir));
}

TEST_F(DoctorTest, WhatIsWrongIsSaidWithTheCommand) {
  for (const Finding& f : findings(good())) EXPECT_EQ(f.state, Finding::State::good) << f.name;
  Facts f = good();
  f.cpu.amx_on_cpu = true;
  f.huge_pages = "never";
  f.uring_error = EPERM;
  f.uring_disabled = 2;
  f.locked_memory = 8 << 20;
  f.open_files = 256;
  f.overcommit = 2;
  f.numa_nodes = 2;
  f.governor = "powersave";
  f.cgroup_version = "v2";
  f.cgroup_memory = uint64_t{8} << 30;
  f.cgroup_cores = 2;
  f.usable_cores = 2;
  f.directory = "/m";
  f.mount = Mount{"ext4", "/dev/sda1", false, true};
  f.ssd = Machine::Ssd{0, 2e8, {}, 1, 1, ""};
  f.rates = "";
  EXPECT_THAT(find(f, "AMX").value, HasSubstr("refuses"));
  EXPECT_THAT(find(f, "huge pages").command, HasSubstr("transparent_hugepage/enabled"));
  EXPECT_THAT(find(f, "io_uring").command, HasSubstr("kernel.io_uring_disabled=0"));
  EXPECT_THAT(find(f, "locked memory").command, HasSubstr("ulimit -l"));
  EXPECT_THAT(find(f, "open files").command, HasSubstr("ulimit -n"));
  EXPECT_THAT(find(f, "overcommit").command, HasSubstr("vm.overcommit_memory=0"));
  EXPECT_THAT(find(f, "NUMA").command, HasSubstr("numactl"));
  EXPECT_THAT(find(f, "clock").command, HasSubstr("cpupower"));
  EXPECT_THAT(find(f, "memory").value, HasSubstr("the cgroup (v2) allows 8.0 GiB"));
  EXPECT_THAT(find(f, "cores").value, HasSubstr("allows 2.0"));
  EXPECT_EQ(find(f, "file system").state, Finding::State::slow);
  EXPECT_EQ(find(f, "storage").state, Finding::State::note);
  f.ssd->read_bandwidth.reset();
  EXPECT_EQ(find(f, "file system").state, Finding::State::good) << "nothing is known of it";
  f.ssd.reset();
  EXPECT_THAT(find(f, "storage").command, HasSubstr("moegen doctor -m")) << "without a directory";
  f.ssd = Machine::Ssd{0, 1.7e9, {}, 1, 1, ""};
  EXPECT_EQ(find(f, "file system").state, Finding::State::good) << "what was measured counts, not what a virtual disk says of itself";
  EXPECT_THAT(find(f, "rates").command, HasSubstr("moegen bench machine -m /m"));
  f.uring_disabled = 0;
  f.seccomp = true;
  EXPECT_THAT(find(f, "io_uring").value, HasSubstr("seccomp"));
  f.uring_error = ENOSYS;
  EXPECT_THAT(find(f, "io_uring").advice, HasSubstr("Linux 5.6"));
}

TEST_F(DoctorTest, ThisMachine) {
  std::ostringstream text;
  doctor("", false, text);
  EXPECT_THAT(text.str(), AllOf(HasSubstr("CPU"), HasSubstr("io_uring"), HasSubstr("huge pages"), HasSubstr("open files")));
  std::ostringstream json;
  doctor(dir, true, json);
  const auto j = nlohmann::json::parse(json.str());
  std::set<std::string> names;
  for (const auto& f : j["findings"]) names.insert(f["name"]);
  EXPECT_TRUE(names.count("storage") == 1 && names.count("file system") == 1);
  EXPECT_ERROR((doctor("/no/such", false, text), 0), ErrorCode::not_found, "no such directory");
}

}  // namespace
}  // namespace moegen
