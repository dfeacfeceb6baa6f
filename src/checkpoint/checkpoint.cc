#include "checkpoint/checkpoint.h"

#include <algorithm>
#include <set>

#include "base/checked.h"
#include "base/error.h"
#include "base/json.h"
#include "spec/config.h"
#include "spec/families.h"

namespace moegen {
namespace {

namespace fs = std::filesystem;

// A vector that the checkpoint has as a matrix of one row.
bool is_row(const std::vector<int64_t>& have, const std::vector<int64_t>& want) {
  return want.size() == 1 && have.size() == 2 && have[0] == 1 && have[1] == want[0];
}

constexpr uint64_t kMaxConfigBytes = 16 << 20;
constexpr uint64_t kMaxIndexBytes = 512 << 20;

// Unlike the one-argument fs::exists() this throws nothing: a loop of links or a directory without permission is "not there".
bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

void check_directory(const fs::path& dir) {
  std::error_code ignored;
  if (!fs::is_directory(dir, ignored)) {
    throw_error(ErrorCode::not_found, "{}: no such directory (a Hugging Face checkpoint directory is expected)", dir.string());
  }
}

Config load_config(const fs::path& path) {
  const std::string text = read_text_file(path, kMaxConfigBytes);
  return {parse_json(text, path.string()), path.string()};
}

// What else a person may have put where safetensors belong: said by name, so that they know what to convert.
std::string other_weights(const fs::path& dir) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(dir, ignored)) {
    const fs::path ext = entry.path().extension();
    const std::string name = entry.path().filename().string();
    if (ext == ".bin" || ext == ".pt" || ext == ".pth" || ext == ".ckpt" || ext == ".pkl") {
      return name + " is a pickle file, which can run code when it is read, and is refused: convert the checkpoint to safetensors";
    }
    if (ext == ".gguf") return name + " is a GGUF file, which is not supported: take the safetensors of the original repository";
  }
  return "expected model.safetensors or model.safetensors.index.json";
}

// weight_map's values are file names from a stranger: one path component, of the right kind.
void check_shard_name(const fs::path& index, const std::string& name) {
  const bool plain =
      name.find('/') == std::string::npos && name.find('\0') == std::string::npos && name.size() < 256 && name.ends_with(".safetensors");
  if (!plain || name.starts_with('.')) {
    throw_error(ErrorCode::corrupt, "{}: weight_map names the file {:?}: expected the plain name of a .safetensors file beside it", index.string(),
                name);
  }
}

std::string text_of(const std::vector<int64_t>& shape) { return fmt::format("[{}]", fmt::join(shape, ",")); }

bool is_plain(DType dtype) { return dtype == DType::bf16 || dtype == DType::f16 || dtype == DType::f32; }

// Why a tensor of the right shape cannot be used, or "".
std::string wrong_dtype(const TensorSpec& want, DType have) {
  if (want.file_dtype) {
    if (have == *want.file_dtype) return "";
    return fmt::format("dtype {}, expected {}, as quantization_config has it", name_of(have), name_of(*want.file_dtype));
  }
  if (is_plain(have) || (have == DType::f8_e4m3 && want.quantised == DType::f8_e4m3)) return "";
  if (have == DType::f8_e4m3) return "dtype F8_E4M3, but config.json has no quantization_config that says so of it (BF16, F16, F32 need none)";
  return fmt::format("dtype {} is not supported here (BF16, F16, F32 are{})", name_of(have), want.quantised == DType::f8_e4m3 ? ", and F8_E4M3" : "");
}

// What of a tensor of the right shape is the spec's, in the type in which it is used.
TensorInfo part_of(const TensorSpec& spec, TensorInfo tensor) {
  if (spec.file_dtype) tensor.dtype = *spec.quantised;
  if (spec.slice < 0) return tensor;
  tensor.bytes /= static_cast<uint64_t>(spec.file_shape[0]);
  tensor.offset += static_cast<uint64_t>(spec.slice) * tensor.bytes;
  tensor.shape.erase(tensor.shape.begin());
  return tensor;
}

// What is wrong with a tensor, or "".
std::string misfit(const TensorSpec& want, const TensorInfo& have) {
  if (have.shape != want.file_shape && !is_row(have.shape, want.file_shape))
    return fmt::format("expected {}, found {}", text_of(want.file_shape), text_of(have.shape));
  return wrong_dtype(want, have.dtype);
}

