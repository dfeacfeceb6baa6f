#pragma once

#include <filesystem>
#include <istream>
#include <ostream>

namespace moegen {

/// The command `moegen tokenize`: JSON lines in, one JSON answer a line out, without loading weights.
/// Lines that are there at the same time are worked on by all threads; answers keep their order.
/// Throws Error where the directory's tokenizer cannot be loaded; a failure on a line is that line's answer.
void run_tokenize(const std::filesystem::path& model, std::istream& in, std::ostream& out);

}  // namespace moegen
