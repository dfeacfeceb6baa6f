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
    KeyTable::Entry entry = table.find(key(id));
    ASSERT_EQ(entry.seen, map[id].seen);
    ASSERT_EQ(entry.answered, map[id].answered);
    entry.seen += static_cast<uint32_t>(random() % 2);
    entry.answered = entry.answered || random() % 3 == 0;
    if (entry.seen == 0 && !entry.answered) entry.seen = 1;
    table.set(key(id), entry);
    map[id] = entry;
  }
  for (uint64_t id = 60'000; id < 61'000; ++id) ASSERT_EQ(table.find(key(id)).seen, 0U);
}

TEST(KeyTable, SaysWhereItCannotMakeItsFile) {
  KeyTable table("/no/such/folder");
  const Error error = error_of([&] {
    for (uint64_t i = 0; i < 100'000; ++i) table.set({i, i}, {.seen = 1});
  });
  EXPECT_EQ(error.code(), ErrorCode::io);
  EXPECT_NE(std::string(error.what()).find("/no/such/folder"), std::string::npos);
}

}  // namespace
}  // namespace moegen
