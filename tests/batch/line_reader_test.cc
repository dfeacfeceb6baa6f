#include "batch/line_reader.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <csignal>
#include <thread>

#include "moegen/error.h"
#include "tests/batch/scripted_engine.h"

namespace moegen::testing {
namespace {

// Gives at most `step` bytes at once.
class Drip : public ByteSource {
 public:
  Drip(std::string text, size_t step) : text_(std::move(text)), step_(step) {}
  size_t read(char* to, size_t bytes) override {
    const size_t n = text_.copy(to, std::min(bytes, step_), at_);
    at_ += n;
    return n;
  }
  [[nodiscard]] bool ready() const override { return at_ < text_.size(); }

 private:
  std::string text_;
  size_t step_;
  size_t at_ = 0;
};

std::string gzip(const std::string& text) {
  z_stream stream{};
  ::deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string out(text.size() + 1000, '\0');
  std::string in = text;
  stream.next_in = reinterpret_cast<Bytef*>(in.data());
  stream.avail_in = static_cast<uInt>(in.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  ::deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  ::deflateEnd(&stream);
  return out;
}

std::string zstd(const std::string& text) {
  std::string out(::ZSTD_compressBound(text.size()), '\0');
  out.resize(::ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

using Lines = std::vector<std::pair<int64_t, std::string>>;

Lines lines_of(const std::string& bytes, size_t step, size_t max_line = 1000) {
  LineReader reader(decompressed(std::make_unique<Drip>(bytes, step), "test"), max_line);
  Lines lines;
  for (Line line; reader.next(line);) lines.emplace_back(line.number, (line.too_long ? "too long: " : "") + std::string(line.text));
  return lines;
}

TEST(LineReader, EveryFormatWithBordersEverywhere) {
  const std::string text = "\xef\xbb\xbf{\"a\":1}\r\n\n \t\r\n  two  \n\xef\xbb\xbfthree\nlast";
  const Lines expected = {{1, "{\"a\":1}"}, {4, "two"}, {5, "\xef\xbb\xbfthree"}, {6, "last"}};
  const std::string half = text.substr(0, 20);
  const std::string rest = text.substr(20);
  for (size_t step = 1; step < 80; ++step) {
    EXPECT_EQ(lines_of(text, step), expected) << step;
    EXPECT_EQ(lines_of(gzip(text), step), expected) << step;
    EXPECT_EQ(lines_of(zstd(text), step), expected) << step;
    EXPECT_EQ(lines_of(gzip(half) + gzip(rest), step), expected) << step;  // members and frames one after the other
    EXPECT_EQ(lines_of(zstd(half) + zstd(rest), step), expected) << step;
  }
}

TEST(LineReader, NothingInIt) {
  for (const std::string& text : {std::string(), std::string("\n"), std::string("\n\n  \n"), gzip(""), zstd("")})
    EXPECT_TRUE(lines_of(text, 1).empty());
}

TEST(LineReader, LongLinesAreCutAndTheNextIsWhole) {
  const std::string text = std::string(10, 'x') + "\n" + std::string(5000, 'y') + "\nafter\n" + std::string(11, 'z');
  const Lines expected = {
      {1, std::string(10, 'x')}, {2, "too long: " + std::string(10, 'y')}, {3, "after"}, {4, "too long: " + std::string(10, 'z')}};
  for (const size_t step : {1, 2, 7, 11, 12, 100, 10000}) EXPECT_EQ(lines_of(text, step, 10), expected) << step;
}

TEST(LineReader, OffsetsAndCompleteness) {
  LineReader reader(std::make_unique<Drip>("ab\n\ncd\nef", 2));
  Line line;
  ASSERT_TRUE(reader.next(line));
  EXPECT_EQ(std::make_pair(line.begin, line.end), std::make_pair(int64_t{0}, int64_t{3}));
  ASSERT_TRUE(reader.next(line));
  EXPECT_EQ(std::make_pair(line.begin, line.end), std::make_pair(int64_t{4}, int64_t{7}));
  EXPECT_TRUE(line.complete);
  ASSERT_TRUE(reader.next(line));
  EXPECT_EQ(line.end, 9);
  EXPECT_FALSE(line.complete);
}

TEST(LineReader, LargeInputs) {
  std::string text;
  for (int i = 0; i < 200'000; ++i) text += fmt::format("line {}", i) + "\n";
  for (const std::string& bytes : {text, zstd(text)}) {
    const Lines lines = lines_of(bytes, 1 << 20);
    ASSERT_EQ(lines.size(), 200'000U);
    EXPECT_EQ(lines.back().second, "line 199999");
  }
}

TEST(LineReader, BrokenCompressionIsAnError) {
  const std::string text(1000, 'a');
  for (const std::string& bytes : {gzip(text), zstd(text)}) {
    EXPECT_THROW(lines_of(bytes.substr(0, bytes.size() - 3), 1), Error);
    std::string broken = bytes;
    broken[broken.size() / 2] = static_cast<char>(broken[broken.size() / 2] ^ 0x55);
    EXPECT_THROW(lines_of(broken + "\x01", 1), Error);
  }
}

// All that was written is given without waiting, whatever of it lies in which buffer on the way.
TEST(LineReader, IsReadyWhileThereIsSomethingToGive) {
  std::string text;
  for (int i = 0; i < 3000; ++i) text += fmt::format("{{\"line\": {}}}\n", i);
  for (const std::string& bytes : {text, gzip(text), zstd(text)}) {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    ASSERT_EQ(::write(ends[1], bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
    std::atomic<bool> stop{false};
    LineReader reader(decompressed(descriptor_source(ends[0], "pipe", stop), "pipe"));
    int lines = 0;
    for (Line line; lines < 3000 && reader.ready() && reader.next(line);) ++lines;
    EXPECT_EQ(lines, 3000);
    EXPECT_FALSE(reader.ready());
    ::close(ends[1]);
    EXPECT_TRUE(reader.ready()) << "to say that this is the end";
    Line line;
    EXPECT_FALSE(reader.next(line));
  }
}

TEST(LineReader, AQuietPipeEndsWhenStopped) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  std::atomic<bool> stop{false};
  LineReader reader(descriptor_source(ends[0], "pipe", stop));
  ASSERT_EQ(::write(ends[1], "one\n", 4), 4);
  Line line;
  ASSERT_TRUE(reader.next(line));
  EXPECT_EQ(line.text, "one");
  std::signal(SIGUSR1, [](int) {});
  std::thread stopper([&stop, reading = ::pthread_self()] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    stop = true;
    ::pthread_kill(reading, SIGUSR1);  // as SIGTERM would: the system call ends early
  });
  EXPECT_FALSE(reader.next(line));
  stopper.join();
  ::close(ends[1]);
}

// While sequences run, nobody waits for the rest of a line.
TEST(LineReader, IsReadyForWholeLinesOnly) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const std::atomic<bool> never{false};
  LineReader reader(descriptor_source(ends[0], "a pipe", never), 100);
  const auto put = [&](const std::string& text) { ASSERT_EQ(::write(ends[1], text.data(), text.size()), static_cast<ssize_t>(text.size())); };
  EXPECT_FALSE(reader.ready());
  put("{\"half\":");
  EXPECT_FALSE(reader.ready());
  put("1}\n{\"next");
  EXPECT_TRUE(reader.ready());
  Line line;
  ASSERT_TRUE(reader.next(line));
  EXPECT_EQ(line.text, "{\"half\":1}");
  EXPECT_FALSE(reader.ready());
  put(std::string(200, 'x'));
  EXPECT_TRUE(reader.ready()) << "too long, whatever follows";
  ::close(ends[1]);
  ASSERT_TRUE(reader.next(line));
  EXPECT_TRUE(line.too_long);
  EXPECT_TRUE(reader.ready()) << "the end";
  EXPECT_FALSE(reader.next(line));
}

}  // namespace
}  // namespace moegen::testing
