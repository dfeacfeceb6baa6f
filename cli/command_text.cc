#include "command_text.h"

#include <CLI/CLI.hpp>
#include <sstream>

CommandText command_text(const CLI::App& app) {
  CommandText out{app.get_name(), app.get_description(), app.get_footer(), {}, {}};
  for (const CLI::Option* option : app.get_options({})) {
    if (option->get_group().empty()) continue;  // it is there to be refused
    OptionText text{{}, "", option->get_description(), option->get_required()};
    for (const std::string& name : option->get_snames()) text.names.push_back("-" + name);
    for (const std::string& name : option->get_lnames()) text.names.push_back("--" + name);
    if (text.names.empty()) {  // an argument by its place
      text.names.push_back(option->get_name());
    }
    if (option->get_items_expected_max() > 0) text.value = option->get_type_name();
    out.options.push_back(std::move(text));
  }
  for (const CLI::App* command : app.get_subcommands({})) out.commands.push_back(command_text(*command));
  return out;
}

std::vector<std::string> value_words(const std::string& value) {
  std::vector<std::string> out;
  std::istringstream in(value);
  for (std::string word; std::getline(in, word, '|');) out.push_back(word);
  return out;
}

ValueKind value_kind(const OptionText& option) {
  const std::string& v = option.value;
  if (v.find('|') != std::string::npos) return ValueKind::words;
  if (v == "DIR") return ValueKind::directory;
  if (v == "F" || v.starts_with("FILE") || v.find('.') != std::string::npos) return ValueKind::file;
  return ValueKind::none;
}
