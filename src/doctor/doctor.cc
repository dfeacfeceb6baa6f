#include "moegen/doctor.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "doctor/findings.h"
#include "moegen/version.h"

namespace moegen {
namespace {

void print(const std::vector<Finding>& all, std::ostream& out) {
  int to_change = 0;
  for (const Finding& f : all) {
    out << fmt::format("{:<5} {:<14} {}\n", name_of(f.state), f.name, f.value);
    if (!f.advice.empty()) out << fmt::format("{:<21}{}\n", "", f.advice);
    if (!f.command.empty()) out << fmt::format("{:<21}$ {}\n", "", f.command);
    if (f.state != Finding::State::good) ++to_change;
  }
  out << (to_change == 0 ? "nothing to change\n" : fmt::format("{} to look at\n", to_change));
}

void print_json(const std::vector<Finding>& all, std::ostream& out) {
  using Json = nlohmann::ordered_json;
  const auto or_null = [](const std::string& text) { return text.empty() ? Json() : Json(text); };
  Json list = Json::array();
  for (const Finding& f : all) {
    list.push_back(
        {{"name", f.name}, {"state", name_of(f.state)}, {"value", f.value}, {"advice", or_null(f.advice)}, {"command", or_null(f.command)}});
  }
  const std::string version = version_text();
  const Json json = {{"version", version.substr(0, version.find('\n'))}, {"findings", list}};
  out << json.dump(2, ' ', false, Json::error_handler_t::replace) << "\n";
}

}  // namespace

void doctor(const std::filesystem::path& directory, bool json, std::ostream& out) {
  const std::vector<Finding> all = findings(read_facts(directory));
  json ? print_json(all, out) : print(all, out);
}

}  // namespace moegen
