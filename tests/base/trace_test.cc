#include "base/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace moegen {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string said_of_a_trace(const std::filesystem::path& path, int events) {
  ::testing::internal::CaptureStderr();
  {
    Trace trace(path);
    const auto now = Clock::now();
    for (int i = 0; i < events; ++i) trace.add_compute("experts", i, 0, now, now);
  }
  return ::testing::internal::GetCapturedStderr();
}

// A few events are written when it closes, many before.
TEST(Trace, WhatCannotBeWrittenIsSaid) {
  for (const int events : {1, 10000})
    EXPECT_THAT(said_of_a_trace("/dev/full", events), AllOf(HasSubstr("/dev/full"), HasSubstr("No space left on device"), HasSubstr("trace")));
  EXPECT_THAT(said_of_a_trace("/dev/null", 10000), IsEmpty());
}

TEST(Trace, AFileThatCannotBeMadeIsAnError) { EXPECT_THROW(Trace("/no/such/folder/trace"), Error); }

}  // namespace
}  // namespace moegen
