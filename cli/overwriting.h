#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

using NamedFiles = std::vector<std::pair<std::string, std::filesystem::path>>;  ///< option, file; empty: not given

/// Throws Error(invalid_argument) where a file that a command writes is one that it reads, by whatever name: one of `reads`, `model` itself, or a
/// file of the checkpoint in that directory.
void refuse_overwriting(const NamedFiles& writes, const NamedFiles& reads, const std::filesystem::path& model);
