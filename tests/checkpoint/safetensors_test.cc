#include "checkpoint/safetensors.h"

#include <gtest/gtest.h>

#include <map>

#include "tests/checkpoint/safetensors_writer.h"
#include "tests/support/errors.h"
#include "tests/support/temp_dir.h"

namespace moegen {
namespace {

using nlohmann::json;

std::vector<TensorInfo> read(const std::string& content) {
  const TempDir dir;
  return read_safetensors_header(FileReader(dir.write("m.safetensors", content)), 3);
}

SafetensorsWriter two_tensors() {
  SafetensorsWriter w;
  w.add("first", DType::f32, {2, 3});
  w.add("second", DType::bf16, {5});
  return w;
}

#define EXPECT_CORRUPT(content, part)                                 \
  do {                                                                \
    EXPECT_ERROR(read(content), ErrorCode::corrupt, part);            \
    EXPECT_ERROR(read(content), ErrorCode::corrupt, "m.safetensors"); \
  } while (false)

TEST(Safetensors, ReadsNamesShapesAndPlaces) {
  const SafetensorsWriter w = two_tensors();
  const auto tensors = read(w.file());
  ASSERT_EQ(tensors.size(), 2U);
  const uint64_t begin = 8 + w.header.dump().size();
  EXPECT_EQ(tensors[0].name, "first");
  EXPECT_EQ(tensors[0].dtype, DType::f32);
  EXPECT_EQ(tensors[0].shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(tensors[0].offset, begin);
  EXPECT_EQ(tensors[0].bytes, 24U);
  EXPECT_EQ(tensors[1].offset, begin + 24);
  EXPECT_EQ(tensors[1].file_idx, 3U);
}

TEST(Safetensors, MetadataScalarsAndEmptyTensorsAreFine) {
  SafetensorsWriter w;
  w.header["__metadata__"] = {{"format", "pt"}};
  w.add("empty", DType::f32, {0, 7});
  w.add("scalar", DType::i64, {});
  w.add("zero", DType::bf16, {0});
  const auto tensors = read(w.file());
  std::map<std::string, uint64_t> bytes;
  for (const TensorInfo& t : tensors) bytes[t.name] = t.bytes;
  EXPECT_EQ(bytes, (std::map<std::string, uint64_t>{{"empty", 0}, {"scalar", 8}, {"zero", 0}}));
  EXPECT_TRUE(read(SafetensorsWriter{}.file()).empty());
}

TEST(Safetensors, SubByteTypesCountBits) {
  SafetensorsWriter w;
  w.add("f4", DType::f4, {3, 2}, "abc");
  w.add("f6", DType::f6_e2m3, {4}, "xyz");
  EXPECT_EQ(read(w.file())[0].bytes, 3U);
  SafetensorsWriter odd;
  odd.add("f4", DType::f4, {3}, "ab");
  EXPECT_CORRUPT(odd.file(), "do not fit dtype F4");
}

TEST(SafetensorsCorrupt, ShorterThanTheLengthField) {
  EXPECT_CORRUPT("", "too short");
  EXPECT_CORRUPT("1234567", "7 bytes: too short");
}

TEST(SafetensorsCorrupt, HeaderLengthBeyondTheCap) {
  EXPECT_CORRUPT(SafetensorsWriter::file(100'000'001, "{}"), "at most 100000000 are allowed");
  EXPECT_CORRUPT(SafetensorsWriter::file(~uint64_t{0}, "{}"), "are allowed");
  EXPECT_CORRUPT("PK\x03\x04 a zip file, as pickles are", "is this a safetensors file?");
}

TEST(SafetensorsCorrupt, HeaderLongerThanTheFile) {
  const std::string whole = two_tensors().file();
  EXPECT_CORRUPT(whole.substr(0, 20), "cut off?");
  EXPECT_CORRUPT(SafetensorsWriter::file(3, "{}"), "a header of 3 bytes in a file of 10");
}

TEST(SafetensorsCorrupt, HeaderThatIsNoJsonObject) {
  EXPECT_CORRUPT(SafetensorsWriter::file(0, ""), "(header)");
  EXPECT_CORRUPT(SafetensorsWriter::file(4, "oops"), "(header)");
  EXPECT_CORRUPT(SafetensorsWriter::file(2, "[]"), "no JSON object");
  EXPECT_CORRUPT(SafetensorsWriter::file(4, std::string("{}\0\0", 4)), "(header)");
}

TEST(SafetensorsCorrupt, HeaderNestedDeeply) {
  const std::string deep = R"({"a":{"dtype":"F32","shape":[[1]],"data_offsets":[0,4]}})";
  EXPECT_CORRUPT(SafetensorsWriter::file(deep.size(), deep + "1234"), "nested deeper");
  const std::string bomb(1'000'000, '[');
  EXPECT_CORRUPT(SafetensorsWriter::file(bomb.size(), bomb), "nested deeper");
}

TEST(SafetensorsCorrupt, TheSameNameTwice) {
  const std::string text = R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})";
  EXPECT_CORRUPT(SafetensorsWriter::file(text.size(), text + "12"), "\"a\" stands twice");
}

TEST(SafetensorsCorrupt, ATensorWithoutItsFields) {
  for (const char* field : {"dtype", "shape", "data_offsets"}) {
    SafetensorsWriter w = two_tensors();
    w.header["second"].erase(field);
    EXPECT_CORRUPT(w.file(), "tensor second: expected an object with dtype, shape, data_offsets");
  }
  SafetensorsWriter w = two_tensors();
  w.header["second"] = 5;
  EXPECT_CORRUPT(w.file(), "tensor second");
}

TEST(SafetensorsCorrupt, UnknownDtype) {
  for (const json& dtype : {json("F31"), json("bf16"), json(3), json(nullptr)}) {
    SafetensorsWriter w = two_tensors();
    w.header["first"]["dtype"] = dtype;
    EXPECT_CORRUPT(w.file(), "tensor first: unknown dtype");
  }
}

TEST(SafetensorsCorrupt, ShapeThatIsNoListOfSizes) {
  for (const json& shape : {json(6), json("2,3"), json({-2, -3}), json({2.0, 3.0}), json({"2", 3}), json({2, nullptr}), json(18446744073709551615U),
                            json::array({1, 1, 1, 1, 1, 1, 1, 2, 3})}) {
    SafetensorsWriter w = two_tensors();
    w.header["first"]["shape"] = shape;
    EXPECT_CORRUPT(w.file(), "tensor first: shape");
  }
}

// 2^32 * 2^32 * 4 is 0 modulo 2^64: arithmetic that wraps would accept it for no bytes at all.
TEST(SafetensorsCorrupt, ShapeWhoseSizeWrapsAround) {
  for (const json& shape : {json({uint64_t{1} << 32, uint64_t{1} << 32}), json({uint64_t{1} << 62, 4}),
                            json({uint64_t{1} << 62, uint64_t{1} << 62, uint64_t{1} << 62})}) {
    SafetensorsWriter w;
    w.add("a", DType::f32, {0});
    w.header["a"]["shape"] = shape;
    EXPECT_CORRUPT(w.file(), "tensor a: 0 bytes do not fit");
  }
}

TEST(SafetensorsCorrupt, BytesThatDoNotFitTheShape) {
  SafetensorsWriter w = two_tensors();
  w.header["first"]["shape"] = {2, 2};
  EXPECT_CORRUPT(w.file(), "tensor first: 24 bytes do not fit dtype F32 and shape [2,2]");
  SafetensorsWriter v = two_tensors();
  v.header["first"]["dtype"] = "F16";
  EXPECT_CORRUPT(v.file(), "tensor first: 24 bytes do not fit dtype F16");
}

TEST(SafetensorsCorrupt, OffsetsThatAreNoTwoNumbers) {
  for (const json& offsets : {json({0}), json({0, 24, 24}), json({-1, 23}), json({0.0, 24.0}), json({"0", "24"}), json(24), json({0, 1e30})}) {
    SafetensorsWriter w = two_tensors();
    w.header["first"]["data_offsets"] = offsets;
    EXPECT_CORRUPT(w.file(), "tensor first: data_offsets must be two offsets");
  }
}

TEST(SafetensorsCorrupt, OffsetsOutsideTheFile) {
  for (const json& offsets :
       {json({0, 35}), json({24, 0}), json({uint64_t{1} << 63, (uint64_t{1} << 63) + 24}), json({18446744073709551610U, 18446744073709551615U})}) {
    SafetensorsWriter w = two_tensors();
    w.header["first"]["data_offsets"] = offsets;
    EXPECT_CORRUPT(w.file(), "tensor first: bytes");
  }
}

TEST(SafetensorsCorrupt, TensorsThatOverlap) {
  SafetensorsWriter w = two_tensors();
  w.header["second"]["data_offsets"] = {14, 24};
  EXPECT_CORRUPT(w.file(), "tensor second begins at byte");
  SafetensorsWriter same;
  same.add("a", DType::u8, {4});
  same.header["b"] = same.header["a"];
  EXPECT_CORRUPT(same.file(), "overlap or leave a gap");
}

TEST(SafetensorsCorrupt, AGapBetweenTensors) {
  SafetensorsWriter w;
  w.add("first", DType::u8, {4});
  w.data += "....";
  w.add("second", DType::u8, {4});
  EXPECT_CORRUPT(w.file(), "tensor second begins at byte");
  SafetensorsWriter front;
  front.data = ".";
  front.add("first", DType::u8, {4});
  EXPECT_CORRUPT(front.file(), "leave a gap");
}

TEST(SafetensorsCorrupt, BytesBehindTheLastTensorOrMissingFromIt) {
  const std::string whole = two_tensors().file();
  EXPECT_CORRUPT(whole + "x", "the tensors end at byte");
  EXPECT_CORRUPT(whole.substr(0, whole.size() - 1), "are not inside the file");
}

TEST(SafetensorsCorrupt, ANameOfManyBytes) {
  SafetensorsWriter w;
  w.add(std::string(4096, 'n'), DType::u8, {1});
  EXPECT_EQ(read(w.file()).size(), 1U);
  SafetensorsWriter longer;
  longer.add(std::string(4097, 'n'), DType::u8, {1});
  EXPECT_CORRUPT(longer.file(), "a tensor name of 4097 bytes");
}

// A zero byte would end the text of every error behind it; an escape sequence would reach the terminal.
TEST(SafetensorsCorrupt, ANameWithControlCharacters) {
  for (const std::string& name : {std::string("a\0b", 3), std::string("\x1b[2Jweight"), std::string("two\nlines"), std::string("\x7f")}) {
    SafetensorsWriter w;
    w.add(name, DType::u8, {1});
    EXPECT_CORRUPT(w.file(), "has control characters");
  }
}

// Every single changed byte of a header either gives the same layout or is refused: never a crash, never a range outside.
TEST(SafetensorsCorrupt, EveryChangedByteIsRefusedOrHarmless) {
  const std::string whole = two_tensors().file();
  const TempDir dir;
  for (size_t at = 0; at < whole.size() - 34; ++at) {
    for (const char c : {'\0', '0', '9', '"', '{', ']', '\xff'}) {
      std::string changed = whole;
      changed[at] = c;
      const FileReader file(dir.write("m.safetensors", changed));
      try {
        for (const TensorInfo& t : read_safetensors_header(file, 0)) ASSERT_LE(t.offset + t.bytes, file.size());
      } catch (const Error& e) {
        ASSERT_EQ(e.code(), ErrorCode::corrupt) << e.what();
      }
    }
  }
}

}  // namespace
}  // namespace moegen
