#include "engine/reasoning_gate.h"

#include <gtest/gtest.h>

#include <string>

namespace moegen {
namespace {

// What the gate says of each token: '.' reasoning, 'A' answer.
std::string run(const ReasoningTokens& tokens, const std::vector<TokenId>& text) {
  ReasoningGate gate(std::make_shared<const ReasoningTokens>(tokens));
  std::string out;
  for (const TokenId token : text) out += gate.accept(token) ? 'A' : '.';
  return out;
}

TEST(ReasoningGate, WithoutMarksAllIsTheAnswer) {
  ReasoningGate gate;
  EXPECT_FALSE(gate.inside());
  EXPECT_EQ(gate.opening(), -1);
  EXPECT_TRUE(gate.accept(5));
  EXPECT_FALSE(ReasoningGate(nullptr).inside());
}

TEST(ReasoningGate, EndsWithItsMark) {
  EXPECT_EQ(run({.open = -1, .close = {9}}, {1, 2, 9, 3, 9, 4}), "...AAA");
  EXPECT_EQ(run({.open = 8, .close = {9}}, {8, 2, 8, 9, 8, 4}), "....AA");
  EXPECT_EQ(run({.open = 8, .close = {9}}, {1, 8, 9}), "AAA") << "an answer that has begun has no reasoning to come";
}

TEST(ReasoningGate, EndsWithAChannel) {
  const ReasoningTokens harmony{.open = -1, .close = {7, 3}, .then = 6};
  EXPECT_EQ(run(harmony, {7, 2, 6, 1, 7, 3, 6, 5, 7}), ".......AA");
  EXPECT_EQ(run(harmony, {7, 7, 3, 4, 5, 6, 1}), "......A");
  EXPECT_EQ(run(harmony, {3, 6, 7}), "...");
}

TEST(ReasoningGate, TheOpeningIsOfferedOnce) {
  ReasoningGate gate(std::make_shared<const ReasoningTokens>(ReasoningTokens{.open = 8, .close = {9}}));
  EXPECT_EQ(gate.opening(), 8);
  EXPECT_FALSE(gate.inside());
  gate.accept(1);
  EXPECT_EQ(gate.opening(), -1);
}

}  // namespace
}  // namespace moegen
