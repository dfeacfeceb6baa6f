#include "tokenizer/splitter.h"

namespace moegen::text {

SplitBehavior parse_behavior(const Fields& fields, const char* key) {
  const std::string name = fields.text(key, "Isolated");
  if (name == "Removed") return SplitBehavior::removed;
  if (name == "Isolated") return SplitBehavior::isolated;
  if (name == "MergedWithPrevious") return SplitBehavior::merged_with_previous;
  if (name == "MergedWithNext") return SplitBehavior::merged_with_next;
  if (name == "Contiguous") return SplitBehavior::contiguous;
  fields.refuse(std::string("the behavior ") + name);
}

void SpanWriter::part(size_t begin, size_t end, bool is_match) {
  const bool match = is_match != invert_;
  const bool extend = has_part_ && out_.size() > first_;
  switch (behavior_) {
    case SplitBehavior::removed:
      if (!match && begin < end) push(begin, end);
      break;
    case SplitBehavior::isolated:
      if (begin < end) push(begin, end);
      break;
    case SplitBehavior::merged_with_previous:
      if (match && !last_was_match_ && extend) {
        out_.back().end = static_cast<uint32_t>(end);
      } else {
        push(begin, end);
      }
      break;
    case SplitBehavior::merged_with_next:
      // A match opens a span that what follows completes; a match behind a match opens one of its own.
      if (last_was_match_ && !match && extend) {
        out_.back().end = static_cast<uint32_t>(end);
      } else {
        push(begin, end);
      }
      break;
    case SplitBehavior::contiguous:
      if (extend && match == last_was_match_) {
        out_.back().end = static_cast<uint32_t>(end);
      } else {
        push(begin, end);
      }
      break;
  }
  has_part_ = true;
  last_was_match_ = match;
}

}  // namespace moegen::text
