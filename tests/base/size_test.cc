#include "base/size.h"

#include <gtest/gtest.h>

#include "tests/support/errors.h"

namespace moegen {
namespace {

constexpr uint64_t kGiB = uint64_t{1} << 30;

TEST(ParseSize, UnitsAreBinaryInCapitalsAndDecimalInSmallLetters) {
  EXPECT_EQ(parse_size("4096"), 4096U);
  EXPECT_EQ(parse_size("7B"), 7U);
  EXPECT_EQ(parse_size("512MiB"), 512U << 20);
  EXPECT_EQ(parse_size("24GB"), 24 * kGiB);
  EXPECT_EQ(parse_size("8G"), 8 * kGiB);
  EXPECT_EQ(parse_size("2g"), 2'000'000'000U);
  EXPECT_EQ(parse_size("3kb"), 3000U);
  EXPECT_EQ(parse_size("1TiB"), kGiB << 10);
  EXPECT_EQ(parse_size("1.5 GiB"), kGiB * 3 / 2);
}

TEST(ParseSize, ZeroIsASizeButAWrongUnitIsNot) {
  EXPECT_EQ(parse_size("0"), 0U);
  EXPECT_EQ(parse_size("0GB"), 0U);
  EXPECT_ERROR(parse_size("0foo"), ErrorCode::invalid_argument, "0foo");
  EXPECT_ERROR(parse_size("0x10"), ErrorCode::invalid_argument, "0x10");
}

TEST(ParseSize, RefusesWhatIsNoSize) {
  for (const char* text : {"", " ", "GB", "-1", "-1GB", "nan", "inf", "infGB", "12XB", "12GBB", "12 G B", "1,5G", "12GiBs", "1P", "1e400"}) {
    EXPECT_ERROR(parse_size(text), ErrorCode::invalid_argument, "is no size");
  }
}

TEST(ParseSize, RefusesWhatDoesNotFit) {
  EXPECT_EQ(parse_size("8388607TiB"), uint64_t{8388607} << 40);
  EXPECT_ERROR(parse_size("8388608TiB"), ErrorCode::invalid_argument, "must fit");
  EXPECT_ERROR(parse_size("1e30"), ErrorCode::invalid_argument, "must fit");
}

TEST(ParseCount, KnowsBothThousandsAndRefusesTheRest) {
  EXPECT_EQ(parse_count("32768"), 32768);
  EXPECT_EQ(parse_count("32k"), 32000);
  EXPECT_EQ(parse_count("32K"), 32768);
  EXPECT_ERROR(parse_count("-5"), ErrorCode::invalid_argument, "-5");
  EXPECT_ERROR(parse_count("9007199254740992"), ErrorCode::invalid_argument, "must fit");
}

TEST(FormatBytes, ChangesTheUnitAtItsBorder) {
  EXPECT_EQ(format_bytes(0), "0 bytes");
  EXPECT_EQ(format_bytes(1023), "1023 bytes");
  EXPECT_EQ(format_bytes(1024), "1.0 KiB");
  EXPECT_EQ(format_bytes(kGiB * 52 / 10), "5.2 GiB");
  EXPECT_EQ(format_bytes(kGiB << 20), "1024.0 TiB") << "there is no larger unit";
}

}  // namespace
}  // namespace moegen
