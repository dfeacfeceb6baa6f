#include "engine/swap_file.h"

#include <gtest/gtest.h>
#include <sys/mount.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <numeric>

#include "tests/support/temp_dir.h"

namespace moegen {
namespace {

// Memory without a model: 100 pages of 1,000 bytes, 4 states of 300.
class Memory : public PassRunner {
 public:
  Memory() : pages_(100'000), states_(1'200) {
    std::iota(pages_.begin(), pages_.end(), 0);
    std::iota(states_.begin(), states_.end(), 0);
    for (auto* bytes : {&pages_, &states_}) {
      for (size_t i = 0; i < bytes->size(); ++i) (*bytes)[i] ^= static_cast<uint8_t>(i / 251 * 31);
    }
  }
  void run(const Pass& /*pass*/, LogitsConsumer& /*consumer*/) override {}
  std::span<std::byte> kv_page(int32_t page) override {
    return std::as_writable_bytes(std::span(pages_).subspan(static_cast<size_t>(page) * 1000, 1000));
  }
  std::span<std::byte> state(int32_t number) override {
    return std::as_writable_bytes(std::span(states_).subspan(static_cast<size_t>(number) * 300, 300));
  }

  std::vector<uint8_t> of(const Sequence& s) {
    std::vector<uint8_t> out;
    const auto add = [&](std::span<std::byte> bytes) {
      for (const std::byte b : bytes) out.push_back(std::to_integer<uint8_t>(b));
    };
    for (const int32_t page : s.pages) {
      if (page >= 0) add(kv_page(page));
    }
    if (s.state >= 0) add(state(s.state));
    return out;
  }

 private:
  std::vector<uint8_t> pages_, states_;
};

const KvLayout kKv = [] {
  KvLayout kv;
  kv.page_bytes = 1000;
  kv.state_floats = 75;
  return kv;
}();

Sequence holding(std::vector<int32_t> pages, int32_t state) {
  Sequence s;
  s.pages = std::move(pages);
  s.state = state;
  return s;
}

TEST(SwapFile, BringsBackInReverseIntoOtherPages) {
  const TempDir dir;
  Memory memory;
  SwapFile swap(memory, kKv, dir.path(), 1 << 20);
  const Sequence a = holding({3, -1, 7, 1}, 0), b = holding({9, 8}, -1);
  const auto of_a = memory.of(a), of_b = memory.of(b);
  ASSERT_TRUE(swap.keep(a));
  ASSERT_TRUE(swap.keep(b));
  EXPECT_EQ(swap.bytes(), 3300U + 2000U);
  const Sequence new_b = holding({3, 50}, -1), new_a = holding({60, -1, 9, 8}, 2);
  ASSERT_TRUE(swap.bring_back(new_b));
  EXPECT_EQ(memory.of(new_b), of_b);
  ASSERT_TRUE(swap.bring_back(new_a));
  EXPECT_EQ(memory.of(new_a), of_a);
  EXPECT_EQ(swap.bytes(), 0U);
}

TEST(SwapFile, WhatIsDroppedLeavesRoom) {
  const TempDir dir;
  Memory memory;
  SwapFile swap(memory, kKv, dir.path(), 3000);
  const Sequence a = holding({1}, -1), b = holding({2, 3}, -1), c = holding({4, 5}, -1);
  ASSERT_TRUE(swap.keep(a));
  ASSERT_TRUE(swap.keep(b));
  EXPECT_FALSE(swap.keep(c));
  swap.drop();
  const auto of_c = memory.of(c), of_a = memory.of(a);
  ASSERT_TRUE(swap.keep(c));
  ASSERT_TRUE(swap.bring_back(holding({70, 71}, -1)));
  EXPECT_EQ(memory.of(holding({70, 71}, -1)), of_c);
  ASSERT_TRUE(swap.bring_back(holding({80}, -1)));
  EXPECT_EQ(memory.of(holding({80}, -1)), of_a);
}

// Of its own accord it keeps what takes longer to be computed again.
TEST(SwapFile, KeepsWhatPays) {
  const TempDir dir;
  Memory memory;
  SwapFile swap(memory, kKv, dir.path(), {});
  if (SwapFile::most_bytes(dir.path(), {}) == 0) GTEST_SKIP() << dir.path() << " is in memory";
  Sequence s = holding({1, 2}, 0);
  s.computed = 64;
  EXPECT_FALSE(swap.keep(s)) << "nothing is known to take time";
  swap.set_token_seconds(1e-6);
  EXPECT_FALSE(swap.keep(s));
  swap.set_token_seconds(10);
  ASSERT_TRUE(swap.keep(s));
  EXPECT_TRUE(swap.bring_back(s));
  EXPECT_GT(swap.seconds(), 0);
}

TEST(SwapFile, AFolderThatIsNotThereKeepsNothing) {
  Memory memory;
  for (const auto most : {std::optional<uint64_t>(), std::optional<uint64_t>(1 << 20)}) {
    SwapFile swap(memory, kKv, "/no/such/folder", most);
    EXPECT_FALSE(swap.keep(holding({1}, 0)));
    EXPECT_EQ(swap.bytes(), 0U);
  }
}

// What was kept before stays, and answers find room.
TEST(SwapFile, AFullDiskKeepsNoMore) {
  const TempDir dir;
  if (::mount("none", dir.path().c_str(), "tmpfs", 0, "size=64k") != 0) GTEST_SKIP() << "may not mount a small file system: " << std::strerror(errno);
  {
    Memory memory;
    SwapFile swap(memory, kKv, dir.path(), 1 << 20);
    const Sequence s = holding({1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 1);
    const auto of_s = memory.of(s);
    int kept = 0;
    while (swap.keep(s)) ++kept;
    EXPECT_TRUE(kept >= 2 && kept <= 3) << kept << ": as much stays free";
    std::ofstream(dir.path() / "answers") << std::string(20'000, 'a') << std::flush;
    EXPECT_EQ(std::filesystem::file_size(dir.path() / "answers"), 20'000U);
    EXPECT_EQ(swap.bytes(), static_cast<uint64_t>(kept) * 10'300);
    for (; kept > 0; --kept) {
      const Sequence other = holding({21, 22, 23, 24, 25, 26, 27, 28, 29, 30}, 2);
      ASSERT_TRUE(swap.bring_back(other));
      EXPECT_EQ(memory.of(other), of_s);
    }
  }
  ::umount2(dir.path().c_str(), MNT_DETACH);
}

TEST(SwapFile, MemoryIsNoDiskUnlessItIsAskedFor) {
  if (!std::filesystem::exists("/dev/shm")) GTEST_SKIP() << "no /dev/shm";
  Memory memory;
  SwapFile swap(memory, kKv, "/dev/shm", {});
  EXPECT_FALSE(swap.keep(holding({1}, 0)));
  SwapFile asked(memory, kKv, "/dev/shm", 10'000);
  EXPECT_TRUE(asked.keep(holding({1}, 0)));
  EXPECT_EQ(SwapFile::most_bytes("/dev/shm", {}), 0U);
  EXPECT_EQ(SwapFile::most_bytes("/dev/shm", 1), 1U);
  EXPECT_EQ(SwapFile::most_bytes("/no/such/folder", 1), 0U);
}

}  // namespace
}  // namespace moegen
