#include "bench.h"

#include <algorithm>
#include <charconv>
#include <iostream>
#include <sstream>

#include "moegen/size.h"
#include "options.h"

namespace {

void add_size(CLI::App& app, const std::string& name, uint64_t& target, const std::string& help) {
  add_parsed(app, name, target, help, moegen::parse_size)->type_name("SIZE");
}

// "a,b"
std::vector<std::string> parse_list(const std::string& text) {
  std::vector<std::string> out;
  std::istringstream in(text + ",");
  for (std::string value; std::getline(in, value, ',');) out.push_back(value);
  if (std::count(out.begin(), out.end(), "") > 0)
    throw moegen::Error(moegen::ErrorCode::invalid_argument, "expected values with single commas between them, found " + text);
  return out;
}

std::vector<int64_t> parse_counts(const std::string& text) {
  std::vector<int64_t> out;
  for (const std::string& value : parse_list(text)) {
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), out.emplace_back());
    if (error != std::errc() || end != value.data() + value.size())
      throw moegen::Error(moegen::ErrorCode::invalid_argument, "expected whole numbers with commas between them, found " + value);
  }
  return out;
}

void add_list(CLI::App& app, const std::string& name, std::vector<std::string>& target, const std::string& help, const std::string& type) {
  add_parsed(app, name, target, help, parse_list)->type_name(type);
}

void add_counts(CLI::App& app, const std::string& name, std::vector<int64_t>& target, const std::string& help) {
  add_parsed(app, name, target, help, parse_counts)->type_name("N,N");
}

void add_common(CLI::App& app, moegen::BenchOptions& o, const std::string& samples = "of every figure; the median is shown, and (lowest-highest)") {
  app.add_option("--threads", o.threads, "threads that compute [physical cores, cgroup quota included]")->type_name("N");
  app.add_option("--samples", o.samples, samples)->capture_default_str()->type_name("N");
  add_size(app, "--memory", o.memory, "what is gone through so that caches stay cold [4 times the last cache, 512MiB at least]");
  app.add_flag("--json", o.json, "one JSON object, in bytes/s and FLOP/s");
}

void add_kernels(CLI::App& app, moegen::BenchOptions& o, std::string& dtype) {
  app.add_option("--cpu-path", o.cpu_path, "kernels; auto: the best this CPU runs; reference: slow")
      ->capture_default_str()
      ->type_name("auto|amx|avx512_bf16|avx512|avx2|reference");
  app.add_option("--dtype", dtype, "of activations and weights")->capture_default_str()->type_name("bfloat16|float32");
}

}  // namespace

BenchCommand::BenchCommand(CLI::App& app, const std::function<void(CLI::App&, moegen::EngineOptions&)>& add_model_options)
    : command_(app.add_subcommand("bench", "measures this machine, the kernels, and whole runs, each against the machine's own roof")) {
  command_->require_subcommand(1);
  add_machine();
  add_gemm();
  add_attention();
  add_copy();
  add_throughput(add_model_options);
  command_->footer(
      "A roof is the machine's own limit: multiply-adds in registers, or DRAM reads, whichever the work meets first. It is measured beside every\n"
      "sample, on the same threads, so that what disturbs one disturbs the other. Figures: median (lowest-highest). docs/benchmarks.md says more.");
}

void BenchCommand::add_machine() {
  CLI::App* c = command_->add_subcommand("machine", "this machine's profile: DRAM, storage, every step of a pass; --json: a machine file");
  c->add_option("-m,--model", machine_.directory, "the shapes and the dtype of this model, on its file system [those of Qwen3-30B-A3B, here]")
      ->type_name("DIR");
  c->add_flag("--refresh", machine_.refresh, "measures, whatever is kept from before");
  add_kernels(*c, machine_, machine_.dtype);
  c->get_option("--dtype")->description("of activations; auto: as the model")->type_name("auto|bfloat16|float32");
  c->add_option("--kv-dtype", machine_.kv_dtype, "auto: as --dtype")->capture_default_str()->type_name("auto|int8");
  c->add_option("--device", machine_.device, "a GPU that is measured too: its link, products, attention")
      ->capture_default_str()
      ->type_name("auto|cpu|cuda[:N]|emulated[:SEED]");
  add_size(*c, "--file-size", machine_.file_bytes, "of a temporary file that is read where the model's shards have less [512MiB]");
  add_common(*c, machine_, "of every figure, at least");
  c->footer(
      "Measured once and kept in $XDG_CACHE_HOME/moegen or ~/.cache/moegen, for this CPU, Linux, file system, and these shapes and dtypes: less "
      "than\n"
      "30 s, and nothing later. docs/benchmarks.md says what the figures mean.\n"
      "Example: moegen bench machine -m DIR --json > machine.json");
}

