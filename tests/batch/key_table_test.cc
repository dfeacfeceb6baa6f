#include "batch/key_table.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <string>

#include "tests/support/errors.h"

namespace moegen {
namespace {

// Far beyond what stays in memory, with keys that collide in their low bits, against a map.
TEST(KeyTable, KnowsWhatAMapKnows) {
  std::mt19937_64 random(1);
  KeyTable table(std::filesystem::temp_directory_path());
  std::map<uint64_t, KeyTable::Entry> map;
  const auto key = [](uint64_t i) { return Key{i, i % 7 == 0 ? i & 0xffff : i * 0x9e3779b97f4a7c15U}; };
  for (int i = 0; i < 120'000; ++i) {
    const uint64_t id = random() % 60'000;
    const KeyTable::Entry entry = table.find(key(id));
    ASSERT_EQ(entry.seen, map[id].seen);
    ASSERT_EQ(entry.answered, map[id].answered);
    const KeyTable::Entry more{static_cast<uint32_t>(random() % 2), random() % 3 == 0};
    const KeyTable::Entry before = table.add(key(id), more);
    ASSERT_EQ(before.seen, entry.seen);
    ASSERT_EQ(before.answered, entry.answered);
    map[id] = {entry.seen + more.seen, entry.answered || more.answered};
  }
  for (uint64_t id = 60'000; id < 61'000; ++id) ASSERT_EQ(table.find(key(id)).seen, 0U);
}

TEST(KeyTable, SaysWhereItCannotMakeItsFile) {
  KeyTable table("/no/such/folder");
  const Error error = error_of([&] {
    for (uint64_t i = 0; i < 100'000; ++i) table.add({i, i}, {.seen = 1});
  });
  EXPECT_EQ(error.code(), ErrorCode::io);
  EXPECT_NE(std::string(error.what()).find("/no/such/folder"), std::string::npos);
}

}  // namespace
}  // namespace moegen
