#include "api/output_text.h"

#include <algorithm>
#include <utility>

namespace moegen {

OutputText::OutputText(StreamDecoder decoder, Options options) : decoder_(std::move(decoder)), options_(std::move(options)) {
  for (const std::string& stop : options_.stop) longest_stop_ = std::max(longest_stop_, stop.size());
}

bool OutputText::complete(TokenId token, bool ended_by_id) {
  ++num_tokens_;
  if (ended_by_id && !options_.include_stop) return false;
  const size_t before = text_.size();
  if (options_.hidden != nullptr && options_.hidden->is_special(token)) hidden_.emplace_back(before, token);
  text_ += decoder_.push(token);
  if (find_stop(before)) return true;
  const size_t held = longest_stop_ > 0 ? longest_stop_ - 1 : 0;
  if (text_.size() > held) emit(text_.size() - held);
  return false;
}

// The first of the list that is complete, as in vLLM. It may have begun in what was there before, but not ended there.
bool OutputText::find_stop(size_t before) {
  if (num_tokens_ <= options_.min_tokens) return false;
  const size_t from = before >= longest_stop_ ? before - longest_stop_ + 1 : 0;
  for (const std::string& stop : options_.stop) {
    const size_t at = text_.find(stop, from);
    if (at == std::string::npos) continue;
    stopped_by_ = &stop;
    text_.resize(options_.include_stop ? at + stop.size() : at);
    return true;
  }
  return false;
}

void OutputText::finish() {
  if (stopped_by_ == nullptr) {
    const size_t before = text_.size();
    text_ += decoder_.finish();
    find_stop(before);
  }
  emit(text_.size());
}

std::string OutputText::text_with_hidden() const {
  std::string out;
  size_t from = 0;
  for (const auto& [at, token] : hidden_) {
    if (at > text_.size()) break;  // behind the stop string
    out.append(text_, from, at - from);
    out += options_.hidden->token_bytes(token);
    from = at;
  }
  return out.append(text_, from);
}

std::set<std::string> OutputText::hidden_tokens() const {
  std::set<std::string> out;
  for (const auto& [at, token] : hidden_) out.insert(options_.hidden->token_bytes(token));
  return out;
}

void OutputText::emit(size_t end) {
  while (end > emitted_ && end < text_.size() && (static_cast<unsigned char>(text_[end]) & 0xc0U) == 0x80U) --end;  // whole characters
  if (options_.piece && end > emitted_) {
    options_.piece(std::string_view(text_).substr(emitted_, end - emitted_));
  }
  emitted_ = std::max(emitted_, end);
}

}  // namespace moegen
