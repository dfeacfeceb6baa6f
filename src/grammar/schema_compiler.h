#pragma once

#include <deque>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "grammar/network.h"
#include "grammar/pattern.h"

namespace moegen::grammar {

using Json = nlohmann::ordered_json;

/// A schema and where it stands, as a JSON pointer.
struct Place {
  const Json& json;
  std::string path;

  [[nodiscard]] Place at(std::string_view key) const { return {json.at(std::string(key)), path + "/" + std::string(key)}; }
  [[nodiscard]] Place at(std::string_view key, size_t index) const;
  [[nodiscard]] bool has(std::string_view key) const { return json.contains(std::string(key)); }
  /// The member, or null.
  [[nodiscard]] const Json* find(std::string_view key) const;
  [[noreturn]] void unsupported(std::string_view keyword, std::string_view why) const;
  [[noreturn]] void invalid(std::string_view keyword, std::string_view why) const;
  /// A count of 0 or more; `otherwise` if it is not there.
  [[nodiscard]] int count(std::string_view key, int otherwise) const;
};

/// One compilation. Schemas become rules, once each; those that are used but not yet written wait in a queue, so that
/// recursion in the schema is none here.
class SchemaCompiler {
 public:
  SchemaCompiler(NetworkBuilder& builder, const Json& root) : builder_(builder), root_(root) {}
  void run();

  int32_t any_value();
  int32_t any_object();

 private:
  int32_t rule_of(const Place& schema);
  void write(const Place& schema, int32_t from, int32_t to);
  void write_types(const Place& schema, int32_t from, int32_t to);
  void write_type(const Place& schema, std::string_view type, int32_t from, int32_t to);
  void write_object(const Place& schema, int32_t from, int32_t to);
  void write_array(const Place& schema, int32_t from, int32_t to);
  void write_enum(const Place& schema, const std::vector<Json>& values, int32_t from, int32_t to);
  int32_t write_literal(const Json& value, int32_t from);
  void write_alternatives(const Place& schema, std::string_view keyword, int32_t from, int32_t to);
  [[nodiscard]] Place resolve(const Place& schema) const;
  [[nodiscard]] Place target_of(const Place& schema, int hops) const;
  void check_disjoint(const Place& schema) const;

  int32_t string_rule(const Place& schema);
  int32_t number_rule(const Place& schema, bool integer);
  int32_t free_string();
  int32_t free_number();
  int32_t other_keys(const std::vector<std::string>& keys);
  int32_t quoted_rule(const std::string& memo, const Pattern& body, const Pattern* also = nullptr);
  int32_t container(bool object);

  // A separator and the space that may follow: the node behind it.
  int32_t separator(int32_t from, char c);
  int32_t key(int32_t from, const std::string& name);

  struct Waiting {
    const Json* schema;
    std::string path;
    int32_t rule;
  };
  NetworkBuilder& builder_;
  const Json& root_;
  std::unordered_map<const Json*, int32_t> rules_;
  std::map<std::string, int32_t, std::less<>> shared_;  // by what they are
  std::deque<Waiting> waiting_;
};

/// Calls `refuse` of the place for the first member that is neither in `known` nor an annotation.
void check_members(const Place& schema, std::initializer_list<std::string_view> known, std::string_view beside);

/// Whether a member constrains nothing: titles, descriptions, definitions.
bool is_annotation(std::string_view keyword);

}  // namespace moegen::grammar
