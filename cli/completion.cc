#include <algorithm>
#include <sstream>
#include <stdexcept>

#include "command_text.h"

namespace {

struct Path {
  std::string path;  // "/bench/gemm"; empty: the program
  const CommandText* command;
};

void add_paths(const CommandText& command, const std::string& path, std::vector<Path>& out) {
  out.push_back({path, &command});
  for (const CommandText& c : command.commands) add_paths(c, path + "/" + c.name, out);
}

std::vector<Path> paths_of(const CommandText& program) {
  std::vector<Path> out;
  add_paths(program, "", out);
  return out;
}

bool positional(const OptionText& o) { return !o.names.front().starts_with("-"); }

// Inside of '..' of any of the shells.
std::string quoted(const std::string& text, const std::string& escaped = "") {
  std::string out;
  for (const char c : text) {
    if (c == '\'') {
      out += "'\\''";
      continue;
    }
    if (escaped.find(c) != std::string::npos) out += '\\';
    out += c == '\n' ? ' ' : c;
  }
  return out;
}

std::string joined(const std::vector<std::string>& words, const char* by) {
  std::string out;
  for (const std::string& w : words) out += (out.empty() ? "" : by) + w;
  return out;
}

std::vector<std::string> names_of(const CommandText& command) {
  std::vector<std::string> out;
  for (const CommandText& c : command.commands) out.push_back(c.name);
  for (const OptionText& o : command.options) {
    if (!positional(o)) out.insert(out.end(), o.names.begin(), o.names.end());
    if (positional(o) && value_kind(o) == ValueKind::words) {
      for (const std::string& w : value_words(o.value)) out.push_back(w);
    }
  }
  return out;
}

bool takes_file(const CommandText& command) {
  return std::any_of(command.options.begin(), command.options.end(),
                     [](const OptionText& o) { return positional(o) && value_kind(o) == ValueKind::file; });
}

std::string bash_values(const Path& p) {
  std::string out;
  for (const OptionText& o : p.command->options) {
    if (o.value.empty() || positional(o)) continue;
    std::string patterns;
    for (const std::string& name : o.names) patterns += (patterns.empty() ? "" : "|") + ("'" + p.path + " " + name + "'");
    const ValueKind kind = value_kind(o);
    const std::string words = kind == ValueKind::words       ? "compgen -W '" + joined(value_words(o.value), " ") + "' -- \"$cur\""
                              : kind == ValueKind::directory ? "compopt -o filenames 2>/dev/null; compgen -d -- \"$cur\""
                              : kind == ValueKind::file      ? "compopt -o filenames 2>/dev/null; compgen -f -- \"$cur\""
                                                             : ":";
    const size_t semicolon = words.find("; ");
    const std::string before = semicolon == std::string::npos ? "" : words.substr(0, semicolon + 2);
    const std::string list = semicolon == std::string::npos ? words : words.substr(semicolon + 2);
    out += "    " + patterns + ") " + before + "mapfile -t COMPREPLY < <(" + list + "); return ;;\n";
  }
  return out;
}

std::string bash_script(const CommandText& program) {
  std::string commands;
  std::string values;
  std::string names;
  for (const Path& p : paths_of(program)) {
    if (!p.path.empty()) commands += (commands.empty() ? "" : "|") + p.path;
    values += bash_values(p);
    const std::string list = joined(names_of(*p.command), " ");
    names += "    '" + p.path + "') mapfile -t COMPREPLY < <(compgen -W '" + list + "' -- \"$cur\"" +
             (takes_file(*p.command) ? "; compgen -f -- \"$cur\"" : "") + ") ;;\n";
  }
  return "# bash completion for moegen: source <(moegen completion bash)\n"
         "_moegen() {\n"
         "  local cur=\"${COMP_WORDS[COMP_CWORD]}\" before=\"${COMP_WORDS[COMP_CWORD-1]}\" path= i\n"
         "  # --option=value comes as three words\n"
         "  if [[ $cur == '=' ]]; then cur=; elif [[ $before == '=' && COMP_CWORD -gt 1 ]]; then before=\"${COMP_WORDS[COMP_CWORD-2]}\"; fi\n"
         "  for ((i = 1; i < COMP_CWORD; ++i)); do\n"
         "    case \"$path/${COMP_WORDS[i]}\" in\n      " +
         commands +
         ") path=\"$path/${COMP_WORDS[i]}\" ;;\n"
         "    esac\n"
         "  done\n"
         "  case \"$path $before\" in\n" +
         values + "  esac\n  case \"$path\" in\n" + names +
         "  esac\n"
         "}\n"
         "complete -F _moegen moegen\n";
}

std::string zsh_action(const OptionText& o) {
  switch (value_kind(o)) {
    case ValueKind::words:
      return "(" + joined(value_words(o.value), " ") + ")";
    case ValueKind::directory:
      return "_files -/";
    case ValueKind::file:
      return "_files";
    case ValueKind::none:
      break;
  }
  return " ";
}

std::string zsh_option(const OptionText& o) {
  const std::string value = o.value.empty() ? "" : ":" + quoted(value_kind(o) == ValueKind::words ? "value" : o.value, ":\\") + ":" + zsh_action(o);
  if (positional(o)) return " \\\n    '1" + value + "'";
  const std::string rest = "[" + quoted(o.help, "[]\\") + "]" + value + "'";
  std::string out;
  for (const std::string& name : o.names) out += " \\\n    '*" + name + (o.value.empty() ? "" : name.starts_with("--") ? "=" : "+") + rest;
  return out;
}

std::string zsh_function(const Path& p) {
  std::string name = "_moegen" + p.path;
  std::replace(name.begin(), name.end(), '/', '_');
  std::replace(name.begin(), name.end(), '-', '_');
  std::string out = name + "() {\n  local curcontext=\"$curcontext\" state line\n  typeset -A opt_args\n  _arguments -C -s";
  for (const OptionText& o : p.command->options) out += zsh_option(o);
  if (p.command->commands.empty()) return out + "\n}\n";
  out += " \\\n    '1: :->command' \\\n    '*:: :->rest'\n  case $state in\n    command)\n      local -a commands=(";
  for (const CommandText& c : p.command->commands) out += "\n        '" + c.name + ":" + quoted(c.help, ":\\") + "'";
  out += ")\n      _describe command commands ;;\n    rest)\n      case $line[1] in\n";
  for (const CommandText& c : p.command->commands) {
    std::string function = name + "_" + c.name;
    std::replace(function.begin(), function.end(), '-', '_');
    out += "        " + c.name + ") " + function + " ;;\n";
  }
  return out + "      esac ;;\n  esac\n}\n";
}

std::string zsh_script(const CommandText& program) {
  std::string out = "#compdef moegen\n# zsh completion for moegen: moegen completion zsh > DIR_OF_FPATH/_moegen\n";
  for (const Path& p : paths_of(program)) out += zsh_function(p);
  return out + "if [ \"$funcstack[1]\" = \"_moegen\" ]; then _moegen \"$@\"; else compdef _moegen moegen; fi\n";
}

// Holds where all commands of the path, and none below, were given.
std::string fish_condition(const Path& p) {
  std::string out;
  std::istringstream in(p.path);
  for (std::string part; std::getline(in, part, '/');) {
    if (!part.empty()) out += (out.empty() ? "" : "; and ") + ("__fish_seen_subcommand_from " + part);
  }
  if (p.path.empty()) return "__fish_use_subcommand";
  for (const CommandText& c : p.command->commands) out += "; and not __fish_seen_subcommand_from " + c.name;
  return out;
}

std::string fish_option(const OptionText& o) {
  std::string out;
  for (const std::string& name : o.names) {
    if (name.starts_with("--")) out += " -l " + name.substr(2);
    if (!name.starts_with("--") && name.starts_with("-")) out += " -s " + name.substr(1);
  }
  const ValueKind kind = value_kind(o);
  if (!o.value.empty() && !positional(o)) out += kind == ValueKind::file ? " -r -F" : " -x";
  if (positional(o) && kind == ValueKind::file) out += " -F";
  if (kind == ValueKind::words) out += " -a '" + joined(value_words(o.value), " ") + "'";
  if (kind == ValueKind::directory) out += " -a '(__fish_complete_directories)'";
  return out + " -d '" + quoted(o.help.substr(0, o.help.find('\n'))) + "'";
}

std::string fish_script(const CommandText& program) {
  std::string out = "# fish completion for moegen: moegen completion fish > ~/.config/fish/completions/moegen.fish\ncomplete -c moegen -f\n";
  for (const Path& p : paths_of(program)) {
    const std::string begin = "complete -c moegen -n '" + fish_condition(p) + "'";
    for (const CommandText& c : p.command->commands) out += begin + " -a " + c.name + " -d '" + quoted(c.help) + "'\n";
    for (const OptionText& o : p.command->options) out += begin + fish_option(o) + "\n";
  }
  return out;
}

}  // namespace

std::string completion_script(const CommandText& program, const std::string& shell) {
  if (shell == "bash") return bash_script(program);
  if (shell == "zsh") return zsh_script(program);
  if (shell == "fish") return fish_script(program);
  throw std::invalid_argument("completion: expected bash, zsh or fish, found " + shell);
}
