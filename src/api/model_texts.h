#pragma once

#include <memory>
#include <optional>

#include "moegen/options.h"
#include "moegen/request.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/tokenizer.h"

namespace moegen {

/// What turns texts into tokens. Both empty for a run that takes ids.
struct ModelTexts {
  std::optional<Tokenizer> tokenizer;
  std::optional<ChatTemplate> chat_template;
};

/// Those that the options ask for. Throws Error.
[[nodiscard]] std::shared_ptr<const ModelTexts> load_texts(const EngineOptions& options);
/// A conversation as the template takes it. Throws Error where a part of it is not JSON.
[[nodiscard]] ChatRequest chat_request(const Chat& chat);

}  // namespace moegen
