#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/key.h"
#include "batch/key_table.h"
#include "batch/line_reader.h"

namespace moegen {

/// A line of an output, as far as it says what it answers.
struct WrittenAnswer {
  std::optional<Key> key;  ///< of the input line; empty where it says neither a custom_id nor an id of ours
  bool failed = false;     ///< an error, or a status other than 200
  bool cut_off = false;    ///< failed: the input ended within the line
};
/// Empty if the line is no answer.
std::optional<WrittenAnswer> read_answer(std::string_view line);

/// Of an input line: its text but for spaces between values, so that a file that was only written anew is the same. Never 0.
uint64_t request_hash(std::string_view line);

/// Who is who among input lines and answers: finds duplicates, and on --resume what is answered already.
///
/// A line with a custom_id that was not there before has the key of the custom_id, and any answer for that custom_id answers
/// it, whoever wrote it. Every other line (a repeated custom_id, or none) has the key of its text or custom_id and of how
/// often that came before, and the answer's `id` carries the key. So nothing depends on line numbers: lines may be added to
/// the input or moved between two runs. What a line was when it was answered, the journal says.
class Ledger {
 public:
  /// What does not fit its memory, which is the same for every input, goes to an unnamed file in `folder`.
  explicit Ledger(std::filesystem::path folder) : entries_(std::move(folder)) {}

  struct Place {
    Key key;
    uint64_t request = 0;    ///< request_hash of the line; 0 where only its start was read
    bool duplicate = false;  ///< an earlier line has this custom_id
    bool answered = false;   ///< and not to be answered again
    bool changed = false;    ///< the answer is one to another request of this key
  };
  /// Takes the next input line. `custom_id` is empty where the line has none that identifies it.
  Place enter(const std::string& custom_id, const Line& line) { return complete(place_in(entries_, custom_id, line)); }
  /// What enter() will say, for a pass over the input that only looks: `seen` is the pass's own, empty at its start.
  Place look(const std::string& custom_id, const Line& line, KeyTable& seen) const { return complete(place_in(seen, custom_id, line)); }
  /// How often a line of this text came before, among those that this was asked of.
  uint64_t count_text(std::string_view text) { return entries_.add(make_key('t', 0, text), {.seen = 1}).seen; }

  /// There is an answer to the line of this key, `request` is what the journal has last for it, and the answer is to be made again.
  /// @{
  void set_answered(const Key& key) {
    entries_.add(key, {.answered = true});
    ++answers_;
  }
  void set_request(const Key& key, uint64_t request) { entries_.add(key, {.request = request}); }
  void set_changed(const Key& key) {
    const KeyTable::Entry before = entries_.add(key, {.changed = true});
    if (before.answered && !before.changed) --answers_;
  }
  /// @}
  [[nodiscard]] KeyTable::Entry find(const Key& key) const { return entries_.find(key); }
  /// How many set_answered() calls there were, without those of answers that are to be made again.
  [[nodiscard]] int64_t answers() const { return answers_; }

 private:
  static Place place_in(KeyTable& lines, const std::string& custom_id, const Line& line);
  [[nodiscard]] Place complete(Place place) const;

  KeyTable entries_;
  int64_t answers_ = 0;
};

/// `id` of the answer to the line with this key.
std::string answer_id(const Key& key);

}  // namespace moegen