// The scales of a tensor in F8_E4M3, found or not: a grid of blocks, or one for each row or for all.
const TensorInfo* bind_scales(const TensorSpec& want, const Checkpoint& checkpoint, Binding& out) {
  const bool blocks = want.block_rows > 1;
  // DeepSeek's name and compressed-tensors'; whatever it is called, a code is multiplied by it.
  const TensorInfo* have = checkpoint.find(want.name + "_scale_inv");
  if (have == nullptr) have = checkpoint.find(want.name + "_scale");
  const std::vector<int64_t> shape{ceil_div(want.shape[0], want.block_rows), ceil_div(want.shape[1], want.group)};
  if (have == nullptr) {
    out.missing.push_back(
        fmt::format("{}{} {}, the scales of {}, which is F8_E4M3", want.name, blocks ? "_scale_inv" : "_scale", text_of(shape), want.name));
    return have;
  }
  const bool flat = !blocks && (have->shape.empty() || have->shape == std::vector<int64_t>{1} || have->shape == std::vector<int64_t>{shape[0]});
  if (have->shape != shape && !flat) {
    out.misshapen.push_back(fmt::format("{}: expected {}, found {}", have->name, text_of(shape), text_of(have->shape)));
  } else if (!is_plain(have->dtype)) {
    out.misshapen.push_back(fmt::format("{}: dtype {} is not supported for scales (F32, BF16, F16 are)", have->name, name_of(have->dtype)));
  }
  return have;
}

// The group of each input of a matrix, which is to be that of its neighbours; null where there is none.
const TensorInfo* bind_order(const TensorSpec& want, const Checkpoint& checkpoint, Binding& out) {
  if (!want.order_beside) return nullptr;
  const TensorInfo* have = checkpoint.find(want.name.substr(0, want.name.rfind('.')) + ".g_idx");
  if (have != nullptr && (have->dtype != DType::i32 || have->shape != std::vector<int64_t>{want.shape[1]})) {
    out.misshapen.push_back(fmt::format("{}: expected I32 [{}], found {} {}", have->name, want.shape[1], name_of(have->dtype), text_of(have->shape)));
  }
  return have;
}

}  // namespace

ModelSpec load_spec(const fs::path& dir_or_config, std::optional<int64_t> max_model_len) {
  if (fs::is_regular_file(dir_or_config)) return read_spec(load_config(dir_or_config), max_model_len);
  check_directory(dir_or_config);
  return read_spec(load_config(dir_or_config / "config.json"), max_model_len);
}

GenerationDefaults load_generation_defaults(const fs::path& dir, bool whole) {
  GenerationDefaults out;
  const fs::path path = dir / "generation_config.json";
  if (!is_there(path)) return out;
  const Config c = load_config(path);
  for (const int64_t id : c.integers("eos_token_id", 0, 1 << 24)) out.eos_ids.push_back(static_cast<int32_t>(id));
  if (!whole) return out;
  const auto number = [&](std::string_view field, double low, double high) {
    return c.has(field) ? std::optional(c.number(field, low, high)) : std::nullopt;
  };
  out.temperature = number("temperature", 0, 1e6);
  out.top_p = number("top_p", 0, 1);
  out.min_p = number("min_p", 0, 1);
  out.repetition_penalty = number("repetition_penalty", 1e-6, 1e6);
  if (c.has("top_k")) out.top_k = c.integer("top_k", -1, int64_t{1} << 31);
  if (c.has("max_new_tokens")) out.max_new_tokens = c.integer("max_new_tokens", 1, int64_t{1} << 31);
  return out;
}

void Checkpoint::add_file(const fs::path& path) {
  files_.emplace_back(path);
  for (TensorInfo& info : read_safetensors_header(files_.back(), files_.size() - 1)) {
    const auto [it, fresh] = by_name_.emplace(info.name, tensors_.size());
    if (!fresh) {
      throw_error(ErrorCode::corrupt, "{}: tensor {} is also in {}", path.string(), info.name, files_[tensors_[it->second].file_idx].path().string());
    }
    tensors_.push_back(std::move(info));
  }
}

