#pragma once

#include <string>
#include <string_view>

#include "tokenizer/json_fields.h"
#include "tokenizer/pre_tokenizer.h"

namespace moegen::text {

/// What becomes of the matches when a word is cut at them.
enum class SplitBehavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

SplitBehavior parse_behavior(const Fields& fields, const char* key);

/// Takes the alternating parts of one word (what lies between matches, and matches) and writes the spans that they make.
class SpanWriter {
 public:
  SpanWriter(std::vector<Pieces::Span>& out, SplitBehavior behavior, bool invert) : out_(out), behavior_(behavior), invert_(invert) {}
  void start_word() { first_ = out_.size(), has_part_ = false; }
  /// Parts come from left to right. Empty ones count only as separators of what is beside them.
  void part(size_t begin, size_t end, bool is_match);

 private:
  void push(size_t begin, size_t end) { out_.push_back({static_cast<uint32_t>(begin), static_cast<uint32_t>(end)}); }
  std::vector<Pieces::Span>& out_;
  SplitBehavior behavior_;
  bool invert_;
  size_t first_ = 0;  // first span of this word
  bool has_part_ = false;
  bool last_was_match_ = false;
};

}  // namespace moegen::text
