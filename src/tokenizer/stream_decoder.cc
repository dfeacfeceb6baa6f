#include <algorithm>

#include "tokenizer/tokenizer_impl.h"
#include "tokenizer/unicode.h"

namespace moegen {

struct StreamDecoder::Impl {
  Impl(const Tokenizer& tokenizer, bool skip) : model(*tokenizer.impl_), skip_special_tokens(skip), run(model.decoder) {}

  void push(int32_t id, std::string& out) {
    if (model.is_shown(id, skip_special_tokens)) run.push(model.token(id), out);
  }

  // Takes from `piece` what decode(prompt_ids) has given already; a character that turned out otherwise ends that.
  std::string unseen(std::string piece) {
    size_t pos = 0;
    while (pos < piece.size() && !given.empty()) {
      const size_t n = text::char_bytes(piece[pos]);
      if (given.compare(0, n, piece, pos, n) == 0) {
        given.erase(0, n);
        pos += n;
      } else {
        given.clear();
      }
    }
    return piece.substr(pos);
  }

  const Tokenizer::Impl& model;
  bool skip_special_tokens;
  text::DecodeRun run;
  std::string given;  // what the end of the prompt released, and comes again
};

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens, std::span<const int32_t> prompt_ids)
    : impl_(std::make_unique<Impl>(tokenizer, skip_special_tokens)) {
  Impl whole(tokenizer, skip_special_tokens);
  std::string ignored;
  for (const int32_t id : prompt_ids) {
    ignored.clear();
    impl_->push(id, ignored);
    whole.push(id, ignored);
  }
  if (!prompt_ids.empty()) whole.run.finish(impl_->given);
}

StreamDecoder::~StreamDecoder() = default;
StreamDecoder::StreamDecoder(StreamDecoder&&) noexcept = default;
StreamDecoder& StreamDecoder::operator=(StreamDecoder&&) noexcept = default;

std::string StreamDecoder::push(int32_t id) {
  std::string out;
  impl_->push(id, out);
  return impl_->unseen(std::move(out));
}

std::string StreamDecoder::finish() {
  std::string out;
  impl_->run.finish(out);
  return impl_->unseen(std::move(out));
}

}  // namespace moegen
