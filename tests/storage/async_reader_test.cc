#include "storage/async_reader.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/file.h"
#include "tests/support/temp_dir.h"

namespace moegen {
namespace {

constexpr unsigned kDepth = 4;

std::string numbered(size_t bytes) {
  std::string out(bytes, '\0');
  for (size_t i = 0; i < bytes; ++i) out[i] = static_cast<char>(i / 4096 * 31 + i % 251);
  return out;
}

struct Kind {
  const char* name;
  std::unique_ptr<AsyncReader> (*open)(std::span<const std::span<std::byte>> buffers);
};

// What holds of any reader.
class AsyncReaderTest : public ::testing::TestWithParam<Kind> {
 protected:
  AsyncReaderTest()
      : content_(numbered(100'000)), file_(dir_.write("f", content_)), memory_(static_cast<std::byte*>(std::aligned_alloc(4096, 1 << 16))) {
    const std::span<std::byte> all(memory_, 1 << 16);
    reader_ = GetParam().open(std::span(&all, 1));
  }
  ~AsyncReaderTest() override {
    reader_.reset();
    std::free(memory_);
  }
  void SetUp() override {
    if (!reader_) GTEST_SKIP() << "this system refuses " << GetParam().name;
  }

  std::vector<ReadResult> wait_for(size_t count) {
    std::vector<ReadResult> out;
    while (out.size() < count) {
      ReadResult some[kDepth];
      const size_t got = reader_->wait(some);
      EXPECT_GT(got, 0U);
      out.insert(out.end(), some, some + got);
    }
    return out;
  }

  TempDir dir_;
  std::string content_;
  FileReader file_;
  std::byte* memory_;
  std::unique_ptr<AsyncReader> reader_;
};

INSTANTIATE_TEST_SUITE_P(Readers, AsyncReaderTest,
                         ::testing::Values(Kind{"io_uring", [](auto buffers) { return open_uring_reader(kDepth, buffers); }},
                                           Kind{"io_uring_unregistered", [](auto) { return open_uring_reader(kDepth, {}); }},
                                           Kind{"threads", [](auto) { return open_pread_reader(kDepth); }},
                                           Kind{"best", [](auto buffers) { return open_async_reader(kDepth, buffers); }}),
                         [](const auto& p) { return std::string(p.param.name); });

TEST_P(AsyncReaderTest, BringsTheBytesAskedForAgainAndAgain) {
  for (uint64_t round = 0; round < 50; ++round) {
    for (uint32_t i = 0; i < kDepth; ++i) reader_->submit({file_.descriptor(), round * 1000 + i * 7, memory_ + i * 8192, 5000, i, 0});
    for (const ReadResult& r : wait_for(kDepth)) {
      ASSERT_EQ(r.bytes, 5000);
      const std::string got(reinterpret_cast<const char*>(memory_ + r.tag * 8192), 5000);
      ASSERT_EQ(got, content_.substr(round * 1000 + r.tag * 7, 5000));
    }
  }
}

TEST_P(AsyncReaderTest, SaysHowManyBytesCameAtTheEnd) {
  reader_->submit({file_.descriptor(), content_.size() - 10, memory_, 4096, 1, 0});
  EXPECT_EQ(wait_for(1)[0].bytes, 10);
  reader_->submit({file_.descriptor(), content_.size() + 10, memory_, 4096, 1, 0});
  EXPECT_EQ(wait_for(1)[0].bytes, 0);
}

TEST_P(AsyncReaderTest, AnErrorIsAResult) {
  reader_->submit({-1, 0, memory_, 4096, 3, 0});
  const ReadResult r = wait_for(1)[0];
  EXPECT_EQ(r.tag, 3U);
  EXPECT_EQ(r.bytes, -EBADF);
}

TEST_P(AsyncReaderTest, EndsWithReadsUnderWay) {
  for (uint32_t i = 0; i < kDepth; ++i) reader_->submit({file_.descriptor(), 0, memory_ + i * 8192, 8192, i, 0});
}

}  // namespace
}  // namespace moegen
