#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace moegen::text {

/// The 256 printable characters that stand for bytes in byte-level vocabularies (GPT-2's `bytes_to_unicode`): printable
/// bytes of Latin-1 stand for themselves, the others for U+0100 and up in their order.
class ByteAlphabet {
 public:
  static const ByteAlphabet& get();
  /// Bytes to their stand-ins.
  [[nodiscard]] std::string to_text(std::string_view bytes) const;
  void append_text(std::string_view bytes, std::string& to) const;
  /// Back again; where a character is no stand-in, the whole token is taken as plain text.
  void append_bytes(std::string_view token, std::string& to) const;

 private:
  ByteAlphabet();
  struct StandIn {
    char utf8[2];
    uint8_t size;
  };
  std::array<StandIn, 256> stand_in_{};
  std::array<int16_t, 512> byte_of_{};  // by character; -1
};

}  // namespace moegen::text
