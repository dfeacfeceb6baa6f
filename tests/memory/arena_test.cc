#include "memory/arena.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <utility>
#include <vector>

#include "tests/support/errors.h"

namespace moegen {
namespace {

// What a random program takes, laid out in any arena.
std::vector<std::pair<std::byte*, size_t>> take_all(Arena& arena, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::pair<std::byte*, size_t>> out;
  for (int i = 0; i < 200; ++i) {
    const auto count = static_cast<int64_t>(random() % 300);
    switch (random() % 3) {
      case 0:
        out.emplace_back(reinterpret_cast<std::byte*>(arena.take<double>(count)), static_cast<size_t>(count) * sizeof(double));
        break;
      case 1:
        out.emplace_back(reinterpret_cast<std::byte*>(arena.take<char>(count)), static_cast<size_t>(count));
        break;
      default:
        out.emplace_back(arena.take_bytes(static_cast<size_t>(count)), static_cast<size_t>(count));
    }
  }
  return out;
}

TEST(Arena, MeasuringGivesExactlyWhatTheRealOneNeeds) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    Arena measure;
    for (const auto& [p, bytes] : take_all(measure, seed)) ASSERT_EQ(p, nullptr);
    Arena real(measure.used(), "test");
    take_all(real, seed);
    EXPECT_EQ(real.used(), measure.used());
  }
}

TEST(ArenaDeathTest, OneByteLessIsNotEnough) {
  Arena measure;
  take_all(measure, 1);
  Arena real(measure.used() - 64, "test");
  EXPECT_DEATH(take_all(real, 1), "used_ <= memory_");
}

TEST(Arena, PiecesAreZeroAlignedAndApart) {
  Arena measure;
  take_all(measure, 7);
  Arena real(measure.used(), "test");
  const auto pieces = take_all(real, 7);
  for (size_t i = 0; i < pieces.size(); ++i) {
    const auto [p, bytes] = pieces[i];
    EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % 64, 0U);
    EXPECT_TRUE(std::all_of(p, p + bytes, [](std::byte b) { return b == std::byte{0}; })) << "piece " << i << " was written through another";
    std::memset(p, 0xff, bytes);
  }
}

TEST(MappedMemory, WhatNoMachineHasIsAnErrorThatNamesThePurpose) {
  EXPECT_ERROR(MappedMemory(size_t{1} << 62, "the weights"), ErrorCode::out_of_memory, "the weights");
}

TEST(MappedMemory, MovingLeavesNothingBehind) {
  MappedMemory a(100, "test");
  a.data()[99] = std::byte{7};
  MappedMemory b(std::move(a));
  EXPECT_EQ(b.data()[99], std::byte{7});
  MappedMemory c;
  c = std::move(b);
  EXPECT_EQ(c.data()[99], std::byte{7});
  EXPECT_EQ(c.size(), 100U);
}

TEST(AvailableHostMemory, IsSomethingAndNotMoreThanAnyMachineHas) {
  EXPECT_GT(available_host_memory(), size_t{1} << 20);
  EXPECT_LT(available_host_memory(), size_t{1} << 50);
}

TEST(Arena, OneOverTheOtherTakesAsMuchAsTheLongest) {
  const auto lay = [](Arena& arena) {
    std::vector<std::byte*> at{arena.take_bytes(100)};
    const size_t shared = arena.at();
    at.push_back(arena.take_bytes(1000));
    arena.rewind(shared);
    at.push_back(arena.take_bytes(64));
    at.push_back(arena.take_bytes(64));
    arena.skip();
    at.push_back(arena.take_bytes(1));
    return at;
  };
  Arena measure;
  lay(measure);
  EXPECT_EQ(measure.used(), 128U + 1024 + 64);
  Arena arena(measure.used(), "test");
  const auto at = lay(arena);
  EXPECT_EQ(at[1], at[2]);
  EXPECT_EQ(at[3], at[2] + 64);
  EXPECT_EQ(at[4], at[1] + 1024);
}

}  // namespace
}  // namespace moegen
