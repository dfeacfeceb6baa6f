// --resume: what stays, what is asked again, what is noticed.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <set>

#include "batch/journal.h"
#include "moegen/error.h"
#include "tests/batch/scripted_engine.h"
#include "tests/support/test_clock.h"

namespace moegen::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

const std::string kOther = R"({"prompt":[9],"max_tokens":2})";
const std::string kRefused = R"({"prompt":[999]})";  // by the engine

std::string error_of(const BatchOptions& options) {
  try {
    run_job(options);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

// The custom_ids that reach the engine.
std::set<std::string> asked(const BatchOptions& options) {
  std::set<std::string> ran;
  EXPECT_EQ(run_job(options, 4, -1, [&](const Request& request) { ran.insert(request.id); }), 0);
  return ran;
}

class Resume : public ::testing::Test {
 protected:
  Resume() : options(options_for(scratch)) {
    write_file(options.input, request_text("a") + "\n" + request_text("b") + "\n" + request_text("c") + "\n");
    options.settings = {{"--seed", "0"}, {"weights", "w1"}};
    EXPECT_EQ(run_job(options), 0);
    options.resume = true;
  }

  void change_b() { write_file(options.input, request_text("a") + "\n" + request_text("b", kOther) + "\n" + request_text("c") + "\n"); }

  Scratch scratch;
  BatchOptions options;
};

TEST_F(Resume, TheJournalHasARecordForEachAnswer) {
  std::ifstream in(options.output + ".journal");
  std::set<uint64_t> requests;
  int runs = 0;
  for (std::string line; std::getline(in, line);) {
    const auto record = read_journal_line(line);
    ASSERT_TRUE(record);
    if (const auto* answer = std::get_if<JournalAnswer>(&*record)) {
      requests.insert(answer->request);
    } else {
      EXPECT_EQ(std::get<JournalRun>(*record).settings, options.settings);
      ++runs;
    }
  }
  EXPECT_EQ(runs, 1);
  EXPECT_EQ(requests, (std::set<uint64_t>{request_hash(request_text("a")), request_hash(request_text("b")), request_hash(request_text("c"))}));
}

TEST_F(Resume, AnInputThatIsOnlyWrittenAnewIsTheSame) {
  std::string spaced = request_text("a");
  for (size_t at = 0; (at = spaced.find("\":", at)) != std::string::npos; at += 3) spaced.insert(at + 2, " ");
  write_file(options.input, request_text("c") + "\n\n  " + spaced + "\n" + request_text("b") + " \r\n" + request_text("d"));
  EXPECT_EQ(asked(options), std::set<std::string>{"d"});
}

TEST_F(Resume, AChangedRequestIsNoticedAndNamed) {
  change_b();
  const std::string before = read_file(options.output);
  EXPECT_THAT(error_of(options), AllOf(HasSubstr(options.input + ": 1 requests"), HasSubstr("line 2 (\"b\")"), HasSubstr("--changed redo"),
                                       HasSubstr("--changed keep"), HasSubstr("custom_id")));
  EXPECT_EQ(read_file(options.output), before);
}

TEST_F(Resume, AChangedRequestIsNoticedInAPipeToo) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const std::string text = request_text("b", kOther) + "\n";
  ASSERT_EQ(::write(ends[1], text.data(), text.size()), static_cast<ssize_t>(text.size()));
  ::close(ends[1]);
  options.input = fmt::format("/proc/self/fd/{}", ends[0]);
  EXPECT_THAT(error_of(options), AllOf(HasSubstr("line 1 (\"b\")"), HasSubstr("--changed redo")));
  options.changed = "redo";
  EXPECT_THAT(error_of(options), HasSubstr("needs a file"));
  ::close(ends[0]);
}

TEST_F(Resume, ChangedRequestsAreAnsweredAgainOnRequest) {
  change_b();
  options.changed = "redo";
  const auto before = read_lines(options.output);
  EXPECT_EQ(asked(options), std::set<std::string>{"b"});
  const auto after = read_lines(options.output);
  ASSERT_EQ(after.size(), 3U);
  EXPECT_EQ(after[2]["custom_id"], "b");
  EXPECT_EQ(after[2]["response"]["body"]["usage"]["prompt_tokens"], 1);
  options.changed = "stop";
  EXPECT_TRUE(asked(options).empty()) << "the journal has the new one";
}

TEST_F(Resume, ChangedRequestsKeepTheirAnswersOnRequest) {
  change_b();
  options.changed = "keep";
  const std::string before = read_file(options.output);
  EXPECT_TRUE(asked(options).empty());
  EXPECT_EQ(read_file(options.output), before);
}

TEST_F(Resume, AChangedSettingIsNoticedAndNamed) {
  options.settings[1].second = "w2";
  write_file(options.input, read_file(options.input) + request_text("d"));
  EXPECT_THAT(error_of(options),
              AllOf(HasSubstr("weights: was w1, is w2"), Not(HasSubstr("--seed")), HasSubstr("--no-resume"), HasSubstr("--changed keep")));
  options.changed = "redo";
  EXPECT_THAT(error_of(options), HasSubstr("weights: was w1, is w2"));
  options.changed = "keep";
  EXPECT_EQ(asked(options), std::set<std::string>{"d"});
  options.changed = "stop";
  EXPECT_TRUE(asked(options).empty()) << "what was accepted once is not asked about again";
}

TEST_F(Resume, SettingsMayChangeWhereNothingIsAnswered) {
  write_file(options.output, "");
  options.settings[0].second = "1";
  EXPECT_EQ(asked(options).size(), 3U);
  options.settings[0].second = "2";
  options.resume = false;
  EXPECT_EQ(asked(options).size(), 3U);
}

TEST_F(Resume, WithoutItsJournalAnOutputIsTakenAsItIs) {
  std::filesystem::remove(options.output + ".journal");
  change_b();
  options.settings[0].second = "1";
  options.progress = "plain";
  ::testing::internal::CaptureStderr();
  EXPECT_TRUE(asked(options).empty());
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), AllOf(HasSubstr("3 answers stay"), HasSubstr("does not have 3 of them")));
}

