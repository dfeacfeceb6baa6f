#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/key.h"
#include "batch/request_line.h"
#include "moegen/request.h"

namespace moegen {

/// The output line, with its line feed, for a request that was answered. `created`: seconds since 1970.
std::string answer_line(const Key& key, const std::string& custom_id, const AnswerPlan& plan, const Completion& completion, int64_t created);

/// The output line for a line that was refused: with a response if it could be read, else without (status kUnreadable).
std::string refusal_line(const Key& key, const std::optional<std::string>& custom_id, const RequestError& error);

}  // namespace moegen
