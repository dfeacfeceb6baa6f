#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace moegen::text {

/// Reads the fields of one JSON object of tokenizer.json, checked; errors name the object (`where`) and the field.
/// Keeps references: for use while the document lives.
class Fields {
 public:
  Fields(const nlohmann::json& object, std::string where);
  [[nodiscard]] const std::string& where() const { return where_; }
  /// Absent and null are the same.
  [[nodiscard]] bool has(const char* key) const;
  /// Throws Error(corrupt) where absent.
  [[nodiscard]] const nlohmann::json& at(const char* key) const;
  [[nodiscard]] const nlohmann::json& array(const char* key) const;
  [[nodiscard]] const std::string& text(const char* key) const;
  [[nodiscard]] std::string text(const char* key, const std::string& otherwise) const;
  [[nodiscard]] bool flag(const char* key, bool otherwise) const;
  /// An integer in [0, max].
  [[nodiscard]] int64_t number(const char* key, int64_t max) const;
  [[nodiscard]] std::string type() const { return text("type"); }
  /// For a type or a value that is well-formed but not known here.
  [[noreturn]] void refuse(const std::string& what) const;
  [[noreturn]] void corrupt(const std::string& what) const;

 private:
  const nlohmann::json& object_;
  std::string where_;
};

}  // namespace moegen::text
