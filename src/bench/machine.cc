#include <algorithm>
#include <optional>

#include "api/gpu_setup.h"
#include "base/error.h"
#include "base/log.h"
#include "base/size.h"
#include "bench/report.h"
#include "bench/setup.h"
#include "checkpoint/checkpoint.h"
#include "moegen/bench.h"
#include "plan/machine_file.h"
#include "profile/disk.h"
#include "profile/machine_profile.h"
#include "profile/shapes.h"

namespace moegen {
namespace {

// A curve as people read it: "by tokens  1: 28.1  2: 55.6", in `unit`.
struct Line {
  std::string what;
  std::string by;
  std::string unit;
  double scale = 1;
  const Curve* curve = nullptr;
};

// Powers of two from 1,024 on as 1k, 2k .. 1M.
std::string size_text(double x) {
  const auto n = static_cast<int64_t>(x);
  if (n >= 1 << 20 && n % (1 << 20) == 0) return fmt::format("{}M", n >> 20);
  return n >= 1024 && n % 1024 == 0 ? fmt::format("{}k", n >> 10) : fmt::format("{}", n);
}

// Three digits.
std::string rate_text(double rate) { return fmt::format("{:.{}f}", rate, rate >= 100 ? 0 : rate >= 10 ? 1 : 2); }

std::string coded(DType weights) {
  return weights == DType::bf16 || weights == DType::f32 ? ""
                                                         : fmt::format(" {}", weights == DType::u8   ? "int8"
                                                                              : weights == DType::i4 ? "int4"
                                                                                                     : name_of(weights));
}

std::vector<Line> lines_of(const Machine& m) {
  std::vector<Line> lines;
  const auto add = [&](const std::string& what, const char* by, const char* unit, const Curve& curve) {
    if (!curve.empty()) lines.push_back({what, by, unit, std::string_view(unit) == "M/s" ? 1e6 : 1e9, &curve});
  };
  for (const Machine::Peak& p : m.cpu.peaks)
    add(fmt::format("multiply {} {}", p.dtype == DType::bf16 ? "bf16" : "f32", p.path), "threads", "GFLOP/s", p.flops);
  add("DRAM read", "threads", "GB/s", m.dram.by_threads);
  if (m.gpu) {
    add("GPU, expert", "tokens", "GFLOP/s", m.gpu->products);
    add("GPU, grouped experts", "tokens", "GFLOP/s", m.gpu->grouped);
  }
  if (m.ssd) {
    for (const auto& [depth, curve] : m.ssd->by_depth.lines) add(fmt::format("storage, {} at a time", depth), "bytes", "GB/s", curve);
  }
  if (!m.steps) return lines;
  for (const auto& s : m.steps->mlps) add(fmt::format("expert {}x{}{}", s.hidden, s.width, coded(s.weights)), "tokens", "GFLOP/s", s.flops);
  for (const auto& s : m.steps->linears) add(fmt::format("linear {}x{}{}", s.outputs, s.k, coded(s.weights)), "rows", "GFLOP/s", s.flops);
  for (const auto& s : m.steps->attentions) {
    const std::string heads = s.shape.latent_dim > 0 ? fmt::format("{}:1x{}/{}", s.shape.heads, s.shape.head_dim, s.shape.latent_dim)
                                                     : fmt::format("{}:{}x{}", s.shape.heads, s.shape.kv_heads, s.shape.head_dim);
    for (const auto& [sequences, curve] : s.decode.lines) add(fmt::format("decode {}, {} seq.", heads, sequences), "context", "GB/s", curve);
    add(fmt::format("prefill {}", heads), "context", "GFLOP/s", s.prefill);
  }
  const StepRates::Rows& r = m.steps->rows;
  for (const auto& [name, curve] : {std::pair{"embed", &r.embed},
                                    {"norm", &r.norm},
                                    {"rope, K and V", &r.place},
                                    {"route", &r.route},
                                    {"combine", &r.combine},
                                    {"argmax", &r.argmax},
                                    {"draw", &r.draw}}) {
    add(name, "rows", "M/s", *curve);
  }
  return lines;
}

// The middle and the largest of `noises`, in %.
std::string noise_text(std::vector<double> noises) {
  std::sort(noises.begin(), noises.end());
  return noises.empty() ? "-" : fmt::format("{:.0f}-{:.0f}", 100 * noises[noises.size() / 2], 100 * noises.back());
}

void print(const Machine& m, std::ostream& out) {
  out << fmt::format("{:<26}{:<9}{:<9}{:<10}{}\n", "what", "unit", "noise %", "by", "size: rate");
  std::vector<double> all;
  for (const Line& line : lines_of(m)) {
    std::vector<double> noises;
    std::string points;
    for (const Curve::Point& p : line.curve->points) {
      noises.push_back(p.noise);
      points += fmt::format("  {}: {}", size_text(p.x), rate_text(p.rate / line.scale));
    }
    all.insert(all.end(), noises.begin(), noises.end());
    out << fmt::format("{:<26}{:<9}{:<9}{:<8}{}\n", line.what, line.unit, noise_text(noises), line.by, points);
  }
  if (m.steps)
    out << fmt::format("fixed: fork and join {:.2g} us, a pass {:.2g} us\n", m.steps->fork_join_seconds * 1e6, m.steps->pass_seconds * 1e6);
  if (m.ssd) out << "storage: " << m.ssd->note << "\n";
  if (m.gpu) {
    const Machine::Gpu& g = *m.gpu;
    out << fmt::format("GPU: {}, {} free, {:.0f} GB/s of weights for one row; attention of prompts {:.0f} GFLOP/s, of generated tokens {:.0f} GB/s\n",
                       g.name, format_bytes(g.memory_bytes), g.memory_bandwidth / 1e9, g.attention_flops.value_or(0) / 1e9,
                       g.attention_bandwidth.value_or(0) / 1e9)
        << fmt::format("roofs: {:.0f} GFLOP/s of large products, {:.0f} GB/s of device memory\n", g.bf16_flops / 1e9, g.memory_bandwidth / 1e9)
        << fmt::format("link: to the GPU {:.1f} GB/s, back {:.1f}, both at once {:.1f} together\n", m.link->h2d / 1e9, m.link->d2h / 1e9,
                       m.link->both.value_or(0) / 1e9);
  } else {
    out << "GPU: none measured; --device cuda measures one\n";
  }
  out << fmt::format("noise: (90th - 10th percentile) / median of a rate's samples, in % the median and the largest of a line; of all {}\n",
                     noise_text(all));
}

DType parse_dtype(const MachineBench& options, DType own) {
  if (options.dtype == "auto") return own;
  if (options.dtype == "bfloat16") return DType::bf16;
  if (options.dtype == "float32") return DType::f32;
  throw_error(ErrorCode::invalid_argument, "--dtype {}: expected auto, bfloat16 or float32", options.dtype);
}

}  // namespace

void bench_machine(const MachineBench& options, std::ostream& out) {
  if (options.file_bytes < kLeastFileBytes) throw_error(ErrorCode::invalid_argument, "--file-size {}: at least 1 MiB is needed", options.file_bytes);
  if (options.kv_dtype != "auto" && options.kv_dtype != "int8")
    throw_error(ErrorCode::invalid_argument, "--kv-dtype {}: expected auto (as --dtype) or int8", options.kv_dtype);
  check_common(options);
  if (!std::filesystem::is_directory(options.directory)) throw_error(ErrorCode::not_found, "{}: no such directory", options.directory.string());
  const bool model = std::filesystem::exists(options.directory / "config.json");
  const ModelSpec spec = model ? load_spec(options.directory) : default_model();
  ProfileInput in;
  in.spec = &spec;
  in.act = parse_dtype(options, spec.dtype == DType::f32 ? DType::f32 : DType::bf16);
  in.kv_dtype = options.kv_dtype == "int8" ? DType::i8 : in.act;
  in.cpu_path = options.cpu_path;
  in.threads = options.threads;
  in.directory = options.directory;
  in.memory = options.memory;
  in.file_bytes = options.file_bytes;
  in.effort = {options.samples, options.seconds};
  in.refresh = options.refresh;
  EngineOptions engine;
  engine.device = options.device;
  const std::unique_ptr<Device> device = open_device(engine);
  in.device = device.get();
  if (!options.cache.empty()) in.cache = options.cache;
  nlohmann::ordered_json about =
      about_bench("machine", select_kernels(options.cpu_path).name, options.threads > 0 ? options.threads : usable_cores());
  in.build = about["moegen"];
  if (!options.json) {
    about["shapes"] =
        model ? fmt::format("of {}", options.directory.string()) : fmt::format("of Qwen3-30B-A3B: {} holds no model", options.directory.string());
    for (const auto& [key, value] : about.items()) out << key << ": " << (value.is_string() ? value.get<std::string>() : value.dump()) << "\n";
    out << std::flush;
  }
  const MachineProfile profile = machine_profile(in);
  for (const std::string& warning : profile.warnings) log_line("moegen: {}", warning);
  if (options.json) {
    log_line("moegen: machine profile {}", profile.source);
    out << pretty(to_json(profile.machine));
    return;
  }
  out << "profile: " << profile.source << "\n";
  print(profile.machine, out);
}

}  // namespace moegen
