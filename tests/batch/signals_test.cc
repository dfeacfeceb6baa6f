#include "batch/signals.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace moegen {
namespace {

TEST(Signals, TheFirstStopsTheSecondEndsTheProcess) {
  const pid_t child = ::fork();
  if (child == 0) {
    int stops = 0;
    const StopOnSignal signals([&] { ++stops; });
    std::raise(SIGINT);
    if (stops != 1) ::_exit(3);
    std::raise(SIGTERM);
    ::_exit(4);  // not reached
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM) << status;
}

// A terminal that is closed ends a job as Ctrl-C does, but under nohup not at all.
TEST(Signals, AClosedTerminalStopsUnlessItIsIgnored) {
  for (const bool ignored : {false, true}) {
    const pid_t child = ::fork();
    if (child == 0) {
      std::signal(SIGHUP, ignored ? SIG_IGN : SIG_DFL);
      int stops = 0;
      const StopOnSignal signals([&] { ++stops; });
      std::raise(SIGHUP);
      if (stops != (ignored ? 0 : 1)) ::_exit(1);
      if (ignored) {
        std::raise(SIGTERM);
        std::raise(SIGHUP);  // ignored as before
        if (stops != 1) ::_exit(2);
      }
      ::_exit(0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0) << ignored;
  }
}

TEST(Signals, HandlersComeBack) {
  struct sigaction before {};
  struct sigaction after {};
  ::sigaction(SIGINT, nullptr, &before);
  {
    const StopOnSignal signals([] {});
  }
  ::sigaction(SIGINT, nullptr, &after);
  EXPECT_EQ(before.sa_handler, after.sa_handler);
}

}  // namespace
}  // namespace moegen
