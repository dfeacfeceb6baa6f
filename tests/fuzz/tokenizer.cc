// A tokenizer.json, and a text that it encodes and decodes.
#include "tokenizer/tokenizer.h"

#include "moegen/error.h"
#include "tests/fuzz/fuzz.h"
#include "tokenizer/unicode.h"

namespace moegen::testing {
namespace {

void check_stream(const Tokenizer& tokenizer, std::span<const int32_t> ids, bool skip_special) {
  StreamDecoder stream(tokenizer, skip_special);
  std::string pieces;
  for (const int32_t id : ids) {
    const std::string piece = stream.push(id);
    require(text::first_invalid(piece) == piece.size(), "a piece is whole characters");
    pieces += piece;
  }
  pieces += stream.finish();
  require(pieces == tokenizer.decode(ids, skip_special), "the pieces are the text");
}

void check_text(const Tokenizer& tokenizer, std::string_view text) {
  for (const bool special : {true, false}) {
    const std::vector<int32_t> ids = tokenizer.encode(text, {special, special});
    for (const int32_t id : ids) {
      require(id >= 0, "an id is not negative");
      static_cast<void>(tokenizer.token_bytes(id));
    }
    check_stream(tokenizer, ids, special);
  }
}

}  // namespace

void fuzz_one(std::string_view input) {
  const auto [file, text] = two_parts(input);
  try {
    const Tokenizer tokenizer = Tokenizer::parse(std::string(file), "tokenizer.json");
    check_text(tokenizer, text);
  } catch (const Error&) {
    return;  // refused with a message
  }
}

}  // namespace moegen::testing