TEST_F(Resume, LongFilesAreReadWithAWord) {
  write_file(options.input, read_file(options.input) + request_text("d") + "\n");  // to be compared
  options.progress = "plain";
  const HurriedClock clock;
  ::testing::internal::CaptureStderr();
  { const Job job(options); }
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              AllOf(HasSubstr(options.output + ": reading its 0.0 GB of answers: 0.0 GB"), HasSubstr(options.input + ": comparing its requests")));
}

// What is missing from the journal is not checked, and all else is as if nothing were missing.
TEST_F(Resume, AJournalCutAtEveryByte) {
  const std::string journal = read_file(options.output + ".journal");
  const std::string answers = read_file(options.output);
  for (size_t cut = 0; cut <= journal.size(); ++cut) {
    write_file(options.output + ".journal", journal.substr(0, cut));
    ASSERT_EQ(error_of(options), "no error") << "cut at " << cut;
    ASSERT_EQ(read_file(options.output), answers);
    const std::string left = read_file(options.output + ".journal");
    const size_t kept = journal.substr(0, cut).rfind('\n') + 1;
    ASSERT_EQ(left.substr(0, kept), journal.substr(0, kept));
    ASSERT_TRUE(read_journal_line(std::string_view(left).substr(kept, left.size() - kept - 1)));
  }
}

