#include "batch/journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/batch/scripted_engine.h"

namespace moegen::testing {
namespace {

using ::testing::HasSubstr;

const JournalRun kRun{.settings = {{"--seed", "0"}, {"weights", "a \"name\"\n"}},
                      .version = "moegen 1",
                      .input = "10 bytes",
                      .now = "2027-11-30T23:05:59",
                      .errors = ""};
const JournalAnswer kAnswer{.key = {0x0123456789abcdefU, 0xfedcba9876543210U}, .request = 0x42};

std::string_view without_end(const std::string& line) { return std::string_view(line).substr(0, line.size() - 1); }

// The bytes that docs/reliability.md describes.
TEST(Journal, LinesAreThoseOfTheDocument) {
  EXPECT_EQ(journal_line(kAnswer), "33e01314 answer 0123456789abcdeffedcba9876543210 0000000000000042\n");
  EXPECT_THAT(
      journal_line(kRun),
      HasSubstr(
          R"( run {"journal":1,"moegen":"moegen 1","input":"10 bytes","now":"2027-11-30T23:05:59","settings":{"--seed":"0","weights":"a \"name\"\n"}})"));
  JournalRun apart = kRun;
  apart.errors = "../e.jsonl";
  EXPECT_THAT(journal_line(apart), HasSubstr(R"(,"now":"2027-11-30T23:05:59","errors":"../e.jsonl","settings":{)"));
}

TEST(Journal, WhatIsWrittenIsRead) {
  const auto answer = read_journal_line(without_end(journal_line(kAnswer)));
  ASSERT_TRUE(answer);
  EXPECT_EQ(std::get<JournalAnswer>(*answer).key, kAnswer.key);
  EXPECT_EQ(std::get<JournalAnswer>(*answer).request, kAnswer.request);
  const auto run = read_journal_line(without_end(journal_line(kRun)));
  ASSERT_TRUE(run);
  EXPECT_EQ(std::get<JournalRun>(*run).settings, kRun.settings);
  EXPECT_EQ(std::get<JournalRun>(*run).version, kRun.version);
  EXPECT_EQ(std::get<JournalRun>(*run).input, kRun.input);
  EXPECT_EQ(std::get<JournalRun>(*run).now, kRun.now);
  JournalRun apart = kRun;
  apart.errors = "../e.jsonl";
  EXPECT_EQ(std::get<JournalRun>(*read_journal_line(without_end(journal_line(apart)))).errors, apart.errors);
}

TEST(Journal, EveryChangedBitIsNoticed) {
  for (const JournalRecord& record : {JournalRecord(kAnswer), JournalRecord(kRun)}) {
    const std::string line(without_end(journal_line(record)));
    for (size_t i = 0; i < line.size() * 8; ++i) {
      std::string other = line;
      other[i / 8] = static_cast<char>(other[i / 8] ^ (1 << i % 8));
      EXPECT_FALSE(read_journal_line(other)) << other;
    }
    for (size_t cut = 0; cut < line.size(); ++cut) EXPECT_FALSE(read_journal_line(line.substr(0, cut)));
  }
}

TEST(Journal, LinesOfOtherKindsAreNotTakenForThese) {
  for (const char* text : {"", "run", "run {}", "run []", "run null", R"(run {"journal":2,"moegen":"","input":"","settings":{}})",
                           R"(run {"journal":1,"moegen":"","input":"","settings":{"a":1}})", "answer ", "answer 12 34", "more x",
                           "answer 0123456789abcdeffedcba987654321x 0000000000000042", "answer 0123456789abcdeffedcba9876543210 000000000000004x"}) {
    EXPECT_FALSE(read_journal_line(without_end(seal(text)))) << text;
  }
}

TEST(Journal, DifferencesAreNamedWithBothValues) {
  EXPECT_EQ(settings_difference({{"a", "1"}, {"b", "2"}}, {{"b", "2"}, {"a", "1"}}), "");
  EXPECT_EQ(settings_difference({{"a", "1"}, {"b", "2"}}, {{"a", "3"}, {"c", "4"}}),
            "\n  a: was 1, is 3\n  b: was 2, is not there\n  c: was not there, is 4");
}

TEST(Journal, DamagedLinesArePassedOverAndATornOneIsRepaired) {
  const Scratch scratch;
  const std::string out = scratch.path("out");
  const JournalAnswer second{.key = {1, 2}, .request = 3};
  std::string damaged = journal_line(second);
  damaged[20] ^= 1;
  write_file(out, "");
  write_file(out + ".journal", journal_line(kRun) + damaged + journal_line(kAnswer) + "33e01314 ans");
  Ledger ledger(scratch.dir);
  Journal journal(out);
  journal.read(ledger);
  EXPECT_EQ(ledger.find(kAnswer.key).request, kAnswer.request);
  EXPECT_EQ(ledger.find(second.key).request, 0U);
  journal.start(true, kRun);
  EXPECT_EQ(read_file(out + ".journal"), journal_line(kRun) + damaged + journal_line(kAnswer) + journal_line(kRun));
}

TEST(RequestHash, SpacesBetweenValuesDoNotCountAndAllElseDoes) {
  const uint64_t hash = request_hash(R"({"prompt":"a b","n":1})");
  EXPECT_EQ(hash, request_hash("{ \"prompt\" :\t\"a b\", \"n\":1 }"));
  EXPECT_NE(hash, request_hash(R"({"prompt":"ab","n":1})"));
  EXPECT_NE(hash, request_hash(R"({"n":1,"prompt":"a b"})"));
  EXPECT_NE(request_hash(R"({"a":"\" x"})"), request_hash(R"({"a":"\"x"})")) << "an escaped quote does not end a string";
  EXPECT_NE(request_hash(R"({"a":"\\"} )"), request_hash(R"({"a":"\\" })"
                                                         "1"));
}

}  // namespace
}  // namespace moegen::testing
