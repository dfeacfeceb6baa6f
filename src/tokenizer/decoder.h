#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace moegen::text {

/// "decoder": how tokens become text. Immutable.
class Decoder {
 public:
  /// `spec` null: tokens are joined by spaces. Throws Error(corrupt | unsupported).
  static Decoder parse(const nlohmann::json& spec);
  Decoder();
  ~Decoder();
  Decoder(Decoder&&) noexcept;
  Decoder& operator=(Decoder&&) noexcept;

  /// The bytes of one token by itself: may be half a character.
  [[nodiscard]] std::string bytes_of(std::string_view token) const;

  struct Step;

 private:
  friend class DecodeRun;
  std::vector<std::unique_ptr<const Step>> steps_;
};

/// One text being decoded. Text comes out as soon as no later token can change it. Keeps a pointer to the decoder.
class DecodeRun {
 public:
  explicit DecodeRun(const Decoder& decoder);
  DecodeRun(DecodeRun&&) noexcept;
  DecodeRun& operator=(DecodeRun&&) noexcept;
  ~DecodeRun();
  /// Appends the text that this token releases.
  void push(std::string_view token, std::string& out);
  void finish(std::string& out);

  class Stage;

 private:
  std::vector<std::unique_ptr<Stage>> stages_;  // first one first; the last one is the Sink
};

}  // namespace moegen::text
