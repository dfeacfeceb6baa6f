#include <gmock/gmock.h>

#include <regex>
#include <set>

#include "tests/contract/process.h"

namespace moegen::testing {
namespace {

using ::testing::Contains;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

const std::vector<std::vector<std::string>> kCommands = {{},          {"run-batch"}, {"generate"},         {"plan"},          {"simulate"},
                                                         {"inspect"}, {"tokenize"},  {"bench", "machine"}, {"bench", "gemm"}, {"bench", "throughput"},
                                                         {"doctor"},  {"report"}};

bool have(const std::string& program) { return std::system(("command -v " + program + " > /dev/null").c_str()) == 0; }

class Inform : public Process {
 protected:
  // The options that --help shows.
  std::set<std::string> options_of(std::vector<std::string> command) {
    command.emplace_back("--help");
    const std::string help = run(command).out;
    std::set<std::string> out;
    const std::regex option("\n +(?:-[a-z],)?(--[a-z][a-z-]*)");
    for (std::sregex_iterator at(help.begin(), help.end(), option); at != std::sregex_iterator(); ++at) out.insert((*at)[1]);
    EXPECT_THAT(out, Contains("--help"));
    return out;
  }

  // What a shell says to a script.
  std::string shell(const std::string& program, const std::string& script) {
    std::ofstream(dir / "script") << script;
    const std::string command = fmt::format("cd {0} && {1} {0}/script > {0}/said 2> {0}/complaint", dir.string(), program);
    EXPECT_EQ(std::system(command.c_str()), 0) << slurp(dir / "complaint");
    EXPECT_EQ(slurp(dir / "complaint"), "") << program;
    return slurp(dir / "said");
  }

