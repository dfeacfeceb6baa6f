#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "tokenizer/message_content.h"

namespace moegen {

/// What one rendering may cost; the context brings some more with each of its bytes.
struct RenderLimits {
  uint64_t max_steps = 20'000'000;     ///< about a second
  uint64_t max_bytes = 128 << 20;      ///< of all values ever made
  uint64_t max_text_bytes = 16 << 20;  ///< of one text, the output included
};

/// A parsed Jinja template. Sandboxed: sees data only; steps, depth, output and allocation are bounded.
/// Immutable after parse: render may be called from many threads.
class Template {
 public:
  /// Throws Error(invalid_argument) with line and message.
  static Template parse(const std::string& source);
  Template(Template&&) noexcept;
  Template& operator=(Template&&) noexcept;
  ~Template();
  /// `context` is an object of variables; objects keep their order. `now` (ISO 8601, "2027-11-30T23:05:59") is what
  /// strftime_now sees; without it the clock. Throws Error(invalid_argument) with line and message; what
  /// raise_exception says is kept word for word.
  [[nodiscard]] std::string render(const nlohmann::ordered_json& context, const std::optional<std::string>& now = {},
                                   const RenderLimits& limits = {}) const;
  [[nodiscard]] const ContentUse& content_use() const;

 private:
  struct Impl;
  explicit Template(std::shared_ptr<const Impl> impl);
  std::shared_ptr<const Impl> impl_;
};

/// What a chat template is rendered with. Objects keep their order.
struct ChatRequest {
  nlohmann::ordered_json messages;   ///< array of objects
  nlohmann::ordered_json tools;      ///< array or null
  nlohmann::ordered_json documents;  ///< array or null
  nlohmann::ordered_json kwargs;     ///< object or null: further variables
  bool add_generation_prompt = false;
  bool continue_final_message = false;       ///< the last message is left open, to be continued
  bool fit_contents = false;                 ///< as OpenAI has them, to what the template reads
  std::optional<std::string> chat_template;  ///< in place of the checkpoint's, or the name of one of those
  std::optional<std::string> now;            ///< ISO 8601; what strftime_now sees
};

/// The chat templates of a checkpoint directory (`chat_template.jinja`, else `tokenizer_config.json`, one or several named)
/// and the special tokens they see.
class ChatTemplate {
 public:
  /// Throws Error where a file is malformed. A directory without a template loads; has_template() is false then.
  static ChatTemplate load(const std::filesystem::path& dir);
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();
  [[nodiscard]] bool has_template() const;
  /// The text of the template that a conversation is rendered with; empty without one. `own` is ChatRequest::chat_template, or empty.
  [[nodiscard]] std::string_view source(std::string_view own, bool with_tools) const;
  /// Renders a conversation. Throws Error(invalid_argument).
  [[nodiscard]] std::string render(const ChatRequest& request) const;

 private:
  struct Impl;
  explicit ChatTemplate(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace moegen