TEST_F(Resume, FailedRequestsAreAskedAgainOnRequest) {
  const std::string broken = "{\"broken\n";
  const auto input = [&](const std::string& body) {
    return request_text("a") + "\n" + request_text("bad", body) + "\n" + broken + request_text("c");
  };
  options.resume = false;
  for (const bool apart : {false, true}) {
    options.error_file = apart ? scratch.path("errors") : "";
    write_file(options.input, input(kRefused));
    options.retry_failed = false;
    options.resume = false;
    ASSERT_EQ(run_job(options), 0);
    options.resume = true;
    EXPECT_TRUE(asked(options).empty());
    const std::string good = read_file(options.output).substr(0, read_file(options.output).find('\n') + 1);
    options.resume.reset();  // implied
    options.retry_failed = true;
    EXPECT_EQ(asked(options), std::set<std::string>{"bad"});
    const size_t failed = 2;
    EXPECT_EQ(read_lines(options.output).size(), apart ? 2U : 4U);
    if (apart) {
      EXPECT_EQ(read_lines(options.error_file).size(), failed);
    }
    EXPECT_THAT(read_file(options.output), HasSubstr(good));
  }
}

// Else their lines would stay there, and others for the same requests come into the output.
TEST_F(Resume, TheFileOfFailedRequestsIsRemembered) {
  const std::string errors = scratch.path("errors");
  write_file(options.input, request_text("a") + "\n" + request_text("bad", kRefused));
  options.resume = false;
  options.error_file = errors;
  ASSERT_EQ(run_job(options), 0);
  options.resume = true;
  const std::string before = read_file(options.output) + read_file(errors);
  for (const bool retry : {false, true}) {
    options.retry_failed = retry;
    for (const std::string& other : {std::string(), scratch.path("others")}) {
      options.error_file = other;
      EXPECT_THAT(error_of(options), HasSubstr("--error-file " + errors));
    }
    EXPECT_EQ(read_file(options.output) + read_file(errors), before);
  }
  std::filesystem::create_directory(scratch.path("new"));
  for (const char* file : {"in", "out", "out.journal", "errors"}) std::filesystem::rename(scratch.path(file), scratch.path("new/") + file);
  options.input = scratch.path("new/in");
  options.output = scratch.path("new/out");
  options.error_file.clear();
  EXPECT_THAT(error_of(options), HasSubstr("--error-file " + scratch.path("new/errors"))) << "moved with the output";
  options.error_file = scratch.path("new/errors");
  EXPECT_EQ(asked(options), std::set<std::string>{"bad"});
  EXPECT_EQ(read_lines(options.error_file).size(), 1U);
  std::filesystem::remove(options.error_file);
  options.error_file.clear();
  EXPECT_EQ(asked(options), std::set<std::string>{"bad"}) << "nobody has an answer to it";
}

TEST_F(Resume, OptionsForFormerAnswersAreRefusedWhereNoneStay) {
  options.resume = false;
  options.retry_failed = true;
  EXPECT_THAT(error_of(options), HasSubstr("--no-resume"));
  options.retry_failed = false;
  options.changed = "redo";
  EXPECT_THAT(error_of(options), HasSubstr("--no-resume"));
  EXPECT_EQ(read_lines(options.output).size(), 3U);
}

TEST_F(Resume, WithARetryAFreshJobBegins) {
  std::filesystem::remove(options.output);
  options.resume.reset();
  options.retry_failed = true;
  EXPECT_EQ(asked(options).size(), 3U);
}

// A rewritten output is a new file of the old name: through a link too, with its mode, and locked.
TEST_F(Resume, ARewrittenOutputStaysWhereItIs) {
  options.resume = false;
  write_file(options.input, request_text("a") + "\n" + request_text("bad", kRefused));
  ASSERT_EQ(run_job(options), 0);
  std::filesystem::create_symlink(options.output, scratch.path("link"));
  std::filesystem::permissions(options.output, std::filesystem::perms(0640));
  options.output = scratch.path("link");
  options.resume = true;
  options.retry_failed = true;
  Job job(options);
  job.start("m");
  EXPECT_TRUE(std::filesystem::is_symlink(scratch.path("link")));
  EXPECT_EQ(std::filesystem::status(scratch.path("out")).permissions(), std::filesystem::perms(0640));
  EXPECT_EQ(read_lines(scratch.path("out")).size(), 1U);
  EXPECT_THAT(error_of(options), HasSubstr("another run"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(scratch.dir), {}), 4) << "in, link, out and its journal";
}

