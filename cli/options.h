#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "moegen/error.h"

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
