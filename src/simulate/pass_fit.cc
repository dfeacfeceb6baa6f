#include "simulate/pass_fit.h"

#include <algorithm>

namespace moegen {
namespace {

constexpr double kPrior = 0.03;  // weight of the prediction times a factor, beside all passes: what differs less between them is noise
constexpr int kRounds = 100;     // of solving for one term after the other
constexpr double kUnusual = 5;   // times as long as it should: something outside held it up
constexpr int64_t kFirst = 8;    // passes that may be slow for a reason of their own
constexpr int64_t kEnough = 16;  // of others

}  // namespace

PassFit::PassFit() { factors_[0] = 1; }

void PassFit::Sums::add(const Terms& x, double seconds_of_pass) {
  ++passes;
  const double keep = static_cast<double>(passes - 1) / static_cast<double>(passes);  // the n-th pass weighs n times the first
  for (size_t i = 0; i < kTerms; ++i) {
    for (size_t j = 0; j < kTerms; ++j) products[i][j] = products[i][j] * keep + x[i] * x[j];
    targets[i] = targets[i] * keep + x[i] * seconds_of_pass;
    terms[i] = terms[i] * keep + x[i];
  }
  seconds = seconds * keep + seconds_of_pass;
}

void PassFit::add(double predicted, const PassLoad& load, double seconds) {
  if (predicted <= 0) return;
  if (warm_.passes >= kEnough) {
    solve();
    seconds = std::min(seconds, kUnusual * this->seconds(predicted, load));
  }
  const Terms x = terms(predicted, load);
  if (first_.passes >= kFirst) warm_.add(x, seconds);
  if (warm_.passes < kEnough) first_.add(x, seconds);
}

void PassFit::solve() {
  if (empty()) return;
  const Sums& sums = warm_.passes >= kEnough ? warm_ : first_;
  const Terms prior{sums.seconds / sums.terms[0], 0, 0, 0};
  factors_ = prior;
  for (int round = 0; round < kRounds; ++round) {
    for (size_t i = 0; i < kTerms; ++i) {
      const double own = sums.products[i][i];
      double others = 0;
      for (size_t j = 0; j < kTerms; ++j) others += j != i ? sums.products[i][j] * factors_[j] : 0;
      factors_[i] = own > 0 ? std::max(0.0, (sums.targets[i] + kPrior * own * prior[i] - others) / (own * (1 + kPrior))) : 0;
    }
  }
  double fitted = 0;
  for (size_t i = 0; i < kTerms; ++i) fitted += factors_[i] * sums.terms[i];
  for (double& factor : factors_) factor *= fitted > 0 ? sums.seconds / fitted : 1;  // together they took what they took
}

double PassFit::seconds(double predicted, const PassLoad& load) const {
  const Terms x = terms(predicted, load);
  double sum = 0;
  for (size_t i = 0; i < kTerms; ++i) sum += factors_[i] * x[i];
  return sum;
}

}  // namespace moegen
