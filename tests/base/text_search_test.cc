#include "base/text_search.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "tests/support/cpu_timer.h"

namespace moegen {
namespace {

TEST(TextSearch, FindsWhatTheStandardLibraryFinds) {
  std::mt19937 rng(1);
  const auto letters = [&](size_t n) {
    std::string out;
    for (size_t i = 0; i < n; ++i) out += "ab"[rng() % 8 == 0 ? 1 : 0];
    return out;
  };
  size_t found = 0;
  for (int i = 0; i < 3000; ++i) {
    const std::string text = letters(rng() % 300);
    std::string what = letters(rng() % 60);
    if (rng() % 2 == 0 && !text.empty()) what = text.substr(rng() % text.size(), rng() % 80);
    const size_t from = rng() % (text.size() + 2);
    EXPECT_EQ(find_text(text, what, from), text.find(what, from)) << text << " " << what << " " << from;
    EXPECT_EQ(rfind_text(text, what), text.rfind(what)) << text << " " << what;
    found += what.size() > 32 && text.find(what) != std::string::npos ? 1 : 0;
  }
  EXPECT_GT(found, 300U);
}

// The standard library's would take minutes.
TEST(TextSearch, IsLinear) {
  const std::string text(4'000'000, 'a');
  const std::string half(2'000'000, 'a');
  const CpuTimer timer;
  EXPECT_EQ(find_text(text, half + "b"), std::string::npos);
  EXPECT_EQ(find_text(text, "b" + half), std::string::npos);
  EXPECT_EQ(rfind_text(text, half + "b"), std::string::npos);
  EXPECT_EQ(rfind_text(text, "b" + half), std::string::npos);
  EXPECT_EQ(rfind_text(text, half), text.size() - half.size());
  EXPECT_LT(timer.seconds(), 20);
}

}  // namespace
}  // namespace moegen
