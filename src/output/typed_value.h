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

/// The JSON text of a value between tags: as vLLM's coerce_to_schema_type, the first of null, integer, number, boolean, object
/// or array, and string that the schema allows and the text can be; what is none of them is JSON if it can be, else a string.
/// `schema` may be null: a string.
std::string typed_value(const nlohmann::json* schema, std::string_view text);
bool may_be_string(const nlohmann::json* schema);

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
