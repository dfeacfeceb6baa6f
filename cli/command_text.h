#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
}

/// The command line as text: one table, from which help, completions and the man page come.
struct OptionText {
  std::vector<std::string> names;  ///< "-m", "--model"
  std::string value;               ///< "DIR", "auto|none"; empty: a flag
  std::string help;
  bool required = false;
};
struct CommandText {
  std::string name;
  std::string help;
  std::string footer;
  std::vector<OptionText> options;
  std::vector<CommandText> commands;
};
CommandText command_text(const CLI::App& app);

/// What a value is, as far as a shell can help with it.
enum class ValueKind { none, words, directory, file };
ValueKind value_kind(const OptionText& option);
/// The words of "auto|bar|none".
std::vector<std::string> value_words(const std::string& value);

/// A script for `shell`: bash | zsh | fish.
std::string completion_script(const CommandText& program, const std::string& shell);
/// The page moegen(1) in man(7) macros. `version`: of the program; `date`: of its commit.
std::string man_page(const CommandText& program, const std::string& version, const std::string& date);
