#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/thread_pool.h"
#include "checkpoint/safetensors.h"
#include "spec/model_spec.h"
#include "spec/tensor_table.h"

namespace moegen {

/// Defaults that generation_config.json gives; what it does not say is empty.
struct GenerationDefaults {
  std::vector<int32_t> eos_ids;
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<int64_t> top_k, max_new_tokens;
};

/// Reads config.json of a checkpoint directory, or any such file (read_spec). Throws Error.
ModelSpec load_spec(const std::filesystem::path& dir_or_config, std::optional<int64_t> max_model_len = std::nullopt);
/// All empty where there is no generation_config.json. Not `whole`: only where answers end. Throws Error(corrupt).
GenerationDefaults load_generation_defaults(const std::filesystem::path& dir, bool whole);

/// The safetensors files of a directory, open, and what is in them.
class Checkpoint {
 public:
  /// Single file, or sharded with an index; the single one where both are. Throws Error: not found, corrupt, or pickle files
  /// in their place.
  static Checkpoint open(const std::filesystem::path& dir);

  [[nodiscard]] const std::vector<TensorInfo>& tensors() const { return tensors_; }
  [[nodiscard]] const std::vector<FileReader>& files() const { return files_; }
  [[nodiscard]] const TensorInfo* find(const std::string& name) const;

 private:
  void add_file(const std::filesystem::path& path);

  std::vector<FileReader> files_;
  std::vector<TensorInfo> tensors_;
  std::unordered_map<std::string, size_t> by_name_;
};

/// How a checkpoint fits a model: for every TensorSpec of the table the tensor in the files, and everything that is wrong.
struct Binding {
  std::vector<TensorSpec> table;
  std::vector<std::optional<TensorInfo>> tensors;            ///< beside `table`: of a tensor that has several the part; empty where missing
  std::vector<const TensorInfo*> scales;                     ///< beside `table`: of tensors in F8_E4M3, else null
  std::vector<const TensorInfo*> orders;                     ///< beside `table`: X.g_idx of what has one, else null
  std::vector<std::pair<std::string, std::string>> skipped;  ///< name, why
  std::vector<std::string> missing, superfluous, misshapen;  ///< a line each

  [[nodiscard]] bool fits() const { return missing.empty() && superfluous.empty() && misshapen.empty(); }
};

/// Tensors that are skipped for one reason.
struct SkippedKind {
  std::string why;
  std::string first;  ///< name of one
  size_t count = 0;
};
/// In the order of their coming.
[[nodiscard]] std::vector<SkippedKind> skipped_kinds(const Binding& binding);

[[nodiscard]] Binding bind(const ModelSpec& spec, const Checkpoint& checkpoint);
/// Reads the orders of a binding that fits. Throws Error(unsupported) where groups are not of neighbours, Error(io).
void check_orders(const Binding& binding, const Checkpoint& checkpoint, ThreadPool& pool);
/// Bytes that a tensor of a binding is used in, of a tensor that fits.
[[nodiscard]] uint64_t bytes_in_memory(const TensorSpec& spec, const TensorInfo& tensor);
/// Throws Error(corrupt) with all that is missing, superfluous or misshapen, in one message.
void check_fits(const Binding& binding, const std::filesystem::path& dir);

}  // namespace moegen
