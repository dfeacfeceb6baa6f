// Scratch: only `moegen tokenize`, until the real command line is there.
#include <CLI/CLI.hpp>
#include <iostream>

#include "moegen/error.h"
#include "moegen/tokenizer.h"

int main(int argc, char** argv) {
  CLI::App app("moegen");
  std::string model;
  CLI::App* tokenize = app.add_subcommand("tokenize", "JSON lines in, one answer a line out");
  tokenize->add_option("-m,--model", model)->required();
  app.require_subcommand(1);
  CLI11_PARSE(app, argc, argv);
  std::ios::sync_with_stdio(false);
  try {
    moegen::run_tokenize(model, std::cin, std::cout);
  } catch (const moegen::Error& e) {
    std::cerr << e.what() << "\n";
    return 1;
  }
  return 0;
}
