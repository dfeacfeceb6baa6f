#include "memory/mapped_memory.h"

#include <gtest/gtest.h>
#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstring>

namespace moegen {
namespace {

// The policy of the page there, or -1 where the system knows none.
int policy_of(const void* memory) {
  int mode = -1;
  return ::syscall(SYS_get_mempolicy, &mode, nullptr, 0UL, memory, static_cast<unsigned long>(MPOL_F_ADDR)) == 0 ? mode : -1;
}

TEST(MappedMemory, LiesOnTheNumaNodeThatIsPreferred) {
  const MappedMemory before(4096, "a test");
  if (policy_of(before.data()) < 0) GTEST_SKIP() << "no NUMA policies here: " << std::strerror(errno);
  unsigned long nodes[16] = {};
  ::syscall(SYS_get_mempolicy, nullptr, nodes, 8 * sizeof(nodes), nullptr, static_cast<unsigned long>(MPOL_F_MEMS_ALLOWED));
  if (nodes[0] == 0) GTEST_SKIP() << "none of the first 64 NUMA nodes is allowed here";
  prefer_numa_node(std::countr_zero(nodes[0]));
  const MappedMemory here(1 << 20, "a test");
  prefer_numa_node(-1);
  const MappedMemory behind(4096, "a test");
  EXPECT_EQ(policy_of(here.data()), MPOL_PREFERRED);
  EXPECT_EQ(policy_of(before.data()), MPOL_DEFAULT);
  EXPECT_EQ(policy_of(behind.data()), MPOL_DEFAULT);
}

// It is a hint.
TEST(MappedMemory, ANodeThatIsNotThereIsNoError) {
  prefer_numa_node(900);
  const MappedMemory memory(4096, "a test");
  prefer_numa_node(-1);
  std::memset(memory.data(), 1, memory.size());
}

}  // namespace
}  // namespace moegen
