#pragma once

#include <filesystem>
#include <istream>
#include <ostream>

namespace moegen {

/// The command `moegen tokenize`: JSON lines in, one JSON answer a line out, without loading weights.
/// Throws Error where the directory's tokenizer cannot be loaded; a failure on a line is that line's answer.
void run_tokenize(const std::filesystem::path& model, std::istream& in, std::ostream& out);

}  // namespace moegen
