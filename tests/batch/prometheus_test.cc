#include "batch/prometheus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <regex>
#include <sstream>

#include "moegen/error.h"
#include "tests/batch/scripted_engine.h"

namespace moegen::testing {
namespace {

using ::testing::HasSubstr;

struct Family {
  std::string type;
  bool helped = false;
  std::map<std::string, double> samples;  // by the text of their labels
};

// The text format 0.0.4, and what `promtool check metrics` asks beside it: families in one piece, HELP and TYPE once and before the samples, legal
// names, counters named _total and nothing else so, no sample twice, no timestamps, label values escaped. Adds to `faults`.
std::map<std::string, Family> parse(const std::string& text, std::vector<std::string>& faults) {
  static const std::regex comment(R"(# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.+))");
  static const std::regex sample(
      R"re(([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*"(?:,[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*")*\})? ([^ ]+))re");
  std::map<std::string, Family> out;
  std::string open;
  if (text.empty() || text.back() != '\n') faults.push_back("does not end in a line feed");
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    std::smatch m;
    if (std::regex_match(line, m, comment)) {
      const std::string name = m[2];
      Family& f = out[name];
      if (m[1] == "HELP") {
        if (f.helped || !f.samples.empty() || !f.type.empty()) faults.push_back("HELP twice or late: " + name);
        f.helped = true;
      } else {
        if (!f.helped || !f.type.empty() || !f.samples.empty()) faults.push_back("TYPE without HELP, twice or late: " + name);
        f.type = m[3];
        if (f.type != "counter" && f.type != "gauge") faults.push_back("type " + f.type);
        if ((f.type == "counter") != name.ends_with("_total")) faults.push_back("counters, and only they, end in _total: " + name);
      }
      open = name;
      continue;
    }
    if (!std::regex_match(line, m, sample)) {
      faults.push_back("no sample: " + line);
      continue;
    }
    if (m[1] != open) faults.push_back("outside of its family: " + line);
    size_t used = 0;
    double value = 0;
    try {
      value = std::stod(m[3], &used);
    } catch (const std::exception&) {
    }
    if (used != m[3].str().size()) faults.push_back("no number: " + line);
    if (!out[m[1]].samples.emplace(m[2], value).second) faults.push_back("twice: " + line);
  }
  for (const auto& [name, family] : out) {
    if (family.samples.empty() || family.type.empty()) faults.push_back("without samples or type: " + name);
  }
  return out;
}

JobStatus status() {
  JobStatus s;
  s.answered = 50;
  s.failed = 3;
  s.total = 160;
  s.seconds = 1e7;
  s.memory = uint64_t{5} << 40;
  s.errors = {{"a\"b\\c\nd", 2, "x", 1}, {"other", 1, "", 2}};
  s.engine.passes = 1234567890123;
  s.engine.seconds_left = 3;
  s.engine.seconds_left_at = 1e7;
  s.engine.predicted.passes = 0.1;
  return s;
}

TEST(Prometheus, AStrictParserTakesEveryLine) {
  EngineInfo info;
  info.model_name = "evil\"} 1\nmoegen_job_finished 1\n\\ \xff\x01";
  std::vector<std::string> faults;
  const auto families = parse(prometheus_text(status(), info, JobState::running), faults);
  EXPECT_THAT(faults, ::testing::IsEmpty());
  const auto value = [&](const std::string& name) { return families.at("moegen_" + name).samples.at(""); };
  EXPECT_EQ(value("requests"), 160);
  EXPECT_EQ(value("requests_answered_total"), 50);
  EXPECT_EQ(value("passes_total"), 1234567890123);
  EXPECT_EQ(value("resident_memory_bytes"), 5.0 * (uint64_t{1} << 40));
  EXPECT_EQ(value("job_running"), 1);
  EXPECT_EQ(value("job_finished"), 0);
  EXPECT_EQ(value("seconds_left"), 3);
  EXPECT_EQ(families.at("moegen_errors_total").samples.at(R"({code="a\"b\\c\nd"})"), 2);
  EXPECT_EQ(families.at("moegen_info").samples.size(), 1U);
}

TEST(Prometheus, TimeIsLeftOnlyWhereARunGoesOnOrEnded) {
  const auto has = [](JobState state) { return prometheus_text(status(), EngineInfo(), state).find("moegen_seconds_left") != std::string::npos; };
  EXPECT_TRUE(has(JobState::running));
  EXPECT_TRUE(has(JobState::finished));
  EXPECT_FALSE(has(JobState::interrupted));
}

TEST(Prometheus, TheParserOfThisTestIsStrict) {
  for (const char* bad :
       {"moegen_x 1\n", "# HELP x y\n# TYPE x gauge\nx 1", "# HELP x y\n# TYPE x gauge\nx 1 123\n", "# HELP x y\n# TYPE x counter\nx 1\n",
        "# HELP x y\n# TYPE x gauge\nx 1\nx 2\n", "# HELP x y\n# TYPE x gauge\nx{a=\"\"b\"} 1\n", "# HELP x y\n# TYPE x gauge\nx one\n",
        "# TYPE x gauge\nx 1\n", "# HELP x y\n# TYPE x gauge\n# HELP z y\n# TYPE z gauge\nz 1\nx 1\n"}) {
    std::vector<std::string> faults;
    parse(bad, faults);
    EXPECT_FALSE(faults.empty()) << bad;
  }
}

TEST(Prometheus, ReplacesTheFileInOneStep) {
  const Scratch scratch;
  const std::string file = scratch.path("x.prom");
  write_prometheus(file, "old\n");
  std::ifstream reader(file);  // has the old one
  write_prometheus(file, "new\n");
  std::string line;
  std::getline(reader, line);
  EXPECT_EQ(line, "old");
  EXPECT_EQ(read_file(file), "new\n");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(scratch.dir), {}), 1) << "nothing else is left";
  try {
    write_prometheus(scratch.path("no/x.prom"), "");
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("--prometheus " + scratch.path("no/x.prom")));
  }
}

TEST(Prometheus, AJobKeepsItsFileUpToDateAndEndsIt) {
  const Scratch scratch;
  BatchOptions options = options_for(scratch);
  options.prometheus_file = scratch.path("job.prom");
  write_file(options.input, request_text("a") + "\nbroken\n" + request_text("b") + "\n");
  bool seen = false;
  EXPECT_EQ(run_job(options, 1, -1, [&](const Request&) { seen = seen || std::filesystem::exists(options.prometheus_file); }), 0);
  EXPECT_TRUE(seen) << "there from the start";
  std::vector<std::string> faults;
  const auto families = parse(read_file(options.prometheus_file), faults);
  EXPECT_THAT(faults, ::testing::IsEmpty());
  EXPECT_EQ(families.at("moegen_job_finished").samples.at(""), 1);
  EXPECT_EQ(families.at("moegen_requests_answered_total").samples.at(""), 3);
  EXPECT_EQ(families.at("moegen_requests_failed_total").samples.at(""), 1);
  EXPECT_EQ(families.at("moegen_errors_total").samples.size(), 1U);
  options.prometheus_file = scratch.path("no/such/dir.prom");
  options.resume = false;
  EXPECT_THROW(Job{options}, Error) << "before anything runs";
  for (const std::string& other : {options.input, options.output}) {
    const std::string before = read_file(other);
    options.prometheus_file = other;
    EXPECT_THROW(Job{options}, Error);
    EXPECT_EQ(read_file(other), before);
  }
}

}  // namespace
}  // namespace moegen::testing
