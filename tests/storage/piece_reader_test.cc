#include "storage/piece_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <random>
#include <thread>

#include "tests/support/errors.h"
#include "tests/support/fault_reader.h"
#include "tests/support/temp_dir.h"
#include "tests/support/test_clock.h"

namespace moegen {
namespace {

constexpr uint64_t kBlock = kReadAlignment;

class PieceReaderTest : public ::testing::Test {
 protected:
  PieceReaderTest() : memory_(static_cast<std::byte*>(std::aligned_alloc(kBlock, 64 * kBlock))) {
    content_.resize(40 * kBlock + 777);
    std::mt19937 random(1);
    for (char& c : content_) c = static_cast<char>(random());
    files_.emplace_back(dir_.write("weights.safetensors", content_));
  }
  ~PieceReaderTest() override { std::free(memory_); }

  PieceReader reader(FaultReader::Spoil spoil) { return {files_, std::make_unique<FaultReader>(open_async_reader(3, {}), std::move(spoil)), 3}; }

  // The whole file in pieces of `blocks`.
  std::string read_all(PieceReader& reader, uint64_t blocks) {
    for (uint64_t at = 0; at < content_.size(); at += blocks * kBlock) {
      while (reader.full()) reader.wait();
      const uint64_t needed = std::min(blocks * kBlock, content_.size() - at);
      reader.begin({0, at, memory_ + at, static_cast<uint32_t>(blocks * kBlock), static_cast<uint32_t>(needed), 0});
    }
    while (!reader.idle()) reader.wait();
    return {reinterpret_cast<const char*>(memory_), content_.size()};
  }

  TempDir dir_;
  std::string content_;
  std::vector<FileReader> files_;
  std::byte* memory_;
};

TEST_F(PieceReaderTest, ReadsToTheUnalignedEndOfTheFile) {
  for (const uint64_t blocks : {1, 3, 16, 64}) {
    PieceReader r = reader([](const ReadRequest&, ReadResult&) {});
    ASSERT_TRUE(read_all(r, blocks) == content_);
    EXPECT_EQ(r.bytes_read(), content_.size());
    EXPECT_GT(r.busy_seconds(), 0);
  }
}

TEST_F(PieceReaderTest, BusySecondsAreThoseOfTheClock) {
  TestClock clock;
  int reads = 0;
  PieceReader r = reader([&](const ReadRequest&, ReadResult&) {
    ++reads;
    clock.go_on(std::chrono::seconds(3));
  });
  EXPECT_TRUE(read_all(r, 16) == content_);
  clock.go_on(std::chrono::hours(1));  // nothing is read
  EXPECT_GE(reads, 3);
  EXPECT_DOUBLE_EQ(r.busy_seconds(), 3.0 * reads);
}

TEST_F(PieceReaderTest, ShortInterruptedAndSlowReadsGoOn) {
  std::mt19937 random(2);
  int faults = 0;
  PieceReader r = reader([&](const ReadRequest&, ReadResult& result) {
    faults += 1;
    switch (random() % 5) {
      case 0:
        result.bytes = std::min<int64_t>(result.bytes, static_cast<int64_t>(kBlock * (random() % 4) + random() % kBlock + 1));
        break;
      case 1:
        result.bytes = random() % 2 == 0 ? -EINTR : -EAGAIN;
        break;
      case 2:
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        break;
      default:
        faults -= 1;
    }
  });
  for (int i = 0; i < 20; ++i) {
    std::memset(memory_, 0, content_.size());
    try {
      ASSERT_TRUE(read_all(r, 7) == content_);
    } catch (const Error& e) {  // twice less than a block came, by chance
      EXPECT_THAT(e.what(), ::testing::HasSubstr("the file ends there"));
      return;
    }
  }
  EXPECT_GT(faults, 20);
}

TEST_F(PieceReaderTest, AnErrorNamesFileOffsetAndCause) {
  PieceReader r = reader([](const ReadRequest& request, ReadResult& result) {
    if (request.offset == 14 * kBlock) result.bytes = -EIO;
  });
  const std::string text = error_of([&] { read_all(r, 7); }).what();
  EXPECT_THAT(text, ::testing::HasSubstr("weights.safetensors: reading 28672 bytes at offset 57344: Input/output error"));
}

TEST_F(PieceReaderTest, AFileThatWasCutOffIsAnError) {
  PieceReader r = reader([](const ReadRequest&, ReadResult&) {});
  std::filesystem::resize_file(dir_.path() / "weights.safetensors", 10 * kBlock + 5);
  EXPECT_ERROR(read_all(r, 7), ErrorCode::io, "the file ends there");
}

// A file system may take O_DIRECT when it opens and refuse it when it reads.
TEST_F(PieceReaderTest, DirectReadsThatAreRefusedGoThroughThePageCache) {
  if (!DirectFile(files_[0]).direct()) GTEST_SKIP() << "no direct reads on this file system";
  int refused = 0;
  const int direct_descriptors = files_[0].descriptor();
  PieceReader r = reader([&](const ReadRequest& request, ReadResult& result) {
    if (request.fd == direct_descriptors) return;
    result.bytes = -EINVAL;
    ++refused;
  });
  EXPECT_TRUE(read_all(r, 7) == content_);
  EXPECT_GT(refused, 0);
  EXPECT_LE(refused, 3) << "those under way at once, then no more";
}

TEST_F(PieceReaderTest, InvalidThroughThePageCacheIsAnError) {
  PieceReader r = reader([&](const ReadRequest&, ReadResult& result) { result.bytes = -EINVAL; });
  EXPECT_ERROR(read_all(r, 7), ErrorCode::io, "Invalid argument");
}

}  // namespace
}  // namespace moegen
