#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "api/gpu_setup.h"
#include "api/model.h"
#include "base/key.h"
#include "checkpoint/checkpoint.h"
#include "moegen/engine.h"

namespace moegen {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxTextBytes = uint64_t{1} << 30;

// Of a small file, whole; "none" where there is none.
std::string text_setting(const fs::path& path) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return "none";
  return key_text(make_key('f', 0, read_text_file(path, kMaxTextBytes)));
}

// Of all templates in a folder; "none" where there is none.
std::string templates_setting(const fs::path& folder) {
  std::error_code ignored;
  std::set<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    if (entry.path().extension() == ".jinja") files.insert(entry.path());
  }
  std::string text;
  for (const fs::path& file : files) text += file.filename().string() + " " + text_setting(file) + "\n";
  return files.empty() ? "none" : key_text(make_key('f', 0, text));
}

// Of files that are too large to be read for this: names, shapes and places of all tensors, and what stands in the middle of some of each file,
// so that a copy elsewhere is the same, and a finetuned model of the same shapes is not.
std::string weights_setting(const Checkpoint& checkpoint) {
  constexpr size_t kSamples = 1024;
  constexpr size_t kSampleBytes = 256;
  std::string text;
  uint64_t bytes = 0;
  for (const FileReader& file : checkpoint.files()) {
    bytes += file.size();
    text += fmt::format("{} {}\n", file.path().filename().string(), file.size());
  }
  for (const TensorInfo& t : checkpoint.tensors()) text += fmt::format("{} {} {} {} {}\n", t.name, name_of(t.dtype), t.file_idx, t.offset, t.bytes);
  const std::vector<TensorInfo>& tensors = checkpoint.tensors();
  const size_t samples = std::min(kSamples, tensors.size());
  for (size_t i = 0; i < samples; ++i) {
    const TensorInfo& t = tensors[i * tensors.size() / samples];
    std::string sample(std::min<uint64_t>(kSampleBytes, t.bytes), '\0');
    checkpoint.files()[t.file_idx].read(t.offset + (t.bytes - sample.size()) / 2, sample.data(), sample.size());
    text += sample;
  }
  return fmt::format("{} files, {} bytes, {}", checkpoint.files().size(), bytes, key_text(make_key('w', 0, text)));
}

// Of a generation_config.json of which only the ids where answers end are used.
std::string end_setting(const EngineOptions& options) {
  const std::vector<int32_t> ids = load_generation_defaults(options.model, false).eos_ids;
  return ids.empty() ? "not used" : fmt::format("ends at {}", fmt::join(ids, ", "));
}

}  // namespace

RunSettings run_settings(const EngineOptions& options) {
  const ModelSpec spec = load_spec(options.model, options.max_model_len);
  const DType act = choose_act(options, spec);
  RunSettings out;
  out.emplace_back("config.json", text_setting(fs::is_directory(options.model) ? options.model / "config.json" : options.model));
  out.emplace_back("weights", options.load_format == "dummy" ? "dummy" : weights_setting(Checkpoint::open(options.model)));
  out.emplace_back("generation_config.json",
                   options.use_generation_config ? text_setting(options.model / "generation_config.json") : end_setting(options));
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja"})
    out.emplace_back(name, options.skip_tokenizer_init ? "not used" : text_setting(options.model / name));
  const std::string more = options.skip_tokenizer_init ? "none" : templates_setting(options.model / "additional_chat_templates");
  if (more != "none") out.emplace_back("additional_chat_templates", more);  // journals of former versions do not have it
  out.emplace_back("--dtype", std::string(name_of(act)));
  out.emplace_back("--kv-dtype", std::string(name_of(choose_kv_dtype(options, act, spec))));
  const bool on_cpu = computes_on_cpu(options);
  out.emplace_back("--device", on_cpu ? "cpu" : options.device.substr(0, options.device.find(':')));
  if (!on_cpu) {  // what the CPU does beside a GPU has other bits
    out.emplace_back("--cpu-attention-share", options.cpu_attention_share ? fmt::format("{}", *options.cpu_attention_share) : "planned");
    out.emplace_back("--cpu-expert-tokens", options.cpu_expert_tokens ? fmt::format("{}", *options.cpu_expert_tokens) : "planned");
  }
  out.emplace_back("--cpu-path", std::string(select_kernels(options.cpu_path).name));
  out.emplace_back("--max-model-len", std::to_string(options.max_model_len.value_or(spec.max_positions)));
  out.emplace_back("--seed", std::to_string(options.seed));
  out.emplace_back("--parser", options.parser);
  return out;
}

}  // namespace moegen
