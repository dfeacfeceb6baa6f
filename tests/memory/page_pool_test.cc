#include "memory/page_pool.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace moegen {
namespace {

TEST(PagePool, NeverGivesAPageTwice) {
  PagePool pool(50);
  std::set<int32_t> held;
  std::mt19937 random(3);
  for (int step = 0; step < 20000; ++step) {
    if (pool.num_free() > 0 && (held.empty() || random() % 2 == 0)) {
      const int32_t page = pool.reserve();
      ASSERT_TRUE(page >= 0 && page < 50);
      ASSERT_TRUE(held.insert(page).second) << page;
    } else {
      const auto victim = std::next(held.begin(), static_cast<std::ptrdiff_t>(random() % held.size()));
      pool.release(*victim);
      held.erase(victim);
    }
    ASSERT_EQ(pool.num_free(), 50 - static_cast<int32_t>(held.size()));
  }
}

TEST(PagePool, TheLastReleasedComesFirstAndFreshPagesInOrder) {
  PagePool pool(4);
  EXPECT_EQ(pool.reserve(), 0);
  EXPECT_EQ(pool.reserve(), 1);
  pool.release(0);
  EXPECT_EQ(pool.reserve(), 0);
  EXPECT_EQ(pool.reserve(), 2);
}

TEST(PagePoolDeathTest, MisuseIsOurBug) {
  PagePool pool(1);
  EXPECT_DEATH(pool.release(0), "does not hold");
  pool.reserve();
  EXPECT_DEATH(pool.reserve(), "does not hold");
  EXPECT_DEATH(pool.release(1), "does not hold");
  EXPECT_DEATH(pool.release(-1), "does not hold");
}

TEST(PagePoolDeathTest, APageThatIsGivenBackTwiceIsOurBug) {
  PagePool pool(3);
  const int32_t page = pool.reserve();
  pool.reserve();
  EXPECT_FALSE(pool.is_free(page));
  pool.release(page);
  EXPECT_TRUE(pool.is_free(page));
  EXPECT_DEATH(pool.release(page), "does not hold");
}

}  // namespace
}  // namespace moegen