TEST_F(Resume, ALinkedOutputHasItsJournalBesideTheFile) {
  std::filesystem::create_symlink(options.output, scratch.path("link"));
  options.output = scratch.path("link");
  change_b();
  EXPECT_THAT(error_of(options), HasSubstr("line 2"));
  EXPECT_FALSE(std::filesystem::exists(scratch.path("link.journal")));
}

TEST_F(Resume, TheJournalAndTheTraceAreNoOtherFile) {
  options.resume = false;
  const std::string journal = options.output + ".journal";
  for (std::string* file : {&options.error_file, &options.metrics_file, &options.trace_file}) {
    *file = journal;
    EXPECT_THAT(error_of(options), HasSubstr("same file"));
    file->clear();
  }
  const std::string in = read_file(options.input);
  for (const std::string& other : {options.input, options.output}) {
    options.trace_file = other;
    EXPECT_THAT(error_of(options), HasSubstr("same file"));
  }
  options.trace_file = scratch.path("link");
  std::filesystem::create_hard_link(options.input, options.trace_file);
  EXPECT_THAT(error_of(options), HasSubstr("same file"));
  options.trace_file.clear();
  std::filesystem::rename(options.input, journal);
  options.input = journal;
  EXPECT_THAT(error_of(options), HasSubstr("same file"));
  EXPECT_EQ(read_file(journal), in);
}

TEST_F(Resume, AnOutputThatWasRemovedStopsTheRun) {
  options.resume = false;
  Job job(options);
  job.start("m");
  const auto request = job.next();
  ASSERT_TRUE(request);
  std::filesystem::remove(options.output);
  try {
    job.done(scripted_completion(*request));
    FAIL() << "an answer was written where nobody can read it";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr(options.output), HasSubstr("was removed"), HasSubstr("--resume")));
  }
}

TEST_F(Resume, AFileOnStdinIsReadFromItsBeginningAgain) {
  write_file(options.input, read_file(options.input) + request_text("d") + "\n");  // not the file of the run before: it is compared
  const int file = ::open(options.input.c_str(), O_RDONLY | O_CLOEXEC);
  const int stdin_before = ::dup(STDIN_FILENO);
  ::dup2(file, STDIN_FILENO);
  ::close(file);
  options.input = "-";
  run_job(options);
  ::dup2(stdin_before, STDIN_FILENO);
  ::close(stdin_before);
  EXPECT_EQ(read_lines(options.output).size(), 4U);
}

