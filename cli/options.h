#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "moegen/error.h"

/// A check whose words are in the option's help already.
inline CLI::Validator silent(const CLI::Validator& validator) {
  CLI::Validator out = validator;
  out.description("");
  return out;
}

/// An option whose text `parse` reads into `target`; what it throws is an error of that option.
template <typename T, typename Parse>
CLI::Option* add_parsed(CLI::App& app, const std::string& name, T& target, const std::string& help, const Parse& parse) {
  return app.add_option_function<std::string>(
      name,
      [&target, parse, name](const std::string& text) {
        try {
          target = parse(text);
        } catch (const moegen::Error& e) {
          throw CLI::ValidationError(name, e.what());
        }
      },
      help);
}
