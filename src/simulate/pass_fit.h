#pragma once

#include <array>

#include "plan/pass_cost.h"

namespace moegen {

/// What passes take, learned from those that ran: their prediction times a factor, and what every pass, generated token and prompt token adds.
/// Least squares in which later passes weigh more, none of the four is below zero, and what is not told apart stays with the prediction.
class PassFit {
 public:
  PassFit();
  void add(double predicted, const PassLoad& load, double seconds);
  [[nodiscard]] bool empty() const { return passes_ == 0; }
  /// Call after the last add() and before seconds().
  void solve();
  [[nodiscard]] double seconds(double predicted, const PassLoad& load) const;

 private:
  static constexpr size_t kTerms = 4;
  using Terms = std::array<double, kTerms>;
  [[nodiscard]] static Terms terms(double predicted, const PassLoad& load) { return {predicted, 1, load.decodes, load.prompt_tokens}; }

  int64_t passes_ = 0;
  std::array<Terms, kTerms> products_{};  // sums over passes, as are all of these
  Terms targets_{};
  Terms sums_{};
  double seconds_ = 0;
  Terms factors_{};
};

}  // namespace moegen
