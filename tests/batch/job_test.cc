#include "batch/job.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <set>
#include <thread>

#include "moegen/error.h"
#include "tests/batch/scripted_engine.h"

namespace moegen::testing {
namespace {

using ::testing::HasSubstr;

std::string input_of(int requests) {
  std::string text;
  for (int i = 0; i < requests; ++i) text += request_text(fmt::format("r{}", i)) + "\n";
  return text;
}

std::string error_of(const BatchOptions& options) {
  try {
    run_job(options);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

// Answers without the second in which they were made.
std::multiset<std::string> answers_of(const std::string& path) {
  std::multiset<std::string> lines;
  for (Json line : read_lines(path)) {
    if (!line["response"].is_null()) line["response"]["body"].erase("created");
    lines.insert(line.dump());
  }
  return lines;
}

TEST(Job, ResumeAfterACutAtEveryByte) {
  const Scratch scratch;
  BatchOptions options = options_for(scratch);
  const std::string bad = "{\"broken\n";
  write_file(options.input, request_text("a") + "\n" + bad + request_text("a") + "\n" + bad + request_text("\n\xc3\xa9") + "\n" + request_text(""));
  ASSERT_EQ(run_job(options, 2), 0);
  const std::string whole = read_file(options.output);
  const auto expected = answers_of(options.output);
  ASSERT_EQ(expected.size(), 6U);
  options.resume = true;
  for (size_t cut = 0; cut <= whole.size(); ++cut) {
    write_file(options.output, whole.substr(0, cut));
    const size_t kept = whole.substr(0, cut).rfind('\n') + 1;  // npos + 1 is 0
    ASSERT_EQ(run_job(options, 2), 0);
    ASSERT_EQ(answers_of(options.output), expected) << "cut at " << cut;
    ASSERT_EQ(read_file(options.output).substr(0, kept), whole.substr(0, kept));
  }
}

TEST(Job, ResumeTakesAnswersOfOthersAndAChangedInput) {
  const Scratch scratch;
  BatchOptions options = options_for(scratch);
  options.resume = true;
  options.error_file = scratch.path("errors");
  write_file(options.output, "{\"id\":\"x\",\"custom_id\":\"r1\",\"response\":{\"status_code\":200,\"body\":{}},\"error\":null}\nnot an answer\n");
  write_file(options.error_file, "{\"id\":\"y\",\"custom_id\":\"r2\",\"response\":null,\"error\":{\"code\":\"batch_expired\"}}\n");
  write_file(options.input, "\n" + input_of(4));
  std::set<std::string> ran;
  EXPECT_EQ(run_job(options, 4, -1, [&](const Request& request) { ran.insert(request.id); }), 0);
  EXPECT_EQ(ran, (std::set<std::string>{"r0", "r3"}));
}

TEST(Job, InterruptedAndResumed) {
  const Scratch scratch;
  BatchOptions options = options_for(scratch);
  write_file(options.input, input_of(20));
  for (const bool ordered : {false, true}) {
    options.ordered = ordered;
    options.resume = false;
    EXPECT_EQ(run_job(options, 3, 7), 130);
    options.resume = true;
    EXPECT_EQ(run_job(options, 3), 0);
    const auto lines = read_lines(options.output);
    ASSERT_EQ(lines.size(), 20U);
    for (size_t i = 0; i < lines.size() && ordered; ++i) EXPECT_EQ(lines[i]["custom_id"], fmt::format("r{}", i));
  }
}

TEST(Job, OrderedKeepsErrorsInTheirPlace) {
  const Scratch scratch;
  BatchOptions options = options_for(scratch);
  options.ordered = true;
  write_file(options.input, request_text("a") + "\nbroken\n" + request_text("b") + "\n" + request_text("c", "{}") + "\n" + request_text("d"));
  EXPECT_EQ(run_job(options, 10), 0);
  std::string order;
  for (const Json& line : read_lines(options.output)) order += line["custom_id"].is_null() ? "-" : line["custom_id"].get<std::string>();
  EXPECT_EQ(order, "a-bcd");
}

TEST(Job, ErrorFileAndLimit) {
  const Scratch scratch;
  BatchOptions options = options_for(scratch);
  options.error_file = scratch.path("errors");
  options.limit = 3;
  write_file(options.input, "\n" + request_text("a") + "\n\nbroken\n" + request_text("b", R"({"prompt":[999]})") + "\n" + request_text("c"));
  EXPECT_EQ(run_job(options), 0);
  EXPECT_EQ(read_lines(options.output).size(), 1U);
  EXPECT_EQ(read_lines(options.error_file).size(), 2U);
}

TEST(Job, AnExistingOutputIsNotTouchedUnlessAsked) {
  const Scratch scratch;
  BatchOptions options = options_for(scratch);
  write_file(options.input, input_of(1));
  write_file(options.output, "precious");
  EXPECT_THAT(error_of(options), AllOf(HasSubstr("--resume"), HasSubstr("--no-resume")));
  options.resume = true;
  EXPECT_THAT(error_of(options), HasSubstr("right file"));
  write_file(options.output, "precious\nmore\n");
  EXPECT_THAT(error_of(options), HasSubstr("right file"));
  EXPECT_EQ(read_file(options.output), "precious\nmore\n");
  options.resume = false;
  EXPECT_EQ(run_job(options), 0);
  EXPECT_EQ(read_lines(options.output).size(), 1U);
}

TEST(Job, SameFilesByWhateverName) {
  const Scratch scratch;
  BatchOptions options = options_for(scratch);
  write_file(options.input, input_of(1));
  for (const std::optional<bool> resume : {std::optional<bool>(), std::optional(true), std::optional(false)}) {
    options.resume = resume;
    options.output = options.input;
    EXPECT_THAT(error_of(options), HasSubstr("same file"));
    options.output = scratch.path("link");
    std::filesystem::remove(options.output);
    std::filesystem::create_symlink(options.input, options.output);
    EXPECT_THAT(error_of(options), HasSubstr("same file"));
    std::filesystem::remove(options.output);
    std::filesystem::create_hard_link(options.input, options.output);
    EXPECT_THAT(error_of(options), HasSubstr("same file"));
    options.output = scratch.path("out");
    options.error_file = scratch.path("out");
    EXPECT_THAT(error_of(options), HasSubstr("same file"));
    options.error_file.clear();
  }
  EXPECT_EQ(read_file(options.input), input_of(1));
}

TEST(Job, ASecondRunOnTheSameOutputIsRefused) {
  const Scratch scratch;
  BatchOptions options = options_for(scratch);
  write_file(options.input, input_of(1));
  const Job first(options);
  EXPECT_THAT(error_of(options), HasSubstr("another run"));
}

TEST(Job, MissingInputMakesNoOutput) {
  const Scratch scratch;
  const BatchOptions options = options_for(scratch);
  EXPECT_THAT(error_of(options), HasSubstr("cannot open"));
  EXPECT_FALSE(std::filesystem::exists(options.output));
}

TEST(Job, AFullDiskEndsTheRunAndCanBeResumed) {
  const Scratch scratch;
  BatchOptions options = options_for(scratch);
  write_file(options.input, input_of(20));
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit old{};
  ::getrlimit(RLIMIT_FSIZE, &old);
  rlimit small = old;
  small.rlim_cur = 2000;  // in the middle of an answer
  ::setrlimit(RLIMIT_FSIZE, &small);
  const std::string text = error_of(options);
  ::setrlimit(RLIMIT_FSIZE, &old);
  EXPECT_THAT(text, AllOf(HasSubstr(options.output), HasSubstr("File too large"), HasSubstr("--resume")));
  EXPECT_GT(read_lines(options.output).size(), 0U);  // and no torn line
  options.resume = true;
  EXPECT_EQ(run_job(options), 0);
  EXPECT_EQ(read_lines(options.output).size(), 20U);
}

TEST(Job, WritesToAPipe) {
  const Scratch scratch;
  BatchOptions options = options_for(scratch);
  write_file(options.input, input_of(3));
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  options.output = fmt::format("/proc/self/fd/{}", ends[1]);
  EXPECT_EQ(run_job(options), 0);
  ::close(ends[1]);
  std::string text(100'000, '\0');
  text.resize(static_cast<size_t>(::read(ends[0], text.data(), text.size())));
  ::close(ends[0]);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3);
}

TEST(Job, StoppedWithinALineOfAPipe) {
  const Scratch scratch;
  BatchOptions options = options_for(scratch);
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  options.input = fmt::format("/proc/self/fd/{}", ends[0]);
  const std::string text = request_text("a") + "\n{\"custom_id\":";
  ASSERT_EQ(::write(ends[1], text.data(), text.size()), static_cast<ssize_t>(text.size()));
  Job job(options);
  job.start("m");
  const auto request = job.next();
  ASSERT_TRUE(request);
  job.done(scripted_completion(*request));
  std::thread stopper([&job] { job.stop(); });
  EXPECT_FALSE(job.next());
  stopper.join();
  EXPECT_EQ(job.finish(true), 130);
  EXPECT_EQ(read_lines(options.output).size(), 1U) << "half a line is no request";
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST(Job, MetricsHaveALinePerPassAndASummary) {
  const Scratch scratch;
  BatchOptions options = options_for(scratch);
  options.metrics_file = scratch.path("metrics");
  write_file(options.input, input_of(5) + "broken\n");
  EXPECT_EQ(run_job(options), 0);
  const auto lines = read_lines(options.metrics_file);
  ASSERT_EQ(lines.size(), 6U);
  EXPECT_EQ(lines[4]["passes"], 5);
  EXPECT_EQ(lines[5]["summary"], true);
  EXPECT_EQ(lines[5]["answered"], 6);
  EXPECT_EQ(lines[5]["failed"], 1);
}

TEST(Job, IdsDependOnTheLineAlone) {
  const Scratch scratch;
  BatchOptions options = options_for(scratch);
  options.resume = false;
  const auto ids = [&](const std::string& input) {
    write_file(options.input, input);
    run_job(options);
    std::set<std::string> found;
    for (const Json& line : read_lines(options.output)) found.insert(line["id"]);
    return found;
  };
  const auto first = ids("x\nx\n" + request_text("a") + "\n" + request_text("b"));
  EXPECT_EQ(first.size(), 4U);
  EXPECT_EQ(first, ids(request_text("b") + "\nx\n\n" + request_text("a") + "\nx\n"));
}

TEST(Job, PrometheusReplacesNothingElse) {
  const Scratch scratch;
  BatchOptions options = options_for(scratch);
  options.input = scratch.path("x.prom.tmp");
  options.prometheus_file = scratch.path("x.prom");
  write_file(options.input, input_of(2));
  EXPECT_EQ(run_job(options), 0);
  EXPECT_EQ(read_file(options.input), input_of(2));
  EXPECT_THAT(read_file(options.prometheus_file), HasSubstr("moegen_job_finished 1"));
  options.output = scratch.path("other");
  options.prometheus_file = scratch.path("pipe");
  ASSERT_EQ(::mkfifo(options.prometheus_file.c_str(), 0600), 0);
  EXPECT_THAT(error_of(options), HasSubstr("no regular file"));
  options.prometheus_file = "-";
  EXPECT_THAT(error_of(options), HasSubstr("has to be a file"));
}

TEST(Job, MetricsThatCannotBeWrittenStopNoJob) {
  const Scratch scratch;
  BatchOptions options = options_for(scratch);
  write_file(options.input, input_of(3));
  options.metrics_file = "/dev/full";
  EXPECT_EQ(run_job(options), 0);
  EXPECT_EQ(read_lines(options.output).size(), 3U);
}

TEST(Job, AnErrorEndsWhatWatchesTheJobToo) {
  const Scratch scratch;
  BatchOptions options = options_for(scratch);
  write_file(options.input, input_of(3));
  options.prometheus_file = scratch.path("x.prom");
  options.metrics_file = scratch.path("metrics");
  Job job(options);
  job.start("the-model");
  job.fail();
  EXPECT_THAT(read_file(options.prometheus_file), HasSubstr("moegen_job_running 0"));
  EXPECT_THAT(read_file(options.metrics_file), HasSubstr("\"summary\""));
}

TEST(Job, AnInputThatIsCutOffWhileItIsReadIsNoWholeOne) {
  const Scratch scratch;
  BatchOptions options = options_for(scratch);
  write_file(options.input, input_of(20'000));
  try {
    run_job(options, 1, -1, [&](const Request&) { std::filesystem::resize_file(options.input, 1000); });
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("was cut off while it was read"));
  }
}

// Half a line that was answered, because the input was cut off or still written, has one answer when it is whole: its own.
TEST(Job, HalfALineIsAskedAgainWhenItIsWhole) {
  const Scratch scratch;
  BatchOptions options = options_for(scratch);
  options.resume = true;
  const std::string whole = input_of(20);
  write_file(options.input, whole.substr(0, whole.size() / 2 - 3));
  EXPECT_EQ(run_job(options), 0);
  EXPECT_THAT(read_file(options.output), HasSubstr("invalid_json_line"));
  const size_t answers = read_lines(options.output).size();
  EXPECT_EQ(run_job(options), 0) << "the same again";
  EXPECT_EQ(read_lines(options.output).size(), answers);
  write_file(options.input, whole);
  EXPECT_EQ(run_job(options), 0);
  const std::vector<Json> lines = read_lines(options.output);
  EXPECT_EQ(lines.size(), 20U);
  for (const Json& line : lines) EXPECT_TRUE(line["error"].is_null()) << line;
}

TEST(Job, HalfALineOfAFileThatChangedMeanwhileIsNotAnswered) {
  const Scratch scratch;
  BatchOptions options = options_for(scratch);
  const std::string whole = input_of(20'000);
  for (const bool longer : {false, true}) {
    options.resume = false;
    write_file(options.input, longer ? whole.substr(0, whole.size() - 10) : whole);
    const std::string error = longer ? "is still being written" : "was cut off";
    bool done = false;
    try {
      run_job(options, 1, -1, [&](const Request&) {
        if (std::exchange(done, true)) return;
        if (longer) std::ofstream(options.input, std::ios::app) << "x";
        if (!longer) std::filesystem::resize_file(options.input, whole.size() - 10);
      });
      ADD_FAILURE();
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr(error));
    }
    write_file(options.input, whole);
    options.resume = true;
    EXPECT_EQ(run_job(options), 0);
    EXPECT_EQ(read_lines(options.output).size(), 20'000U);
  }
}

// Before memory is planned no more is kept of a line than the run's memory allows.
TEST(Job, ALongLineIsComparedInLittleMemory) {
  const Scratch scratch;
  BatchOptions options = options_for(scratch);
  options.resume = true;
  options.host_memory = uint64_t{64} << 20;
  write_file(options.input, request_text("a") + "\n" + request_text("long", R"({"prompt":")" + std::string(30 << 20, 'x') + R"("})") + "\n");
  rusage before{};
  ::getrusage(RUSAGE_SELF, &before);
  for (int i = 0; i < 2; ++i) {
    std::filesystem::last_write_time(options.input, std::filesystem::file_time_type::clock::now());
    Job job(options);
    job.start("the-model", uint64_t{32} << 20);
    while (auto request = job.next()) job.done(scripted_completion(*request));
    EXPECT_EQ(job.finish(true), 0);
  }
  rusage after{};
  ::getrusage(RUSAGE_SELF, &after);
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 40 << 10) << "KiB";
  EXPECT_EQ(read_lines(options.output).size(), 2U);
}

// What is too long depends on the memory of a run; which request a line is does not.
TEST(Job, ALineThatIsTooLongIsTheSameInEveryRun) {
  const Scratch scratch;
  BatchOptions options = options_for(scratch);
  options.resume = true;
  const std::string prompt(300'000, 'x');
  write_file(options.input, request_text("long", R"({"prompt":")" + prompt + R"("})") + "\n" + R"({"prompt":")" + prompt + R"("})" + "\n" +
                                request_text("a") + "\n");
  for (const uint64_t memory : {uint64_t{4} << 20, uint64_t{8} << 20, uint64_t{16} << 20}) {
    Job job(options);
    job.start("the-model", memory);
    while (auto request = job.next()) job.done(scripted_completion(*request));
    EXPECT_EQ(job.finish(true), 0);
    const std::vector<Json> lines = read_lines(options.output);
    ASSERT_EQ(lines.size(), 3U) << memory;
    EXPECT_EQ(lines[0]["custom_id"], "long");
    EXPECT_EQ(lines[0]["error"]["code"], "invalid_json_line");
  }
}

TEST(Job, OthersFormatsAreNamedAndNotTakenForLines) {
  const Scratch scratch;
  BatchOptions options = options_for(scratch);
  write_file(options.input, std::string("\xfd"
                                        "7zXZ\0 and so on",
                                        16));
  EXPECT_THAT(error_of(options), HasSubstr("xz -dc"));
  for (const char* array : {"[{\"prompt\":[5]}]\n", "\n[\n  {\"prompt\":[5]}\n]\n", "[ {"}) {
    write_file(options.input, array);
    EXPECT_THAT(error_of(options), HasSubstr("jq -c")) << array;
    EXPECT_THROW(static_cast<void>(sample_requests(options, "m", nullptr)), Error) << "before a model is loaded";
  }
  for (const char* csv : {"prompt\nhello\n", "custom_id,text\na,b\n", "id;\"prompt\"\n1;2\n", "\xEF\xBB\xBFid\t prompt \r\n"}) {
    write_file(options.input, csv);
    EXPECT_THAT(error_of(options), HasSubstr("CSV")) << csv;
  }
  for (const std::string& utf16 : {std::string("\xff\xfe{\0\"\0", 6), std::string("\xfe\xff\0{\0\"", 6), std::string("{\0\"\0p\0", 6)}) {
    write_file(options.input, utf16);
    EXPECT_THAT(error_of(options), HasSubstr("iconv"));
  }
}

TEST(Job, AFirstLineThatIsBadIsNoOtherFormat) {
  const Scratch scratch;
  BatchOptions options = options_for(scratch);
  for (const std::string bad : {"[1,2]", "[]", "{", "nonsense", "prompts, messages2", "{\"stop\":[\"a\",\"prompt\",\"b\"]}", ",,;"}) {
    write_file(options.input, bad + "\n" + request_text("a"));
    options.resume = false;
    EXPECT_EQ(run_job(options), 0) << bad;
    EXPECT_EQ(read_lines(options.output).size(), 2U) << bad;
  }
}

// One long answer at the head of ordered ones: an interruption loses none of those behind it.
TEST(Job, OrderedAnswersThatWaitSurviveAnInterruption) {
  const Scratch scratch;
  BatchOptions options = options_for(scratch);
  options.ordered = true;
  options.resume = true;
  write_file(options.input, input_of(12));
  const std::string waiting = options.output + ".waiting";
  EXPECT_EQ(run_job(options, 12, 5), 130);
  EXPECT_EQ(read_file(options.output), "") << "the first is missing";
  EXPECT_TRUE(std::filesystem::exists(waiting));
  std::vector<std::string> asked;
  const auto look = [&](const Request& request) { asked.push_back(request.id); };
  EXPECT_EQ(run_job(options, 12, 3, look), 130) << "again, before all of them had their turn";
  EXPECT_EQ(asked.size(), 7U);
  asked.clear();
  const std::string before = read_file(waiting);
  write_file(waiting, before.substr(0, before.size() - 20));  // torn: that one is asked again
  EXPECT_EQ(run_job(options, 12, -1, look), 0);
  EXPECT_EQ(asked.size(), 5U);
  EXPECT_FALSE(std::filesystem::exists(waiting));
  const std::vector<Json> lines = read_lines(options.output);
  ASSERT_EQ(lines.size(), 12U);
  for (size_t i = 0; i < lines.size(); ++i) EXPECT_EQ(lines[i]["custom_id"], fmt::format("r{}", i));
}

// In order also where answers in the middle are made again, whatever ends the run in between.
TEST(Job, OrderedStaysOrderedWhereAnswersAreMadeAgain) {
  for (const bool error_file : {false, true}) {
    const Scratch scratch;
    BatchOptions options = options_for(scratch);
    options.ordered = true;
    if (error_file) options.error_file = scratch.path("errors");
    std::string text;
    for (int i = 0; i < 12; ++i)
      text +=
          request_text(fmt::format("r{}", i), i == 3 || i == 8 ? R"({"prompt":[999],"max_tokens":2})" : R"({"prompt":[5],"max_tokens":2})") + "\n";
    write_file(options.input, text);
    EXPECT_EQ(run_job(options, 5), 0);
    for (size_t at; (at = text.find("999")) != std::string::npos;) text.replace(at, 3, "9");
    write_file(options.input, text);
    options.retry_failed = true;
    options.changed = "redo";
    std::vector<std::string> asked;
    const auto look = [&](const Request& request) { asked.push_back(request.id); };
    EXPECT_EQ(run_job(options, 5, 1, look), 130);
    EXPECT_EQ(run_job(options, 5, -1, look), 0);
    std::vector<std::string> order;
    for (const Json& line : read_lines(options.output)) order.push_back(line["custom_id"]);
    std::vector<std::string> want;
    for (int i = 0; i < 12; ++i) want.push_back(fmt::format("r{}", i));
    EXPECT_EQ(order, want);
    for (const std::string& id : asked) EXPECT_TRUE(id == "r3" || id == "r8") << id;
    EXPECT_FALSE(std::filesystem::exists(options.output + ".waiting"));
  }
}

}  // namespace
}  // namespace moegen::testing
