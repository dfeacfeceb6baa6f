#include <algorithm>
#include <map>

#include "base/error.h"
#include "bench/report.h"
#include "bench/setup.h"
#include "moegen/bench.h"
#include "profile/gemm_work.h"

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

struct Weights {
  DType dtype;
  int64_t group = 0;  // of i4 and u8
};

Weights choose_weights(const std::string& name, DType own, const std::vector<Shape>& shapes) {
  if (name == "auto") return {own};
  if (name == "fp8") return {DType::f8_e4m3};
  const std::map<std::string, Weights> grouped{
      {"mxfp4", {DType::f4}}, {"int4", {DType::i4, 32}}, {"int4-128", {DType::i4, 128}}, {"int8", {DType::u8, 128}}};
  const auto it = grouped.find(name);
  if (it == grouped.end())
    throw_error(ErrorCode::invalid_argument, "--weights {}: expected auto (as --dtype), fp8, mxfp4, int4, int4-128 or int8", name);
  const int64_t block = std::max(kF4Block, it->second.group);
  for (const Shape& s : shapes) {
    if (s.hidden % block != 0 || s.width % block != 0)
      throw_error(ErrorCode::invalid_argument, "--shape {}: {} has blocks of {}", s.name, name, block);
  }
  return it->second;
}

}  // namespace

void bench_gemm(const GemmBench& options, std::ostream& out) {
  constexpr int64_t kMostTokens = 1 << 14;
  const std::vector<Shape> shapes = choose_shapes(options.shapes);
  check_values("--tokens", options.tokens, kMostTokens);
  const std::vector<int64_t> tokens = options.tokens.empty() ? std::vector<int64_t>{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024} : options.tokens;
  BenchSetup setup(options, options.dtype);
  nlohmann::ordered_json about = about_bench("gemm", setup.kernels.name, setup.pool.size());
  const Weights weights = choose_weights(options.weights, setup.dtype, shapes);
  about["dtype"] = options.dtype;
  about["weights"] = options.weights == "auto" ? std::string(name_of(weights.dtype)) : options.weights;
  Report report(out, options.json, std::move(about), measured_columns({{"shape", "shape"}, {"op", "op"}, {"tokens", "tokens"}}));
  const int64_t most = *std::max_element(tokens.begin(), tokens.end());
  for (const Shape& shape : shapes) {
    const auto expert_bytes = 3 * static_cast<uint64_t>(shape.hidden) * static_cast<uint64_t>(shape.width) * bytes_of(setup.dtype);
    MappedMemory memory = random_memory(std::max(setup.memory_bytes, 2 * expert_bytes), setup.pool);
    make_scales(memory, weights.dtype, setup.pool);
    const Workbench bench{setup.kernels, setup.pool, setup.dtype, weights.dtype, memory, weights.group};
    const Roofs roofs(bench);
    MlpWork experts(shape.hidden, shape.width, most, bench);
    LinearWork up(shape.width, shape.hidden, most, bench);
    LinearWork down(shape.hidden, shape.width, most, bench);
    for (const int64_t t : tokens) {
      const auto add = [&](const std::string& op, auto& work) {
        work.run(t);  // touches what it writes
        report.row(measured_cells({shape.name, op, t}, roofs.measure(setup.samples, [&] { return work.run(t); })));
      };
      add("experts", experts);
      add("linear up", up);
      add("linear down", down);
    }
  }
  report.finish();
}

}  // namespace moegen
