#pragma once

#include <array>

#include "plan/pass_cost.h"

namespace moegen {

/// What passes take, learned from those that ran: their prediction times a factor, and what every pass, generated token and prompt token adds.
/// Least squares in which later passes weigh more, none of the four is below zero, and what is not told apart stays with the prediction. The first
/// passes touch memory for the first time: they count only until there are others.
class PassFit {
 public:
  PassFit();
  void add(double predicted, const PassLoad& load, double seconds);
  [[nodiscard]] bool empty() const { return first_.passes == 0; }
  /// Call after the last add() and before seconds().
  void solve();
  [[nodiscard]] double seconds(double predicted, const PassLoad& load) const;

 private:
  static constexpr size_t kTerms = 4;
  using Terms = std::array<double, kTerms>;
  [[nodiscard]] static Terms terms(double predicted, const PassLoad& load) { return {predicted, 1, load.decodes, load.prompt_tokens}; }

  // Sums over passes.
  struct Sums {
    int64_t passes = 0;
    std::array<Terms, kTerms> products{};
    Terms targets{};
    Terms terms{};
    double seconds = 0;
    void add(const Terms& x, double seconds_of_pass);
  };

  Sums first_;  // all passes, until there are enough of
  Sums warm_;   // the others
  Terms factors_{};
};

}  // namespace moegen
