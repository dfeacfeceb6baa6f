#include "plan/cpu_experts.h"

namespace moegen {

double CpuExperts::share_of(double experts, double tokens) const {
  if (tokens > static_cast<double>(most_tokens)) return 0;
  const double share = balanced() ? copy_seconds / (copy_seconds + cpu_seconds(tokens)) : 1;
  return std::min(share, static_cast<double>(most_rows) / (experts * tokens));
}

CpuExperts balanced_cpu_experts(const ModelSpec& spec, const ModelWork& work, const Machine& machine, double expert_bytes, int64_t most_rows) {
  constexpr double kManyTokens = 256;  // of which the products take longer than reading the weights
  const auto layer = std::find_if(spec.layers.begin(), spec.layers.end(), [](const LayerSpec& l) { return !l.mlp.dense(); });
  if (layer == spec.layers.end()) return {};
  const MatrixFormat& weights = work.layers[static_cast<size_t>(layer - spec.layers.begin())].experts;
  const auto seconds = [&](double tokens) { return machine.mlp_seconds(spec.hidden, layer->mlp.width, tokens, weights); };
  // Copies read DRAM too, and leave the CPU half of it at least.
  const double left = std::max(0.5, 1 - machine.link->h2d / machine.dram.bandwidth);
  return {most_rows, most_rows, expert_bytes / machine.link->h2d, seconds(1) / left, seconds(kManyTokens) / kManyTokens};
}

int64_t choose_cpu_experts(const CpuExperts& plan, std::span<const int32_t> begin, std::span<const uint8_t> streams, std::vector<uint8_t>& on_cpu) {
  on_cpu.assign(streams.size(), 0);
  const auto rows_of = [&](size_t e) -> int64_t { return begin[e + 1] - begin[e]; };
  std::vector<size_t> candidates;
  for (size_t e = 0; e < streams.size(); ++e) {
    if (streams[e] != 0 && rows_of(e) > 0) candidates.push_back(e);
  }
  std::stable_sort(candidates.begin(), candidates.end(), [&](size_t a, size_t b) { return rows_of(a) < rows_of(b); });
  double link = static_cast<double>(candidates.size()) * plan.copy_seconds, cpu = 0;
  int64_t rows = 0;
  for (const size_t e : candidates) {
    cpu += plan.cpu_seconds(static_cast<double>(rows_of(e)));
    link -= plan.copy_seconds;
    const bool later = plan.balanced() && cpu > link + plan.copy_seconds / 2;  // than with this one on the link
    if (rows_of(e) > plan.most_tokens || rows + rows_of(e) > plan.most_rows || later) break;
    on_cpu[e] = 1;
    rows += rows_of(e);
  }
  return rows;
}

}  // namespace moegen