// The master of a terminal whose other end is closed: a read gives what is there, then EIO.
TEST_F(Resume, AnInputThatCannotBeReadStopsTheRunWhichIsThenResumed) {
  const int master = ::posix_openpt(O_RDWR | O_NOCTTY);
  ASSERT_GE(master, 0);
  ASSERT_EQ(::grantpt(master) | ::unlockpt(master), 0);
  const int slave = ::open(::ptsname(master), O_RDWR | O_NOCTTY);
  ASSERT_GE(slave, 0);
  const std::string text = request_text("d") + "\n" + request_text("e").substr(0, 20);
  ASSERT_EQ(::write(slave, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  ::close(slave);
  const int stdin_before = ::dup(STDIN_FILENO);
  ::dup2(master, STDIN_FILENO);
  BatchOptions broken = options;
  broken.input = "-";
  const std::string error = error_of(broken);
  ::dup2(stdin_before, STDIN_FILENO);
  ::close(stdin_before);
  ::close(master);
  EXPECT_THAT(error, AllOf(HasSubstr("stdin: cannot read: Input/output error")));
  write_file(options.input, read_file(options.input) + request_text("d") + "\n" + request_text("e"));
  run_job(options);
  EXPECT_EQ(read_lines(options.output).size(), 5U);
}

TEST(PlainLines, AreRequestsOfTheirPlace) {
  const Scratch scratch;
  BatchOptions options = options_for(scratch);
  const std::string line = R"({"prompt":[5,6],"max_tokens":2})";
  write_file(options.input, line + "\n\n" + line + "\n" + R"({"custom_id":"x","messages":[{"role":"user","content":"Hi"}]})" + "\n" +
                                R"({"prompt":[7],"max_tokens":2,"tempo":1})");
  std::set<std::string> ids;
  EXPECT_EQ(run_job(options, 4, -1, [&](const Request& request) { ids.insert(request.id); }), 0);
  EXPECT_EQ(ids.size(), 3U) << "seeds come from it: equal lines have different ones";
  std::set<std::string> named;
  for (const Json& answer : read_lines(options.output)) {
    named.insert(answer["custom_id"]);
    if (answer["custom_id"] == "line-5") {
      EXPECT_EQ(answer["response"]["body"]["error"]["code"], "unknown_parameter");
    }
    if (answer["custom_id"] == "x") {
      EXPECT_EQ(answer["response"]["body"]["object"], "chat.completion");
    }
  }
  EXPECT_EQ(named, (std::set<std::string>{"line-1", "line-3", "x", "line-5"}));
  options.resume = true;
  EXPECT_TRUE(asked(options).empty());
  // The same lines elsewhere have the same ids before the engine, so the same tokens.
  BatchOptions moved = options;
  moved.output = scratch.path("moved");
  write_file(moved.input, "\n\n" + line + "\n" + line);
  std::set<std::string> again = asked(moved);
  EXPECT_TRUE(std::includes(ids.begin(), ids.end(), again.begin(), again.end()));
  write_file(options.input, R"({"prompt":[8]})"
                            "\n");
  EXPECT_THAT(error_of(options), HasSubstr("line 1 (\"line-1\")")) << "another request stands there now";
}

// A template that prints the date renders the same prompts on the next day.
TEST_F(Resume, TemplatesSeeTheTimeAtWhichTheJobBegan) {
  const std::string chat = R"({"messages":[{"role":"user","content":"x"}]})";
  std::set<std::string> times;
  const auto look = [&](const Request& request) { times.insert(std::get<Chat>(request.prompts[0]).now); };
  options.output = scratch.path("chats");
  options.resume = std::nullopt;
  write_file(options.input, request_text("a", chat, "/v1/chat/completions") + "\n");
  EXPECT_EQ(run_job(options, 1, -1, look), 0);
  ASSERT_EQ(times.size(), 1U);
  EXPECT_EQ(times.begin()->size(), std::string("2027-11-30T23:05:59").size());
  // As if it had begun at another time.
  std::string journal = read_file(options.output + ".journal");
  const std::string run = journal.substr(9, journal.find('\n') - 9);
  std::string other = run;
  other.replace(other.find(*times.begin()), times.begin()->size(), "2001-02-03T04:05:06");
  write_file(options.output + ".journal", seal(other) + journal.substr(journal.find('\n') + 1));
  write_file(options.input, request_text("a", chat, "/v1/chat/completions") + "\n" + request_text("b", chat, "/v1/chat/completions") + "\n");
  times.clear();
  options.resume = true;
  EXPECT_EQ(run_job(options, 1, -1, look), 0);
  EXPECT_EQ(times, std::set<std::string>{"2001-02-03T04:05:06"});
}

TEST_F(Resume, AFileThatIsNoJournalIsLeftAlone) {
  options.output = scratch.path("new");
  options.resume = std::nullopt;
  write_file(options.output + ".journal", "dear diary\n");
  EXPECT_THAT(error_of(options), HasSubstr("is no journal of moegen's"));
  EXPECT_EQ(read_file(options.output + ".journal"), "dear diary\n");
  std::filesystem::remove(options.output + ".journal");
  write_file(scratch.path("target"), "");
  std::filesystem::create_symlink(scratch.path("target"), options.output + ".journal");
  EXPECT_THAT(error_of(options), HasSubstr("is a link"));
}

}  // namespace
}  // namespace moegen::testing
