#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>

/// The commands that tell and run nothing: doctor, report, completion, man.
class InformCommands {
 public:
  explicit InformCommands(CLI::App& app);
  /// Whether one of them was given.
  [[nodiscard]] bool parsed() const;
  /// To stdout.
  void run() const;

 private:
  const CLI::App& app_;
  CLI::App *doctor_, *report_, *completion_, *man_;
  std::filesystem::path directory_, metrics_, page_;
  bool json_ = false;
  std::string shell_;
};