Checkpoint Checkpoint::open(const fs::path& dir) {
  check_directory(dir);
  Checkpoint out;
  const fs::path single = dir / "model.safetensors";
  const fs::path index = dir / "model.safetensors.index.json";
  if (is_there(single)) {  // before the index, as transformers does
    out.add_file(single);
    return out;
  }
  if (!is_there(index)) throw_error(ErrorCode::not_found, "{}: no weights: {}", dir.string(), other_weights(dir));
  const std::string text = read_text_file(index, kMaxIndexBytes);
  const nlohmann::json json = parse_json(text, index.string(), {.max_depth = 4, .unique_keys = true});
  if (!json.is_object() || !json.contains("weight_map") || !json["weight_map"].is_object()) {
    throw_error(ErrorCode::corrupt, "{}: weight_map: expected an object from tensor to file name", index.string());
  }
  std::set<std::string> shards;
  for (const auto& [name, file] : json["weight_map"].items()) {
    if (!file.is_string()) throw_error(ErrorCode::corrupt, "{}: weight_map: {}: expected a file name", index.string(), name);
    check_shard_name(index, file.get_ref<const std::string&>());
    shards.insert(file.get<std::string>());
  }
  for (const std::string& shard : shards) out.add_file(dir / shard);
  for (const auto& [name, file] : json["weight_map"].items()) {
    const TensorInfo* info = out.find(name);
    if (info == nullptr || out.files_[info->file_idx].path().filename() != file.get_ref<const std::string&>()) {
      throw_error(ErrorCode::corrupt, "{}: tensor {} should be in {}, but is not", index.string(), name, file.get<std::string>());
    }
  }
  return out;
}

const TensorInfo* Checkpoint::find(const std::string& name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : &tensors_[it->second];
}

namespace {

// Experts in one tensor, or each in its own where that is what the checkpoint has.
std::vector<TensorSpec> table_for(const ModelSpec& spec, const Checkpoint& checkpoint) {
  const auto find = [&](const std::string& name) {
    const TensorInfo* info = checkpoint.find(name);
    return info == nullptr ? std::nullopt : std::optional(info->dtype);
  };
  std::vector<TensorSpec> table = tensor_table(spec, false, find);
  const auto sliced = std::find_if(table.begin(), table.end(), [](const TensorSpec& t) { return t.slice >= 0; });
  if (sliced == table.end() || !spec.quantisation.none() || spec.layers[static_cast<size_t>(sliced->layer)].mlp.bias ||
      checkpoint.find(sliced->name) != nullptr)
    return table;
  std::vector<TensorSpec> split = tensor_table(spec, true, find);
  const bool there =
      std::any_of(split.begin(), split.end(), [&](const TensorSpec& t) { return t.expert == 0 && checkpoint.find(t.name) != nullptr; });
  return there ? split : table;
}

// Whether what a checkpoint has in the place of a tied head is another matrix than the embedding, as far as samples tell.
bool is_another_head(const ModelSpec& spec, const Binding& binding, const TensorInfo& tensor, const Checkpoint& checkpoint) {
  constexpr uint64_t kSamples = 64, kSampleBytes = 4096;
  if (!spec.tied_embeddings || common_name(spec, tensor.name) != "lm_head.weight") return false;
  const auto embedding = std::find_if(binding.table.begin(), binding.table.end(), [](const TensorSpec& t) { return t.role == Role::embedding; });
  const auto& have = binding.tensors[static_cast<size_t>(embedding - binding.table.begin())];
  if (!have || have->dtype != tensor.dtype || have->bytes != tensor.bytes) return false;
  const uint64_t bytes = std::min(kSampleBytes, tensor.bytes);
  const auto sample = [&](const TensorInfo& of, uint64_t at) {
    std::string out(bytes, '\0');
    checkpoint.files()[of.file_idx].read(of.offset + at, out.data(), bytes);
    return out;
  };
  for (uint64_t i = 0; i < kSamples; ++i) {
    const uint64_t at = (tensor.bytes - bytes) * i / (kSamples - 1);
    if (sample(*have, at) != sample(tensor, at)) return true;
  }
  return false;
}

// What older writers of GPTQ put beside every quantised layer (AutoGPTQ, issue 555).
bool is_zero_bias(const TensorInfo& tensor, const Checkpoint& checkpoint) {
  constexpr std::string_view kEnd = ".bias";
  constexpr uint64_t kMostBytes = uint64_t{1} << 20;
  if (!tensor.name.ends_with(kEnd) || tensor.bytes > kMostBytes) return false;
  if (checkpoint.find(tensor.name.substr(0, tensor.name.size() - kEnd.size()) + ".qweight") == nullptr) return false;
  std::string bytes(tensor.bytes, '\1');
  checkpoint.files()[tensor.file_idx].read(tensor.offset, bytes.data(), bytes.size());
  return bytes.find_first_not_of('\0') == std::string::npos;
}

}  // namespace