  std::vector<std::string> complete(const std::vector<std::string>& words) {
    std::string script = fmt::format("source <('{}' completion bash)\ncomplete -p moegen > /dev/null || exit 1\nCOMP_WORDS=(", MOEGEN_EXE);
    for (const std::string& w : words) script += "'" + w + "' ";
    script += fmt::format(")\nCOMP_CWORD={}\n_moegen\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n", words.size() - 1);
    std::istringstream said(shell("bash", script));
    std::vector<std::string> out;
    for (std::string line; std::getline(said, line);) {
      if (!line.empty()) out.push_back(line);
    }
    return out;
  }
};

TEST_F(Inform, BashCompletes) {
  EXPECT_EQ(complete({"moegen", "run"}), std::vector<std::string>{"run-batch"});
  EXPECT_THAT(complete({"moegen", "bench", ""}), Contains("throughput"));
  EXPECT_THAT(complete({"moegen", "run-batch", "--pro"}), ::testing::UnorderedElementsAre("--progress", "--prometheus"));
  EXPECT_THAT(complete({"moegen", "run-batch", "--progress", "b"}), ::testing::ElementsAre("bar"));
  EXPECT_THAT(complete({"moegen", "run-batch", "--progress", "=", "b"}), ::testing::ElementsAre("bar"));
  EXPECT_THAT(complete({"moegen", "run-batch", "--progress", "="}), ::testing::SizeIs(4));
  EXPECT_THAT(complete({"moegen", "generate", "--pro"}), ::testing::UnorderedElementsAre("--prompt", "--prompt-file"));
  EXPECT_THAT(complete({"moegen", "bench", "gemm", "--weights", ""}), Contains("mxfp4"));
  EXPECT_THAT(complete({"moegen", "completion", "z"}), ::testing::ElementsAre("zsh"));
  EXPECT_THAT(complete({"moegen", "completion", ""}), ::testing::IsSupersetOf({"bash", "zsh", "fish"}));
  EXPECT_THAT(complete({"moegen", "run-batch", "--changed", ""}), ::testing::ElementsAre("stop", "keep", "redo"));
  std::filesystem::create_directories(dir / "my models");
  std::ofstream(dir / "my file.jsonl") << "";
  EXPECT_THAT(complete({"moegen", "run-batch", "-m", "my"}), ::testing::ElementsAre("my models"));
  EXPECT_THAT(complete({"moegen", "run-batch", "-m", "x", "-i", "my f"}), ::testing::ElementsAre("my file.jsonl"));
  EXPECT_THAT(complete({"moegen", "run-batch", "--seed", ""}), IsEmpty());
}

TEST_F(Inform, CompletionsAndTheManualHaveEveryOptionOfHelp) {
  const std::string man = run({"man"}).out;
  for (const auto& command : kCommands) {
    std::vector<std::string> words{"moegen"};
    words.insert(words.end(), command.begin(), command.end());
    words.emplace_back("--");
    const std::vector<std::string> completed = complete(words);
    for (const std::string& option : options_of(command)) {
      EXPECT_THAT(completed, Contains(option)) << words[1];
      EXPECT_THAT(man, HasSubstr(std::regex_replace(option, std::regex("-"), "\\-"))) << option;
    }
    EXPECT_THAT(completed, Each(StartsWith("--")));
  }
}

// CLI11 appends what a check says of itself to the type, unless that is empty.
TEST_F(Inform, TheTableOfFamiliesIsInTheDocs) {
  const std::string docs = slurp(std::filesystem::path(MOEGEN_SOURCE_DIR) / "docs" / "families.md");
  EXPECT_NE(docs.find("```text\n" + run({"inspect"}).out + "```"), std::string::npos) << "write what `moegen inspect` prints into docs/families.md";
}

TEST_F(Inform, ValuesAreWrittenOnce) {
  std::vector<std::vector<std::string>> commands = kCommands;
  commands.push_back({"completion"});
  for (std::vector<std::string> command : commands) {
    command.emplace_back("--help");
    EXPECT_THAT(run(command).out, ::testing::Not(::testing::ContainsRegex("[a-z]:[{][a-z]"))) << command.front();
  }
  for (const char* shell : {"bash", "zsh", "fish"}) EXPECT_THAT(run({"completion", shell}).out, ::testing::Not(HasSubstr("fish:"))) << shell;
}

TEST_F(Inform, ZshAndFishReadTheirs) {
  if (!have("zsh") && !have("fish")) GTEST_SKIP() << "neither zsh nor fish is here (apt-get install zsh fish)";
  if (have("zsh")) {
    std::ofstream(dir / "_moegen") << run({"completion", "zsh"}).out;
    shell("zsh -f", fmt::format("fpath=('{}' $fpath)\nautoload -Uz compinit && compinit -D -u\n[[ $_comps[moegen] == _moegen ]]\n", dir.string()));
    EXPECT_EQ(shell("zsh -n", slurp(dir / "_moegen")), "");
  }
  if (have("fish")) {
    std::ofstream(dir / "moegen.fish") << run({"completion", "fish"}).out;
    const auto said = [&](const std::string& line) {
      return shell("fish --no-config", fmt::format("source {}/moegen.fish\ncomplete -C '{}'\n", dir.string(), line));
    };
    EXPECT_THAT(said("moegen run-"), StartsWith("run-batch\t"));
    EXPECT_THAT(said("moegen run-batch --prom"), StartsWith("--prometheus\t"));
    EXPECT_THAT(said("moegen run-batch --progress b"), StartsWith("bar"));
    EXPECT_THAT(said("moegen bench gemm --weights f"), StartsWith("fp8"));
    EXPECT_THAT(said("moegen bench ma"), StartsWith("machine\t"));
  }
}

TEST_F(Inform, TheManualHasNoFaults) {
  const std::string page = run({"man"}).out;
  for (const char* section : {".SH NAME", ".SH SYNOPSIS", ".SH COMMANDS", ".SS run\\-batch", ".SS bench gemm", ".SH EXIT STATUS"})
    EXPECT_THAT(page, HasSubstr(section));
  if (!have("groff") && !have("mandoc")) GTEST_SKIP() << "neither groff nor mandoc is here";
  if (have("groff")) {
    EXPECT_THAT(shell("groff -man -Tutf8 -ww", page), HasSubstr("throughput"));
  }
  if (have("mandoc")) {
    EXPECT_EQ(shell("mandoc -Tlint -Wwarning", page), "");
  }
}

TEST_F(Inform, DoctorAndUsage) {
  const Result doctor = run({"doctor", "--json"});
  EXPECT_EQ(doctor.status, 0);
  EXPECT_GT(nlohmann::json::parse(doctor.out)["findings"].size(), 10U);
  EXPECT_EQ(run({"doctor", "-m", "/no/such"}).status, 1);
  EXPECT_EQ(run({"completion", "tcsh"}).status, 2);
  EXPECT_EQ(run({"report", "x"}).status, 2);
}

TEST_F(Inform, AResumedJobIsPlannedForWhatIsLeft) {
  const std::vector<std::string> command{"run-batch", "-m",        kModels / "qwen3_moe",   "-i",      requests(5, 2),
                                         "-o",        dir / "out", "--skip-tokenizer-init", "--resume"};
  EXPECT_THAT(run(command).err, HasSubstr("about 5 requests"));
  EXPECT_THAT(run(command).err, HasSubstr("time     nothing to compute"));
}

TEST_F(Inform, AJobIsReportedFromItsStartToItsPage) {
  const auto model = kModels / "qwen3_moe";
  const Result result = run({"run-batch", "-m", model, "-i", requests(40, 6), "-o", dir / "out.jsonl", "--skip-tokenizer-init", "--metrics",
                             dir / "m.jsonl", "--prometheus", dir / "job.prom", "--progress", "plain"});
  ASSERT_EQ(result.status, 0) << result.err;
  for (const char* text :
       {"model    qwen3_moe: qwen3_moe", "weights  ", "all in memory", "KV       ", "plan     passes of up to", "memory   ",
        "time     not known for about 40 requests", "moegen bench machine -m", "done: 40 requests answered in", "  slowest   ", "  answers   "})
    EXPECT_THAT(result.err, HasSubstr(text));
  EXPECT_THAT(slurp(dir / "job.prom"), HasSubstr("moegen_job_finished 1\n"));
  ASSERT_EQ(run({"report", dir / "m.jsonl", "-o", dir / "page.html"}).status, 0);
  EXPECT_THAT(slurp(dir / "page.html"), HasSubstr("40</b><span>answered, none with an error"));
  std::ifstream metrics(dir / "m.jsonl");
  std::string line;
  std::getline(metrics, line);
  const auto first = nlohmann::json::parse(line);
  EXPECT_GT(first["pass_tokens_per_expert"], 0);
  EXPECT_GT(first["resident_memory"], 1 << 20);
  EXPECT_TRUE(first["seconds_left"].is_number()) << "after the first pass already";
}

}  // namespace
}  // namespace moegen::testing
