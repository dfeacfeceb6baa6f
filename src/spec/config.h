#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace moegen {

/// Typed reading of config.json. null counts as absent, but for flags, where it is false as in Python. What is of another type or out of range throws
/// Error(corrupt) with file, field, what was expected and what was found. Numbers are hostile: every getter has a range.
class Config {
 public:
  /// `where` names the file in errors. `json` must be an object.
  Config(nlohmann::json json, std::string where);

  [[nodiscard]] bool has(std::string_view field) const;
  [[nodiscard]] bool is_text(std::string_view field) const;
  [[nodiscard]] bool is_flag(std::string_view field) const;
  /// Whether the field is there, be it null: where null means "none" and absence a default.
  [[nodiscard]] bool mentions(std::string_view field) const { return json_.contains(field); }
  [[nodiscard]] bool empty() const { return json_.empty(); }
  [[nodiscard]] int64_t integer(std::string_view field, int64_t low, int64_t high) const;
  [[nodiscard]] int64_t integer(std::string_view field, int64_t low, int64_t high, int64_t otherwise) const;
  [[nodiscard]] double number(std::string_view field, double low, double high) const;
  [[nodiscard]] double number(std::string_view field, double low, double high, double otherwise) const;
  [[nodiscard]] bool flag(std::string_view field, bool otherwise) const;
  /// Likewise, but a number counts too, as Python takes it: 0 is false.
  [[nodiscard]] bool truth(std::string_view field, bool otherwise) const;
  [[nodiscard]] std::string text(std::string_view field, std::string_view otherwise) const;
  /// A list of integers, or one integer as a list of one; empty where absent.
  [[nodiscard]] std::vector<int64_t> integers(std::string_view field, int64_t low, int64_t high) const;
  [[nodiscard]] std::vector<double> numbers(std::string_view field, double low, double high) const;
  [[nodiscard]] std::vector<std::string> texts(std::string_view field) const;
  /// A nested object; empty where absent.
  [[nodiscard]] std::optional<Config> object(std::string_view field) const;
  /// The names of its fields that are not null.
  [[nodiscard]] std::vector<std::string> fields() const;
  /// This one, with the fields of a nested object in place of its own; itself where that is absent.
  [[nodiscard]] Config with(std::string_view field) const;
  /// This one, with the fields of a JSON object that it does not mention; of those that are objects themselves also where it has null.
  [[nodiscard]] Config or_else(std::string_view json) const;
  /// The first of these that is there, or the first.
  [[nodiscard]] std::string_view first_of(std::initializer_list<std::string_view> fields) const;

  [[nodiscard]] const std::string& where() const { return where_; }

 private:
  [[nodiscard]] const nlohmann::json* find(std::string_view field) const;
  [[noreturn]] void wrong(std::string_view field, const std::string& expected) const;

  nlohmann::json json_;
  std::string where_;
};

}  // namespace moegen
