#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace moegen {

/// Bytes in order, once. Not thread-safe.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  /// At most `bytes` bytes into `to`; at least one unless the source is at its end. Throws Error(io | corrupt).
  virtual size_t read(char* to, size_t bytes) = 0;
  /// Whether read() has something to work on without waiting; a writer at work is given a moment.
  [[nodiscard]] virtual bool ready() const = 0;
};

/// A descriptor (owned, unless it is stdin). A pipe that has nothing to give ends when `stop` becomes true.
std::unique_ptr<ByteSource> descriptor_source(int fd, std::string name, const std::atomic<bool>& stop);

/// Whether a file that starts so (4 bytes are enough) is of gzip or zstd.
[[nodiscard]] bool is_compressed(std::string_view start);
/// What `source` gives, decompressed if it starts like gzip or zstd: no line of JSON does, so the name does not matter.
std::unique_ptr<ByteSource> decompressed(std::unique_ptr<ByteSource> source, const std::string& name);

}  // namespace moegen
