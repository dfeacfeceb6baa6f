#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "device/device.h"
#include "plan/machine.h"
#include "profile/sampling.h"
#include "spec/model_spec.h"

namespace moegen {

/// What a profile is of. Everything but `cache`, `refresh`, `effort` and `build` is part of its key.
struct ProfileInput {
  const ModelSpec* spec = nullptr;                       ///< null: default_model()
  DType act = DType::bf16;                               ///< f32 or bf16
  DType kv_dtype = DType::bf16;                          ///< that of act, or i8
  std::string cpu_path = "auto";                         ///< as EngineOptions has it
  int threads = 0;                                       ///< 0: physical cores this process may use
  std::filesystem::path directory = ".";                 ///< the model's: of the file system that is read
  uint64_t memory = 0;                                   ///< bytes that are gone through, so that caches stay cold; 0: as cold_bytes() says
  uint64_t file_bytes = 512 << 20;                       ///< of a temporary file to read, where the directory has no shards as large
  Effort effort = {.rounds = 3, .seconds = 18};          ///< of measuring; beside it come some seconds of preparation
  std::filesystem::path cache = default_cache_folder();  ///< where profiles are kept; empty: nowhere
  bool refresh = false;                                  ///< measure, whatever is kept there
  std::string build;                                     ///< of moegen, written beside the figures
  Device* device = nullptr;                              ///< a GPU to measure too

  /// $XDG_CACHE_HOME/moegen, else ~/.cache/moegen; empty where neither is known.
  static std::filesystem::path default_cache_folder();
};

struct MachineProfile {
  Machine machine;
  std::string source;                 ///< "measured now, in 21 s" or "from FILE, measured at TIME"
  std::vector<std::string> warnings;  ///< what is wrong with the cache; no reason to stop
};

/// Measures, in less than half a minute, and looks at no cache. Takes all threads, and `memory` bytes and some buffers more. Without
/// `device` gpu and link stay empty. Throws Error(invalid_argument | not_found | out_of_memory | io).
[[nodiscard]] Machine measure_machine(const ProfileInput& input);

/// This machine, with the rates of all steps for the model's shapes: as it is kept in the cache under the same key, else measured and kept.
/// The cache never is a reason to fail. Throws what profile_key() and `measure` throw.
[[nodiscard]] MachineProfile machine_profile(const ProfileInput& input, const std::function<Machine(const ProfileInput&)>& measure = measure_machine);

/// The same where it is kept; never measures. Throws what profile_key() throws.
[[nodiscard]] std::optional<MachineProfile> kept_profile(const ProfileInput& input);

/// The key of such a profile: CPU, path, threads, Linux, file system, shapes, dtypes, and the version of what is measured; JSON.
/// Throws Error(not_found) where there is no such directory, Error(invalid_argument) for a path that is unknown.
[[nodiscard]] std::string profile_key(const ProfileInput& input);
/// The file of `folder` that keeps the profile of this key.
[[nodiscard]] std::filesystem::path profile_file(const std::filesystem::path& folder, const std::string& key);
}  // namespace moegen
