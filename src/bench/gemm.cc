#include <algorithm>

#include "base/checked.h"
#include "base/error.h"
#include "bench/layer.h"
#include "bench/report.h"
#include "model/linear.h"
#include "moegen/bench.h"
#include "plan/plan.h"

namespace moegen {
namespace {

struct Shape {
  std::string name;
  int hidden = 0;
  int width = 0;
};

const Shape kShapes[] = {{"mixtral-8x7b", 4096, 14336}, {"qwen3-30b-a3b", 2048, 768}, {"deepseek-v2-lite", 2048, 1408}};

std::vector<Shape> choose_shapes(const std::vector<std::string>& names) {
  if (names.empty()) return {std::begin(kShapes), std::end(kShapes)};
  std::vector<Shape> out;
  for (const std::string& name : names) {
    const auto* known = std::find_if(std::begin(kShapes), std::end(kShapes), [&](const Shape& s) { return s.name == name; });
    if (known != std::end(kShapes)) {
      out.push_back(*known);
      continue;
    }
    const auto [hidden, width] = parse_pair("--shape", name, 'x', "mixtral-8x7b, qwen3-30b-a3b, deepseek-v2-lite or HIDDENxWIDTH, as 4096x14336");
    out.push_back({name, hidden, width});
  }
  return out;
}

// As many experts of one shape as fill the memory, used in turn: when one's turn comes again its weights have left the caches.
class Experts {
 public:
  Experts(const Shape& shape, int64_t most_tokens, BenchSetup& setup)
      : shape_(shape),
        pass_tokens_(std::max(kDefaultPassTokens, most_tokens)),
        bytes_(static_cast<size_t>(shape.hidden) * static_cast<size_t>(shape.width) * bytes_of(setup.dtype)),
        count_(std::max<int64_t>(2, static_cast<int64_t>(setup.memory_bytes / (3 * bytes_)))),
        memory_(random_memory(static_cast<size_t>(count_) * 3 * bytes_, setup.dtype, setup.pool)),
        layer_(layer_spec(), sizes(setup, most_tokens), 0, setup.dtype, setup) {
    for (int64_t e = 0; e < count_; ++e) {
      const auto view = [&](int i, int rows, int cols) {
        return TensorView{memory_.data() + static_cast<size_t>(3 * e + i) * bytes_, setup.dtype, rows, cols};
      };
      experts_.push_back({view(0, shape.width, shape.hidden), view(1, shape.width, shape.hidden), view(2, shape.hidden, shape.width)});
    }
    parts_.resize(experts_.size());
    rows_.resize(static_cast<size_t>(pass_tokens_));
  }

  [[nodiscard]] const MappedMemory& memory() const { return memory_; }

  /// An expert micro-batch as the executor makes it: the next experts, `tokens` each, gathered from the pass.
  Work run_micro_batch(int64_t tokens) {
    const int64_t experts = std::clamp<int64_t>(kDefaultExpertMicroBatch / tokens, 1, count_);
    const Buffers& b = layer_.buffers();
    if (out_row_ + experts * tokens > pass_tokens_) out_row_ = 0;
    for (int64_t e = 0; e < experts; ++e) {
      int32_t* rows = rows_.data() + e * tokens;
      const int64_t step = pass_tokens_ / tokens;
      for (int64_t i = 0; i < tokens; ++i) rows[i] = static_cast<int32_t>(i * step + e % step);
      parts_[static_cast<size_t>(e)] = {.mlp = &next(),
                                        .rows = rows,
                                        .count = tokens,
                                        .at = e * tokens,
                                        .y = act_at(layer_.context(), b.expert_out, (out_row_ + e * tokens) * shape_.hidden)};
    }
    out_row_ += experts * tokens;
    run_experts(layer_.context(), {parts_.data(), static_cast<size_t>(experts)});
    return work(3, tokens, experts);
  }

  /// One projection of the next expert, as attention's projections and the head of the model run.
  Work run_linear(int64_t tokens, bool down) {
    const MlpWeights& mlp = next();
    const TensorView& w = down ? mlp.down : mlp.gate;
    const Buffers& b = layer_.buffers();
    linear(layer_.context(),
           {.x = down ? b.gate : b.normed,
            .x_dtype = layer_.context().act,
            .x_stride = w.cols,
            .y = down ? b.hidden : b.qkv,
            .y_dtype = DType::f32,
            .y_stride = w.rows},
           w, {}, tokens);
    return work(1, tokens, 1);
  }

 private:
  const MlpWeights& next() {
    at_ = (at_ + 1) % experts_.size();
    return experts_[at_];
  }

  // Of `matrices` of each of some experts.
  [[nodiscard]] Work work(int matrices, int64_t tokens, int64_t experts) const {
    const auto count = static_cast<double>(matrices * experts);
    return {2 * count * shape_.hidden * shape_.width * static_cast<double>(tokens), count * static_cast<double>(bytes_)};
  }

  // Attention as wide as its buffers have to be: they take the outputs of single projections.
  [[nodiscard]] ModelSpec layer_spec() const {
    ModelSpec spec = bench_spec(shape_.hidden, shape_.width, 1, 1, 2 * static_cast<int>(ceil_div(std::max(shape_.hidden, shape_.width), 6)));
    spec.layers[0].mlp.num_experts = static_cast<int>(count_);
    spec.layers[0].mlp.top_k = 1;
    return spec;
  }

  [[nodiscard]] PassSizes sizes(const BenchSetup& setup, int64_t most_tokens) const {
    return {.pass_tokens = pass_tokens_,
            .sequences = 1,
            .wave_tokens = pass_tokens_,
            .attention_micro_batch = 1,
            .expert_micro_batch = std::max(kDefaultExpertMicroBatch, most_tokens),
            .logit_rows = 1,
            .page_tokens = kPageTokens,
            .threads = setup.pool.size()};
  }

  Shape shape_;
  int64_t pass_tokens_;
  size_t bytes_;  // of a matrix
  int64_t count_;
  MappedMemory memory_;
  BenchLayer layer_;
  std::vector<MlpWeights> experts_;
  std::vector<MlpRows> parts_;
  std::vector<int32_t> rows_;
  size_t at_ = 0;
  int64_t out_row_ = 0;
};

}  // namespace

void bench_gemm(const GemmBench& options, std::ostream& out) {
  constexpr int64_t kMostTokens = 1 << 14;
  const std::vector<Shape> shapes = choose_shapes(options.shapes);
  check_values("--tokens", options.tokens, kMostTokens);
  const std::vector<int64_t> tokens = options.tokens.empty() ? std::vector<int64_t>{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024} : options.tokens;
  BenchSetup setup(options, options.dtype);
  nlohmann::ordered_json about = about_bench("gemm", setup.kernels.name, setup.pool.size());
  about["dtype"] = options.dtype;
  Report report(out, options.json, std::move(about), measured_columns({{"shape", "shape"}, {"op", "op"}, {"tokens", "tokens"}}));
  for (const Shape& shape : shapes) {
    Experts experts(shape, *std::max_element(tokens.begin(), tokens.end()), setup);
    const Roofs roofs(setup.kernels, setup.dtype, setup.pool, experts.memory());
    for (const int64_t t : tokens) {
      const auto add = [&](const std::string& op, const auto& run) {
        run();  // touches what it writes
        report.row(measured_cells({shape.name, op, t}, roofs.measure(setup.samples, run)));
      };
      add("experts", [&] { return experts.run_micro_batch(t); });
      add("linear up", [&] { return experts.run_linear(t, false); });
      add("linear down", [&] { return experts.run_linear(t, true); });
    }
  }
  report.finish();
}

}  // namespace moegen
