// The entry that libFuzzer's main calls.
#include <cstddef>
#include <cstdint>

#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {  // NOLINT(readability-identifier-naming)
  moegen::testing::fuzz_one({reinterpret_cast<const char*>(data), size});
  return 0;
}
