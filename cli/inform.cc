#include "inform.h"

#include <iostream>

#include "command_text.h"
#include "moegen/doctor.h"
#include "moegen/report.h"
#include "moegen/version.h"
#include "options.h"

InformCommands::InformCommands(CLI::App& app)
    : app_(app),
      doctor_(app.add_subcommand("doctor", "what this machine has for such runs, and what to change to be faster")),
      report_(app.add_subcommand("report", "a page to look at, of what run-batch --metrics wrote")),
      completion_(app.add_subcommand("completion", "completions for a shell, to be sourced by it")),
      man_(app.add_subcommand("man", "the manual page: moegen man | man -l -")) {
  doctor_->add_option("-m,--model", directory_, "also the file system of this directory, and how fast it is read")->type_name("DIR");
  doctor_->add_flag("--json", json_, "as JSON");
  doctor_->footer("Changes nothing; commands that do are shown. Example: moegen doctor -m DIR");
  report_->add_option("METRICS", metrics_, "what --metrics wrote; also of a run that goes on")->required()->type_name("FILE.jsonl");
  report_->add_option("-o,--output-file", page_, "one HTML file that needs nothing else; - is stdout")->required()->type_name("FILE.html");
  report_->footer("Example: moegen report metrics.jsonl -o report.html");
  completion_->add_option("SHELL", shell_, "of which shell")
      ->required()
      ->check(silent(CLI::IsMember({"bash", "zsh", "fish"})))
      ->type_name("bash|zsh|fish");
  completion_->footer(
      "source <(moegen completion bash)\n"
      "moegen completion zsh > \"${fpath[1]}/_moegen\"\n"
      "moegen completion fish > ~/.config/fish/completions/moegen.fish");
}

bool InformCommands::parsed() const { return doctor_->parsed() || report_->parsed() || completion_->parsed() || man_->parsed(); }

void InformCommands::run() const {
  if (doctor_->parsed()) moegen::doctor(directory_, json_, std::cout);
  if (report_->parsed()) moegen::write_report(metrics_, page_, std::cout);
  if (completion_->parsed()) std::cout << completion_script(command_text(app_), shell_);
  const std::string version = moegen::version_text();
  if (man_->parsed()) std::cout << man_page(command_text(app_), version.substr(0, version.find(" (")), MOEGEN_DATE);
}