void BenchCommand::add_gemm() {
  CLI::App* c = command_->add_subcommand("gemm", "experts and projections as the engine runs them, weights cold, by tokens per expert");
  add_list(*c, "--shape", gemm_.shapes, "mixtral-8x7b | qwen3-30b-a3b | deepseek-v2-lite | HIDDENxWIDTH [these three]", "NAME,NAME");
  add_counts(*c, "--tokens", gemm_.tokens, "tokens per expert [1,2,4..1024]");
  add_kernels(*c, gemm_, gemm_.dtype);
  c->add_option("--weights", gemm_.weights, "auto: as --dtype; int4 in groups of 32, int8 of 128")
      ->capture_default_str()
      ->type_name("auto|fp8|mxfp4|int4|int4-128|int8");
  add_common(*c, gemm_);
  c->footer(
      "experts: micro-batches of whole experts, gate and up with the activation, then down; linear: one projection at a time.\n"
      "GB/s are those of the weights. Example: moegen bench gemm --shape qwen3-30b-a3b --tokens 1,8,256");
}

void BenchCommand::add_attention() {
  CLI::App* c = command_->add_subcommand("attention", "decode (K and V against DRAM) and prefill (FLOP/s against the peak)");
  add_list(*c, "--heads", attention_.heads, "query heads and KV heads [32:4,32:8,16:16]", "Q:KV,Q:KV");
  add_counts(*c, "--contexts", attention_.contexts, "of decode [128,512,2048,8192]");
  add_counts(*c, "--prompts", attention_.prompts, "of prefill [512,1024,2048,4096]");
  c->add_option("--head-dim", attention_.head_dim, "width of a head")->capture_default_str()->type_name("N");
  c->add_option("--window", attention_.window, "keys that a query sees, its own included; 0: all")->capture_default_str()->type_name("N");
  c->add_option("--latent", attention_.latent, "latent attention of these widths, as 512:128:64:128; --heads Q:1")->type_name("RANK:PLAIN:ROPE:V");
  add_kernels(*c, attention_, attention_.dtype);
  c->add_option("--kv-dtype", attention_.kv_dtype, "auto: as --dtype")->capture_default_str()->type_name("auto|int8");
  add_common(*c, attention_);
  c->footer("As many sequences decode as fill the memory with K and V; prompts come in passes of 4096 tokens.");
}

void BenchCommand::add_copy() {
  CLI::App* c = command_->add_subcommand("copy", "memcpy from DRAM to DRAM, by threads; a GPU's link, by the bytes of a copy");
  c->add_option("--direction", copy_.direction, "h2h: host memory; the others: the link of a GPU")
      ->capture_default_str()
      ->type_name("h2h|h2d|d2h|both");
  c->add_option("--device", copy_.device, "of h2d, d2h and both")->capture_default_str()->type_name("cuda");
  add_common(*c, copy_);
  c->footer("The roof: half of the rate at which the same threads read, for every byte crosses twice.");
}

void BenchCommand::add_throughput(const std::function<void(CLI::App&, moegen::EngineOptions&)>& add_model_options) {
  CLI::App* c = command_->add_subcommand("throughput", "whole runs of a model over random token ids: prefill and decode, tokens/s and the roofs");
  add_model_options(*c, throughput_.engine);
  add_counts(*c, "--sequences", throughput_.sequences, "requests of a run, one line each [64,256,1024]");
  c->add_option("--prompt", throughput_.prompt, "tokens of a prompt")->capture_default_str()->type_name("N");
  c->add_option("--generate", throughput_.generate, "tokens of an answer, 2 at least")->capture_default_str()->type_name("N");
  c->add_flag("--ragged", throughput_.ragged, "lengths spread evenly from half to one and a half times these");
  c->add_option("--samples", throughput_.samples, "runs of each kind")->capture_default_str()->type_name("N");
  add_size(*c, "--memory", throughput_.memory, "what DRAM's roof is measured with, beside --host-memory [4 times the last cache, 512MiB at least]");
  c->add_flag("--json", throughput_.json, "one JSON object");
  c->footer(
      "prefill: answers of one token; decode: what answers of --generate tokens take beyond that. Loading and a first run are not counted.\n"
      "Example: moegen bench throughput -m DIR --load-format dummy --sequences 64,256 --prompt 512");
}

void BenchCommand::run() const {
  const std::string name = command_->get_subcommands().front()->get_name();
  if (name == "machine") moegen::bench_machine(machine_, std::cout);
  if (name == "gemm") moegen::bench_gemm(gemm_, std::cout);
  if (name == "attention") moegen::bench_attention(attention_, std::cout);
  if (name == "copy") moegen::bench_copy(copy_, std::cout);
  if (name == "throughput") moegen::bench_throughput(throughput_, std::cout);
}
