#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "base/file.h"
#include "base/key.h"
#include "batch/waiting_answers.h"

namespace moegen {

/// Answers that waited for their turn when a run with ordered answers was interrupted: a file beside the output, from which the next run takes
/// them. Those that the output has by now mean nothing. In memory there are about 100 bytes of each.
class HeldAnswers {
 public:
  /// Reads `file`, if it is there; damaged lines are passed over. Throws Error(io).
  explicit HeldAnswers(std::string file);

  [[nodiscard]] int64_t count() const { return static_cast<int64_t>(entries_.size()); }
  /// The answer to a line, which it then has no more; `request` is its request_hash, 0: whatever it was. Throws Error(io).
  std::optional<AnswerText> take(const Key& key, uint64_t request);
  using Put = std::function<void(const AnswerText&)>;
  /// Writes what is left, and then what `more` puts, to the file in one step. Throws Error(io).
  void save(const std::function<void(const Put&)>& more) const;
  /// Nothing of it is needed any more.
  void remove();

 private:
  struct Entry {
    uint64_t offset = 0;  // of the answer in the file
    size_t bytes = 0;
    uint64_t request = 0;
    bool failed = false;
  };
  [[nodiscard]] AnswerText fetch(const Key& key, const Entry& entry) const;

  std::string file_;
  std::optional<FileReader> reader_;                        // empty: there is no file
  std::map<std::pair<uint64_t, uint64_t>, Entry> entries_;  // by Key
};

}  // namespace moegen
