// A safetensors file: eight bytes of length, the header, data.
#include "checkpoint/safetensors.h"

#include "base/error.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/temp_model.h"

namespace moegen::testing {

void fuzz_one(std::string_view input) {
  static const TempModel model;
  const FileReader file(model.write("model.safetensors", input));
  try {
    uint64_t bytes = 0;
    for (const TensorInfo& tensor : read_safetensors_header(file, 0)) {
      require(tensor.offset >= 8 && tensor.offset <= file.size() && tensor.bytes <= file.size() - tensor.offset, "a tensor lies within the file");
      std::string data(tensor.bytes, '\0');
      file.read(tensor.offset, data.data(), data.size());
      bytes += tensor.bytes;
    }
    require(bytes < file.size(), "tensors do not overlap");
  } catch (const Error& error) {
    require(error.code() == ErrorCode::corrupt, "what is wrong is the file");
    require(std::string_view(error.what()).find("model.safetensors") != std::string_view::npos, "an error names the file");
  }
}

}  // namespace moegen::testing
