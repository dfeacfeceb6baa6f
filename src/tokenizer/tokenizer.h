#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace moegen {

struct EncodeOptions {
  bool add_special_tokens = true;  ///< BOS/EOS put around the text
  bool parse_special = true;       ///< added tokens in the text are recognised; false: untrusted text
};

/// Text <-> token ids, as `tokenizer.json` and `tokenizer_config.json` of a checkpoint directory say.
/// Immutable after load: every const member may be called from many threads.
class Tokenizer {
 public:
  /// Throws Error naming the file and the part of it that is missing, malformed or not supported.
  static Tokenizer load(const std::filesystem::path& dir);
  /// Of the text of a tokenizer.json alone, which errors call `name`.
  static Tokenizer parse(const std::string& tokenizer_json, const std::string& name);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// Invalid UTF-8 becomes U+FFFD.
  [[nodiscard]] std::vector<int32_t> encode(std::string_view text, const EncodeOptions& options = {}) const;
  /// Ids outside the vocabulary decode to nothing.
  [[nodiscard]] std::string decode(std::span<const int32_t> ids, bool skip_special_tokens) const;

  /// The bytes of one token by itself (logprobs show it): may be half a character.
  [[nodiscard]] std::string token_bytes(int32_t id) const;
  [[nodiscard]] std::optional<int32_t> id_of(std::string_view token) const;
  /// "eos_token" of tokenizer_config.json, or of the file that older checkpoints have.
  [[nodiscard]] std::optional<int32_t> eos() const;
  [[nodiscard]] bool is_special(int32_t id) const;
  /// Whether it is in the list of added tokens, special or not.
  [[nodiscard]] bool is_added(int32_t id) const;
  [[nodiscard]] int32_t vocab_size() const;  ///< highest id + 1

  struct Impl;

 private:
  friend class StreamDecoder;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Decodes ids as they come. Pieces are whole characters, and all of them together are exactly what
/// decode(prompt_ids + ids) has more than decode(prompt_ids). Keeps a pointer to the tokenizer.
class StreamDecoder {
 public:
  StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens, std::span<const int32_t> prompt_ids = {});
  ~StreamDecoder();
  StreamDecoder(StreamDecoder&&) noexcept;
  StreamDecoder& operator=(StreamDecoder&&) noexcept;
  /// "" while a character is incomplete.
  std::string push(int32_t id);
  /// What is left at the end (U+FFFD for half a character).
  std::string finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace moegen
