#include "simulate/pass_fit.h"

#include <algorithm>

namespace moegen {
namespace {

constexpr double kPrior = 0.02;  // weight of the prediction times a factor, beside all passes
constexpr int kRounds = 100;     // of solving for one term after the other
constexpr double kUnusual = 5;   // times as long as it should: something outside held it up
constexpr int64_t kUsual = 8;    // passes after which that can be told

}  // namespace

PassFit::PassFit() { factors_[0] = 1; }

void PassFit::add(double predicted, const PassLoad& load, double seconds) {
  if (predicted <= 0) return;
  if (passes_ >= kUsual) {
    solve();
    seconds = std::min(seconds, kUnusual * this->seconds(predicted, load));
  }
  ++passes_;
  const double keep = static_cast<double>(passes_ - 1) / static_cast<double>(passes_);  // the n-th pass weighs n times the first
  const Terms x = terms(predicted, load);
  for (size_t i = 0; i < kTerms; ++i) {
    for (size_t j = 0; j < kTerms; ++j) products_[i][j] = products_[i][j] * keep + x[i] * x[j];
    targets_[i] = targets_[i] * keep + x[i] * seconds;
    sums_[i] = sums_[i] * keep + x[i];
  }
  seconds_ = seconds_ * keep + seconds;
}

void PassFit::solve() {
  if (empty()) return;
  const Terms prior{seconds_ / sums_[0], 0, 0, 0};
  factors_ = prior;
  for (int round = 0; round < kRounds; ++round) {
    for (size_t i = 0; i < kTerms; ++i) {
      const double own = products_[i][i];
      double others = 0;
      for (size_t j = 0; j < kTerms; ++j) others += j != i ? products_[i][j] * factors_[j] : 0;
      factors_[i] = own > 0 ? std::max(0.0, (targets_[i] + kPrior * own * prior[i] - others) / (own * (1 + kPrior))) : 0;
    }
  }
  double fitted = 0;
  for (size_t i = 0; i < kTerms; ++i) fitted += factors_[i] * sums_[i];
  for (double& factor : factors_) factor *= fitted > 0 ? seconds_ / fitted : 1;  // together they took what they took
}

double PassFit::seconds(double predicted, const PassLoad& load) const {
  const Terms x = terms(predicted, load);
  double sum = 0;
  for (size_t i = 0; i < kTerms; ++i) sum += factors_[i] * x[i];
  return sum;
}

}  // namespace moegen
