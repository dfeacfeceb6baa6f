#include "base/file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <string>

#include "tests/support/errors.h"
#include "tests/support/temp_dir.h"

namespace moegen {
namespace {

TEST(FileReader, ReadsAnyRange) {
  const TempDir dir;
  const FileReader file(dir.write("a", "0123456789"));
  std::string text(4, ' ');
  file.read(3, text.data(), 4);
  EXPECT_EQ(text, "3456");
  file.read(10, text.data(), 0);
  EXPECT_EQ(file.size(), 10U);
}

TEST(FileReader, AFileThatEndsTooEarlyIsAnErrorNotZeros) {
  const TempDir dir;
  const FileReader file(dir.write("a", "0123456789"));
  char buffer[8] = {};
  EXPECT_ERROR(file.read(5, buffer, 6), ErrorCode::io, "ends at offset 10");
  EXPECT_ERROR(file.read(uint64_t{1} << 40, buffer, 1), ErrorCode::io, "ends at offset");
}

TEST(FileReader, AFileCutOffWhileOpenIsAnError) {
  const TempDir dir;
  const auto path = dir.write("a", std::string(100, 'x'));
  const FileReader file(path);
  std::filesystem::resize_file(path, 50);
  char buffer[100] = {};
  EXPECT_ERROR(file.read(0, buffer, 100), ErrorCode::io, "changed while in use");
}

TEST(FileReader, SaysWhatIsWrongWithAPath) {
  const TempDir dir;
  EXPECT_ERROR(FileReader(dir.path() / "none"), ErrorCode::not_found, "none");
  EXPECT_ERROR(FileReader(dir.path()), ErrorCode::io, "not a regular file");
  EXPECT_ERROR(FileReader(dir.write("plain", "") / "below"), ErrorCode::io, "below");
}

TEST(FileReader, APipeIsRefusedWithoutWaitingForAWriter) {
  const TempDir dir;
  const auto path = dir.path() / "pipe";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  EXPECT_ERROR(FileReader(path), ErrorCode::io, "not a regular file");
}

TEST(FileReader, MovingHandsOverTheDescriptor) {
  const TempDir dir;
  FileReader first(dir.write("a", "abc"));
  const FileReader second(std::move(first));
  char c = 0;
  second.read(2, &c, 1);
  EXPECT_EQ(c, 'c');
}

TEST(ReadTextFile, RefusesLargeFilesBeforeReadingThem) {
  const TempDir dir;
  const auto path = dir.write("a", "12345");
  EXPECT_EQ(read_text_file(path, 5), "12345");
  EXPECT_ERROR(read_text_file(path, 4), ErrorCode::corrupt, "5 bytes, more than the 4");
  std::filesystem::resize_file(path, uint64_t{1} << 40);  // sparse: reading it would not end
  EXPECT_ERROR(read_text_file(path, 1 << 20), ErrorCode::corrupt, "more than");
}

}  // namespace
}  // namespace moegen
