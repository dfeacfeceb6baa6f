#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "batch/key.h"
#include "batch/key_table.h"

namespace moegen {

/// Who is who among input lines and answers: finds duplicates, and on --resume what is answered already.
///
/// A line with a custom_id that was not there before has the key of the custom_id, and any answer for that custom_id answers
/// it, whoever wrote it. Every other line (a repeated custom_id, or none) has the key of its text or custom_id and of how
/// often that came before, and the answer's `id` carries the key. So nothing depends on line numbers: lines may be added to
/// the input or moved between two runs.
class Ledger {
 public:
  /// What does not fit its memory, which is the same for every input, goes to an unnamed file in `folder`.
  explicit Ledger(std::filesystem::path folder) : entries_(std::move(folder)) {}

  struct Place {
    Key key;
    bool duplicate = false;  ///< an earlier line has this custom_id
    bool answered = false;
  };
  /// Takes the next input line. `custom_id` is empty where the line has none that identifies it.
  Place enter(const std::string& custom_id, std::string_view line);

  /// Takes a line that a former run wrote; false if it is no answer.
  bool enter_answer(std::string_view line);
  /// Lines that were taken so.
  [[nodiscard]] int64_t answers() const { return answers_; }

 private:
  KeyTable entries_;
  int64_t answers_ = 0;
};

/// `id` of the answer to the line with this key.
std::string answer_id(const Key& key);

}  // namespace moegen
