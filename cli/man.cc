#include <sstream>

#include "command_text.h"

namespace {

// Text that is no request to roff: no dot or quote begins a line, a backslash is one, a hyphen that is typed is one.
std::string roff(const std::string& text, bool typed = false) {
  std::string out;
  bool begins = true;
  for (const char c : text) {
    if (begins && (c == '.' || c == '\'')) out += "\\&";
    if (c == '\\') {
      out += "\\e";
    } else if (c == '|' && typed) {
      out += "|\\:";  // a line may end here
    } else if (c == '-' && typed) {
      out += "\\-";
    } else if (c == '\'') {
      out += "\\(aq";
    } else if (c == '^') {
      out += "\\(ha";
    } else if (c == '~') {
      out += "\\(ti";
    } else if (c == '`') {
      out += "\\(ga";
    } else {
      out += c;
    }
    begins = c == '\n';
  }
  return out;
}

void add_option(const OptionText& o, std::string& out) {
  out += ".TP\n";
  std::string names;
  for (const std::string& name : o.names) names += (names.empty() ? "" : ", ") + ("\\fB" + roff(name, true) + "\\fR");
  out += names + (o.value.empty() ? "" : " \\fI" + roff(o.value, true) + "\\fR") + "\n";
  out += roff(o.help) + (o.required ? " (required)" : "") + "\n";
}

void add_command(const CommandText& command, const std::string& name, std::string& out) {
  out += ".SS " + roff(name, true) + "\n" + roff(command.help) + "\n";
  for (const OptionText& o : command.options) add_option(o, out);
  if (!command.footer.empty()) out += ".PP\n.nf\n" + roff(command.footer, true) + "\n.fi\n";
  for (const CommandText& c : command.commands) add_command(c, name + " " + c.name, out);
}

}  // namespace

std::string man_page(const CommandText& program, const std::string& version, const std::string& date) {
  std::string out =
      ".\\\" What moegen man writes, from the table of --help.\n.TH MOEGEN 1 \"" + date + "\" \"" + roff(version) + "\" \"User Commands\"\n";
  out += ".SH NAME\nmoegen \\- offline, high-throughput inference of Mixture-of-Experts models\n";
  out += ".SH SYNOPSIS\n.B moegen\n.I COMMAND\n.RI [ OPTION ...]\n";
  out +=
      ".SH DESCRIPTION\nRuns Mixture-of-Experts language models over files of prompts, for throughput and not for latency: OpenAI batch lines\n"
      "go in, a line for each request comes out as it finishes. A run that was interrupted or killed can be resumed.\n";
  out += ".SH OPTIONS\n";
  for (const OptionText& o : program.options) add_option(o, out);
  out += ".SH COMMANDS\n";
  for (const CommandText& c : program.commands) add_command(c, c.name, out);
  out +=
      ".SH EXIT STATUS\n.TP\n.B 0\nAll requests are answered; errors of single requests are in the output.\n"
      ".TP\n.B 1\nThe job could not start or had to stop; the message says what, where, and what to do.\n"
      ".TP\n.B 2\nThe command line is wrong.\n"
      ".TP\n.B 130\nInterrupted after a clean flush; the job can be resumed.\n";
  out += ".SH FILES\n.TP\n.I $XDG_CACHE_HOME/moegen\nRates of this machine, as measured; in its absence\n.IR \\(ti/.cache/moegen .\n";
  return out;
}
