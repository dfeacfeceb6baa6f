#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <vector>

namespace moegen::text {

/// "post_processor": the ids that stand before and behind those of a text.
struct PostProcessor {
  std::vector<int32_t> before;
  std::vector<int32_t> behind;
  /// Throws Error(corrupt | unsupported).
  static PostProcessor parse(const nlohmann::json& spec);
};

}  // namespace moegen::text
