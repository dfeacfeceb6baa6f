#pragma once

#include <stdexcept>
#include <string>

namespace moegen {

/// What kind of thing went wrong; the text of the Error says what, where, and what to do.
enum class ErrorCode {
  invalid_argument,  ///< an option or a request asks for something impossible
  not_found,         ///< a file or directory that has to be there is not
  corrupt,           ///< a file is there but is not what it claims to be
  unsupported,       ///< well-formed, but this version cannot do it
  out_of_memory,     ///< does not fit a budget
  io,                ///< the operating system refused a read or a write
};

/// Thrown for bad input, files and machines; caught at the borders only (cli, one request of a batch).
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& text) : std::runtime_error(text), code_(code) {}
  [[nodiscard]] ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace moegen
