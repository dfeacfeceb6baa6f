#include "tokenizer/byte_alphabet.h"

#include "tokenizer/unicode.h"

namespace moegen::text {

const ByteAlphabet& ByteAlphabet::get() {
  static const ByteAlphabet alphabet;  // constant
  return alphabet;
}

ByteAlphabet::ByteAlphabet() {
  byte_of_.fill(-1);
  char32_t next = 256;
  for (char32_t b = 0; b < 256; ++b) {
    const bool printable = (b >= 33 && b < 127) || (b >= 161 && b < 173) || b >= 174;
    const char32_t c = printable ? b : next++;
    const std::string s = to_utf8(c);
    stand_in_[b] = {{s[0], s.back()}, static_cast<uint8_t>(s.size())};
    byte_of_[c] = static_cast<int16_t>(b);
  }
}

void ByteAlphabet::append_text(std::string_view bytes, std::string& to) const {
  const size_t before = to.size();
  to.resize(before + 2 * bytes.size());
  char* p = to.data() + before;
  for (const char b : bytes) {
    const StandIn& s = stand_in_[static_cast<unsigned char>(b)];
    p[0] = s.utf8[0];
    p[1] = s.utf8[1];
    p += s.size;
  }
  to.resize(static_cast<size_t>(p - to.data()));
}

std::string ByteAlphabet::to_text(std::string_view bytes) const {
  std::string out;
  append_text(bytes, out);
  return out;
}

void ByteAlphabet::append_bytes(std::string_view token, std::string& to) const {
  const size_t before = to.size();
  for (size_t i = 0; i < token.size();) {
    const char32_t c = next_char(token, i);
    if (c >= 512 || byte_of_[c] < 0) {
      to.resize(before);
      to.append(token);
      return;
    }
    to.push_back(static_cast<char>(static_cast<unsigned char>(byte_of_[c])));
  }
}

}  // namespace moegen::text
