#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace moegen {

/// The parameters of the tools that a request declares. Keeps pointers into `tools`, the array of OpenAI's "tools".
class ToolSchemas {
 public:
  explicit ToolSchemas(const nlohmann::json& tools);
  [[nodiscard]] bool declares(std::string_view tool) const { return properties_.contains(tool); }
  /// The schema of a parameter, or null.
  [[nodiscard]] const nlohmann::json* parameter(std::string_view tool, const std::string& name) const;

 private:
  std::map<std::string, const nlohmann::json*, std::less<>> properties_;  // null: a tool without
};

/// How a format writes values that stand between tags.
struct ValueRules {
  bool trim_strings = false;     ///< white space around a string is not part of it
  bool trim_newlines = false;    ///< nor one line feed on either side
  bool untyped_is_json = false;  ///< without a type in the schema: JSON if it is valid, else a string
};

/// The JSON text of a value between tags: the first of the schema's types that it can be, else a string. `schema` may be null.
std::string typed_value(const nlohmann::json* schema, std::string_view text, const ValueRules& rules);

/// An object that is written member by member; a key that comes again replaces the value, as in Python's dict.
class ObjectText {
 public:
  void set(std::string_view key, std::string json);
  [[nodiscard]] std::string text() const;

 private:
  std::vector<std::pair<std::string, std::string>> members_;
  std::map<std::string, size_t, std::less<>> index_;
};

}  // namespace moegen
