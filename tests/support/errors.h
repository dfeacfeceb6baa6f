#pragma once

#include <gtest/gtest.h>

#include <string>

#include "base/error.h"

namespace moegen {

/// The Error that `action` throws; a failure of the test where it throws none.
template <typename Action>
Error error_of(const Action& action) {
  try {
    action();
  } catch (const Error& e) {
    return e;
  }
  ADD_FAILURE() << "no Error was thrown";
  return {ErrorCode::io, "no Error was thrown"};
}

}  // namespace moegen

/// `statement` throws an Error of this code whose text has `part` in it.
#define EXPECT_ERROR(statement, expected_code, part)                                      \
  do {                                                                                    \
    const ::moegen::Error e_ = ::moegen::error_of([&] { static_cast<void>(statement); }); \
    EXPECT_EQ(e_.code(), expected_code) << e_.what();                                     \
    EXPECT_NE(std::string(e_.what()).find(part), std::string::npos) << e_.what();         \
  } while (false)
