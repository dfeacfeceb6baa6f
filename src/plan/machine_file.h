#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "plan/machine.h"

namespace moegen {

/// A machine file: {name, gpu {name, memory_bytes, bf16_flops, fp8_flops, memory_bandwidth}, link {h2d, d2h}, cpu {cores, path, bf16_flops,
/// attention_flops, peaks}, dram {bytes, bandwidth, by_threads}, ssd {bytes, read_bandwidth, by_depth, note}, steps, measured}.
/// A file about a machine that is not here needs cpu {cores, bf16_flops, attention_flops} and dram {bytes, bandwidth}; null is as
/// good as absent everywhere. Curves are lists of [size, rate, noise].
/// Fields that are not known are refused by name: a misspelled one would change a plan without a word.
/// Throws Error(corrupt) naming `where`, field, what was expected and what was found.
[[nodiscard]] Machine parse_machine(const nlohmann::json& json, const std::string& where);
/// Throws Error(not_found | io | corrupt).
[[nodiscard]] Machine load_machine(const std::filesystem::path& file);

/// With all fields, so that reading it gives the same machine.
[[nodiscard]] nlohmann::ordered_json to_json(const Machine& machine);
/// JSON for people: what is short stands on one line.
[[nodiscard]] std::string pretty(const nlohmann::ordered_json& json);

}  // namespace moegen