Binding bind(const ModelSpec& spec, const Checkpoint& checkpoint) {
  Binding out;
  out.table = table_for(spec, checkpoint);
  std::set<std::string_view> wanted;
  for (const TensorSpec& want : out.table) {
    wanted.insert(want.name);
    const TensorInfo* have = checkpoint.find(want.name);
    const std::string wrong = have == nullptr ? "" : misfit(want, *have);
    out.tensors.push_back(have == nullptr ? std::nullopt : std::optional(wrong.empty() ? part_of(want, *have) : *have));
    const TensorInfo* scales = nullptr;
    if (have == nullptr && want.slice <= 0) out.missing.push_back(fmt::format("{} {}", want.name, text_of(want.file_shape)));
    if (!wrong.empty() && want.slice <= 0) out.misshapen.push_back(want.name + ": " + wrong);
    if (have != nullptr && have->dtype == DType::f8_e4m3 && want.quantised == DType::f8_e4m3) scales = bind_scales(want, checkpoint, out);
    const TensorInfo* order = bind_order(want, checkpoint, out);
    if (scales != nullptr) wanted.insert(scales->name);
    if (order != nullptr) wanted.insert(order->name);
    out.scales.push_back(scales);
    out.orders.push_back(order);
  }
  for (const TensorInfo& have : checkpoint.tensors()) {
    if (wanted.contains(have.name)) continue;
    if (is_another_head(spec, out, have, checkpoint)) {
      out.superfluous.push_back(have.name +
                                ", which is not the embedding, though config.json says \"tie_word_embeddings\": true; programs differ in which "
                                "of the two they take: say false to use it, or leave it out");
    } else if (const std::string_view why = reason_to_skip(spec, have.name); !why.empty()) {
      out.skipped.emplace_back(have.name, why);
    } else if (have.bytes == 0 && have.name.find(".shared_expert") != std::string::npos) {  // n_shared_experts 0, as transformers saves that
      out.skipped.emplace_back(have.name, "empty");
    } else if (is_zero_bias(have, checkpoint)) {
      out.skipped.emplace_back(have.name, "zeros, which add nothing");
    } else {
      out.superfluous.push_back(have.name);
    }
  }
  return out;
}

std::vector<SkippedKind> skipped_kinds(const Binding& binding) {
  std::vector<SkippedKind> out;
  for (const auto& [name, why] : binding.skipped) {
    auto kind = std::find_if(out.begin(), out.end(), [&why = why](const SkippedKind& k) { return k.why == why; });
    if (kind == out.end()) kind = out.insert(out.end(), {why, name, 0});
    ++kind->count;
  }
  return out;
}

uint64_t bytes_in_memory(const TensorSpec& spec, const TensorInfo& tensor) { return bytes_of(tensor.dtype, elements_of(spec)); }

void check_fits(const Binding& binding, const fs::path& dir) {
  if (binding.fits()) return;
  std::string text = fmt::format("{}: the weights do not fit config.json", dir.string());
  const auto add = [&](std::string_view what, const std::vector<std::string>& lines) {
    constexpr size_t kMaxLines = 200;  // of each kind: enough to see the pattern
    if (!lines.empty()) text += fmt::format("\n{} {}:", lines.size(), what);
    for (size_t i = 0; i < std::min(lines.size(), kMaxLines); ++i) text += "\n  " + lines[i];
    if (lines.size() > kMaxLines) text += fmt::format("\n  and {} more", lines.size() - kMaxLines);
  };
  add("missing", binding.missing);
  add("superfluous", binding.superfluous);
  add("of the wrong shape or type", binding.misshapen);
  const auto is_code = [](const std::string& name) {
    return name.ends_with(".qweight") || name.ends_with(".weight_packed") || name.ends_with(".weight_scale") || name.ends_with(".weight_scale_2");
  };
  if (std::any_of(binding.superfluous.begin(), binding.superfluous.end(), is_code)) {
    text += "\nThe weights are quantised in a way that config.json does not say: its quantization_config is what counts";
    for (const char* name : {"quantize_config.json", "hf_quant_config.json", "quant_config.json"}) {
      if (is_there(dir / name)) text += fmt::format("; {} is not read: what it says belongs there", name);
    }
  }
  throw Error(ErrorCode::corrupt, text);
}

}  // namespace moegen
