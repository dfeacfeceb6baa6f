// model.safetensors.index.json, beside two shards with the tensors a and b.
#include "base/error.h"
#include "checkpoint/checkpoint.h"
#include "tests/checkpoint/safetensors_writer.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/temp_model.h"

namespace moegen::testing {
namespace {

void write_shards(const TempModel& model) {
  for (const std::string name : {"a", "b"}) {
    SafetensorsWriter shard;
    shard.add(name, DType::f32, {2, 2});
    model.write(name + ".safetensors", shard.file());
  }
}

}  // namespace

void fuzz_one(std::string_view input) {
  static const TempModel model;
  static const bool once = (write_shards(model), true);
  static_cast<void>(once);
  model.write("model.safetensors.index.json", input);
  try {
    const Checkpoint checkpoint = Checkpoint::open(model.dir());
    require(checkpoint.files().size() <= 2, "there are two shards");
    for (const FileReader& file : checkpoint.files()) require(file.path().parent_path() == model.dir(), "shards lie beside their index");
    for (const TensorInfo& tensor : checkpoint.tensors()) require(tensor.name == "a" || tensor.name == "b", "tensors are those of the shards");
  } catch (const Error& error) {
    require(std::string_view(error.what()).find(".safetensors") != std::string_view::npos, "an error names the file");
  }
}

}  // namespace moegen::testing
