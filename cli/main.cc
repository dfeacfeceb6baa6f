#include <fcntl.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <memory>
#include <new>
#include <sstream>
#include <utility>

#include "bench.h"
#include "inform.h"
#include "moegen/batch.h"
#include "moegen/engine.h"
#include "moegen/error.h"
#include "moegen/plan.h"
#include "moegen/prompt_counter.h"
#include "moegen/size.h"
#include "moegen/tokenizer.h"
#include "moegen/version.h"
#include "options.h"
#include "overwriting.h"

namespace {

using moegen::EngineOptions;

// Refuses numbers outside of [low, high], and what is no number.
CLI::Validator between(double low, double high) {
  return {[low, high](const std::string& text) -> std::string {
            double value = 0;
            const bool number = CLI::detail::lexical_cast(text, value);
            if (number && value >= low && value <= high) return "";
            std::ostringstream words;
            words << text << " is not " << (high < 1e18 ? "from " : "at least ") << low;
            if (high < 1e18) words << " to " << high;
            return words.str();
          },
          ""};
}

// The options that every command with a model has.
void add_engine_options(CLI::App& app, EngineOptions& o) {
  app.add_option("-m,--model", o.model, "Hugging Face checkpoint directory, read in place, never the network")->required()->type_name("DIR");
  app.add_option("--device", o.device, "cuda:N is one of several GPUs; emulated: the GPU's kernels on the CPU, slow, to test; auto is the CPU [auto]")
      ->type_name("auto|cpu|cuda|emulated");
  app.add_option("--cpu-path", o.cpu_path, "kernels; auto: the best this CPU runs; reference: slow [auto]")
      ->type_name("auto|amx|avx512_bf16|avx512|avx2|reference");
  app.add_option("--dtype", o.dtype, "compute type of activations and KV [auto: float32 for a float32 checkpoint]")
      ->type_name("auto|bfloat16|float32");
  app.add_option("--kv-dtype", o.kv_dtype, "how KV pages are stored; int8 takes half the memory and rounds keys and values [auto: as computed]")
      ->type_name("auto|bfloat16|int8");
  app.add_option("--load-format", o.load_format, "dummy: random weights of the right shape from config.json [auto]")->type_name("auto|dummy");
  app.add_option("--cpu-attention-share", o.cpu_attention_share,
                 "omega: share of the sequences whose generated tokens attend on the CPU, next to their K and V (GPU runs) [planned, where rates are "
                 "known, else 0]")
      ->check(between(0, 1))
      ->type_name("X");
  app.add_option("--cpu-expert-tokens", o.cpu_expert_tokens,
                 "experts that are not in device memory run on the CPU where a pass has at most so many tokens for them (GPU runs) "
                 "[planned, where --machine has the link's rate, else 0]")
      ->check(between(0, 1e6))
      ->type_name("N");
  add_parsed(app, "--device-memory", o.device_memory, "HBM the run may use (GPU runs)", moegen::parse_size)->type_name("SIZE");
  add_parsed(app, "--host-memory", o.host_memory, "RAM for weights, KV and buffers; never exceeded [80 % of available, cgroup limits included]",
             moegen::parse_size)
      ->type_name("SIZE");
  add_parsed(app, "--weight-memory", o.weight_memory,
             "part of the above for weights; those beyond it stream from storage [planned: all, if they fit]", moegen::parse_size)
      ->type_name("SIZE");
  add_parsed(app, "--weight-slots", o.weight_slots, "slots that experts stream through; 1: nothing is read while it computes [planned]",
             moegen::parse_count)
      ->type_name("N");
  add_parsed(app, "--kv-memory", o.kv_memory, "part of the above for KV pages [planned]", moegen::parse_size)->type_name("SIZE");
  add_parsed(
      app, "--max-model-len", o.max_model_len,
      "context limit in tokens, 32k and 32K are fine; with longrope (Phi-3.5) one beyond the first training's takes the long factors [the model's]",
      moegen::parse_count)
      ->type_name("N");
  add_parsed(app, "--max-num-seqs", o.max_num_seqs, "sequences in flight [planned]", moegen::parse_count)->type_name("N");
  add_parsed(app, "--max-pass-tokens", o.max_pass_tokens, "tokens in one pass [planned]", moegen::parse_count)->type_name("N");
  add_parsed(app, "--attention-micro-batch", o.attention_micro_batch, "b_a: sequences whose attention runs at a time [planned]", moegen::parse_count)
      ->type_name("N");
  add_parsed(app, "--expert-micro-batch", o.expert_micro_batch, "b_e: tokens an expert takes at a time [planned]", moegen::parse_count)
      ->type_name("N");
  app.add_option("--machine", o.machine_file, "rates that sizes are planned with: what bench machine --json prints [those measured here before]")
      ->type_name("FILE");
  app.add_option("--threads", o.threads, "threads that compute [physical cores, cgroup quota included]")->check(between(1, 1024))->type_name("N");
  app.add_flag("--skip-tokenizer-init", o.skip_tokenizer_init, "token ids in, token ids out");
  app.add_option("--seed", o.seed, "used where a request has no seed of its own [0]")->type_name("N");
  app.add_option("--trace", o.trace_file, "a Chrome trace of what computed and what was read when: open it in Perfetto; of runs on the CPU")
      ->type_name("F");
  auto* parser = app.add_option("--parser", o.parser, "how reasoning and tool calls of conversations are read [auto: by the chat template]")
                     ->type_name("auto|none|qwen3|qwen3_coder|deepseek_r1|deepseek_v3|deepseek_v31|openai|glm45|minimax_m2|kimi_k2|mistral");
  app.add_flag_callback(
         "--no-parse", [&o] { o.parser = "none"; }, "leave them in the text: --parser none")
      ->excludes(parser);
  app.add_option_function<std::string>(
         "--generation-config", [&o](const std::string& v) { o.use_generation_config = v == "auto"; },
         "auto: defaults of generation_config.json; none: without them, but for where answers end")
      ->check(silent(CLI::IsMember({"auto", "none"})))
      ->type_name("auto|none");
}

// What is to be known before weights are read, which may take minutes.
void print_start(const moegen::EngineInfo& info) {
  for (const auto& [label, text] : info.screen) std::cerr << std::left << std::setw(9) << label << text << "\n";
}

struct GenerateOptions {
  std::string prompt, prompt_file;
  bool chat = false;
  moegen::SamplingParams sampling;
};

void add_generate_options(CLI::App& app, GenerateOptions& o) {
  auto* prompt = app.add_option("-p,--prompt", o.prompt, "the prompt")->type_name("TEXT");
  app.add_option("--prompt-file", o.prompt_file, "a file that holds the prompt, - for stdin")->excludes(prompt)->type_name("F");
  app.add_flag("--chat", o.chat, "the prompt is a user's message: render it with the model's chat template");
  app.add_option("--max-tokens", o.sampling.max_tokens, "tokens to generate at most [16, or the rest of the context with --chat]")
      ->check(between(1, 1e18))
      ->type_name("N");
  app.add_option("--temperature", o.sampling.temperature, "0: greedy [generation_config.json, else 1]")->check(between(0, 1e18))->type_name("X");
  app.add_option("--top-p", o.sampling.top_p, "keep the most probable tokens of this mass [generation_config.json, else 1]")
      ->check(between(1e-9, 1))
      ->type_name("X");
  app.add_option("--top-k", o.sampling.top_k, "keep so many of the most probable tokens; 0: all [generation_config.json, else 0]")
      ->check(between(-1, 0x1p31))
      ->type_name("N");
  app.add_option("--min-p", o.sampling.min_p, "drop tokens less probable than this share of the best [generation_config.json, else 0]")
      ->check(between(0, 1))
      ->type_name("X");
  app.add_option("--stop", o.sampling.stop, "ends the text; repeatable")
      ->allow_extra_args(false)
      ->check([](const std::string& text) { return text.empty() ? std::string("a stop string must not be empty") : ""; })
      ->type_name("TEXT");
  app.add_flag("--ignore-eos", o.sampling.ignore_eos, "go on behind the end of the text");
}

std::string read_prompt(const GenerateOptions& o) {
  if (o.prompt_file.empty()) return o.prompt;
  std::ostringstream text;
  if (o.prompt_file == "-") {
    text << std::cin.rdbuf();
  } else {
    std::ifstream in(o.prompt_file, std::ios::binary);
    if (std::filesystem::is_directory(o.prompt_file)) throw moegen::Error(moegen::ErrorCode::invalid_argument, o.prompt_file + ": is a directory");
    if (!in) throw moegen::Error(moegen::ErrorCode::not_found, o.prompt_file + ": cannot open");
    text << in.rdbuf();
  }
  return text.str();
}

// One request, its text to stdout as it comes.
class OnePrompt : public moegen::RequestSource, public moegen::CompletionSink {
 public:
  explicit OnePrompt(moegen::Request request) : request_(std::move(request)) {}
  std::optional<moegen::Request> next() override { return std::exchange(request_, std::nullopt); }
  void text(const std::string&, int, std::string_view piece) override { std::cout << piece << std::flush; }
  void done(moegen::Completion completion) override {
    if (completion.error) error_ = completion.error->message;
    std::cout << "\n" << std::flush;
  }
  [[nodiscard]] const std::string& error() const { return error_; }

 private:
  std::optional<moegen::Request> request_;
  std::string error_;
};

void generate(const EngineOptions& engine_options, const GenerateOptions& o) {
  moegen::Request request{"generate", {}, o.sampling, true};
  const std::string prompt = read_prompt(o);
  if (prompt.empty()) throw moegen::Error(moegen::ErrorCode::invalid_argument, "the prompt is empty: give one with -p TEXT or --prompt-file F");
  if (o.chat) {
    moegen::Chat chat;
    chat.messages = moegen::user_message(prompt);
    request.prompts.emplace_back(std::move(chat));
  } else {
    request.prompts.emplace_back(prompt);
  }
  moegen::Engine engine(engine_options);
  OnePrompt job(std::move(request));
  engine.run(job, job);
  if (!job.error().empty()) throw moegen::Error(moegen::ErrorCode::invalid_argument, job.error());
}

struct PlanOptions {
  std::string input;
  std::filesystem::path lengths;
  int64_t prompt = 512, output = 256, requests = 0;
  bool json = false;
  std::string policy = "planned";  // of simulate
};

void add_plan_options(CLI::App& app, PlanOptions& o) {
  auto* lengths = app.add_option("--lengths", o.lengths, "workload: a CSV file with the columns prompt_tokens,output_tokens")->type_name("FILE.csv");
  auto* requests =
      app.add_option("--num-requests", o.requests, "workload: so many requests")->excludes(lengths)->check(between(1, 0x1p26))->type_name("N");
  app.add_option("--prompt-len", o.prompt, "of so many prompt tokens [512]")->needs(requests)->check(between(1, 0x1p30))->type_name("P");
  app.add_option("--output-len", o.output, "and so many output tokens [256]")->needs(requests)->check(between(1, 0x1p30))->type_name("G");
  app.add_option("--input", o.input, "workload: a file of requests, as run-batch reads it")
      ->excludes(lengths)
      ->excludes(requests)
      ->type_name("FILE.jsonl");
  app.add_flag("--json", o.json, "as JSON");
}

void add_simulate_options(CLI::App& app, PlanOptions& o) {
  app.get_option("--machine")->required();
  for (const char* of_runs : {"--device", "--cpu-path", "--load-format", "--threads", "--cpu-expert-tokens"})
    app.get_option(of_runs)->group("");  // not in the help: they are refused, since the machine file says what there is
  app.add_option("--policy", o.policy,
                 "planned: what moegen does; static: as the published MoE-Gen, padded batches that begin and end together, every expert copied in "
                 "every pass (machines with a GPU) [planned]")
      ->check(silent(CLI::IsMember({"planned", "static"})))
      ->type_name("planned|static");
}

// `engine.counter` is used for it, where there is one.
moegen::Workload workload_of(const PlanOptions& o, const EngineOptions& engine) {
  if (!o.input.empty()) {
    moegen::BatchOptions batch;
    batch.input = o.input;
    return moegen::sample_requests(batch, moegen::model_name(engine.model), engine.counter.get());
  }
  if (!o.lengths.empty()) return moegen::read_lengths(o.lengths);
  if (o.requests > 0) return moegen::equal_requests(o.prompt, o.output, o.requests);
  return {};
}

void add_swap_option(CLI::App& app, EngineOptions& o, const char* otherwise) {
  add_parsed(
      app, "--swap-space", o.swap_space,
      std::string("disk for K and V of sequences that wait because KV pages ran out, never more than then stays free; 0: they are computed again [") +
          otherwise + "]",
      moegen::parse_size)
      ->type_name("SIZE");
}

void add_batch_options(CLI::App& app, moegen::BatchOptions& o) {
  app.add_option("-i,--input-file", o.input, "requests: OpenAI batch JSONL; .gz and .zst are read as such; - is stdin")
      ->required()
      ->type_name("IN.jsonl");
  app.add_option("-o,--output-file", o.output, "answers, appended as requests finish; - is stdout")->required()->type_name("OUT.jsonl");
  app.add_option("--error-file", o.error_file, "failed requests go here instead of to the output")->type_name("F");
  auto* resume = app.add_flag_callback(
      "--resume", [&o] { o.resume = true; }, "an output that exists is kept; what it lacks is answered");
  auto* overwrite = app.add_flag_callback(
                           "--no-resume", [&o] { o.resume = false; }, "an output that exists is overwritten [without either it is not touched]")
                        ->excludes(resume);
  app.add_flag("--retry-failed", o.retry_failed, "as --resume, and failed requests are asked again")->excludes(overwrite);
  app.add_option("--changed", o.changed,
                 "on resume, where requests or settings are not those of the answers that are there: stop and say which, keep the answers, or redo "
                 "requests that have changed; the last two imply --resume [stop]")
      ->excludes(overwrite)
      ->check(silent(CLI::IsMember({"stop", "keep", "redo"})))
      ->type_name("stop|keep|redo");
  app.add_flag("--ordered", o.ordered, "answers in the order of the input");
  app.add_option("--metrics", o.metrics_file, "JSON lines, one a pass and a summary")->type_name("F");
  app.add_option("--prometheus", o.prometheus_file, "the state of the run for node_exporter's textfile collector, kept up to date")
      ->type_name("FILE.prom");
  app.add_option("--progress", o.progress, "a bar, or a plain line every 10 s [auto: a bar on a terminal, else plain]")
      ->check(silent(CLI::IsMember({"auto", "bar", "plain", "none"})))
      ->type_name("auto|bar|plain|none");
  app.add_option("--limit", o.limit, "only the first N requests")->check(between(1, 1e18))->type_name("N");
  app.add_option("--served-model-name", o.served_model_names, "a further name that requests may call the model; repeatable")
      ->allow_extra_args(false)
      ->type_name("NAME");
}

int run_batch(const EngineOptions& engine_options, moegen::BatchOptions o) {
  std::signal(SIGPIPE, SIG_IGN);  // a job does not end because nobody reads what it says
  std::signal(SIGXFSZ, SIG_IGN);  // a file that may grow no further (ulimit -f) is an error that is told
  refuse_overwriting({{"-o", o.output},
                      {"--error-file", o.error_file},
                      {"--metrics", o.metrics_file},
                      {"--prometheus", o.prometheus_file},
                      {"--trace", engine_options.trace_file}},
                     {{"--machine", engine_options.machine_file}}, engine_options.model);
  o.settings = moegen::run_settings(engine_options);
  o.trace_file = engine_options.trace_file;
  o.host_memory = engine_options.host_memory.value_or(0);
  moegen::BatchJob job(o);  // refuses what it must before the model is loaded
  EngineOptions planned = engine_options;
  planned.swap_folder = job.temporary_folder();
  planned.measure_from = uint64_t{4} << 30;  // smaller models are soon done
  planned.counter = std::make_shared<moegen::PromptCounter>(engine_options);
  planned.workload = job.workload(moegen::model_name(engine_options.model), planned.counter.get());
  if (o.progress != "none") {
    planned.ready = print_start;
    planned.loading = [](uint64_t bytes, uint64_t all) {
      std::fprintf(stderr, "loading weights: %.1f of %.1f GB\n", 1e-9 * static_cast<double>(bytes), 1e-9 * static_cast<double>(all));
    };
  }
  moegen::Engine engine(planned);
  return job.run(engine);
}

// A full disk behind stdout is not a success.
int flushed() {
  if (std::cout.flush()) return 0;
  std::cerr << "moegen: stdout: cannot write\n";
  return 1;
}

int command(int argc, char** argv) {
  CLI::App app{"moegen: offline, high-throughput inference of Mixture-of-Experts models"};
  app.set_version_flag("--version", [] { return moegen::version_text(); });
  app.require_subcommand(1);
  EngineOptions engine_options;
  moegen::BatchOptions batch_options;
  GenerateOptions generate_options;
  std::filesystem::path model;
  bool json = false;

  CLI::App* batch = app.add_subcommand("run-batch", "answers an OpenAI batch file: JSONL in, JSONL out as requests finish");
  add_batch_options(*batch, batch_options);
  add_engine_options(*batch, engine_options);
  add_swap_option(*batch, engine_options, "for those that the disk is faster for, beside the output file or in TMPDIR, unless that is in memory");
  CLI::App* one = app.add_subcommand("generate", "continues one prompt, text streamed to stdout");
  add_generate_options(*one, generate_options);
  add_engine_options(*one, engine_options);
  CLI::App* show = app.add_subcommand(
      "inspect", "says what a checkpoint holds: family, shapes, bytes, what is skipped or missing; without one, which families can be run");
  show->add_option("-m,--model", model, "checkpoint directory")->type_name("DIR");
  show->add_flag("--json", json, "as JSON");
  CLI::App* tokenize = app.add_subcommand("tokenize", "stdin JSON lines to stdout JSON lines: text to ids, ids to text, chat templates");
  tokenize->add_option("-m,--model", model, "directory with the tokenizer's files")->required()->type_name("DIR");

  batch->footer(
      "Example: moegen run-batch -m DIR -i requests.jsonl -o answers.jsonl --resume\n"
      "A request: {\"custom_id\":\"1\",\"method\":\"POST\",\"url\":\"/v1/completions\",\"body\":{\"prompt\":\"Once\",\"max_tokens\":50}}\n"
      "SIZE: 512MiB, 24GB and 8G (binary), 2g (decimal), or bytes. Exit status: 0 all answered, 1 could not start or had to stop, 2 usage, 130 "
      "interrupted.");
  one->footer("Example: moegen generate -m DIR --chat -p \"Why is the sky blue?\" --max-tokens 200");
  tokenize->footer("Example: echo '{\"text\":\"Hello\"}' | moegen tokenize -m DIR");
  const BenchCommand bench(app, add_engine_options);
  const InformCommands inform(app);
  PlanOptions plan_options;
  CLI::App* plan = app.add_subcommand("plan", "says what would go where, which sizes, how long, and why; runs nothing");
  add_engine_options(*plan, engine_options);
  add_swap_option(*plan, engine_options, "for those that the disk of this folder is faster for");
  add_plan_options(*plan, plan_options);
  CLI::App* simulate =
      app.add_subcommand("simulate", "the same for a machine that is not here: from config.json and a machine file, on a virtual clock");
  add_engine_options(*simulate, engine_options);
  add_swap_option(*simulate, engine_options, "for those that half of the machine's storage is faster for");
  add_plan_options(*simulate, plan_options);
  add_simulate_options(*simulate, plan_options);
  try {
    app.parse(argc, argv);
    if (batch->parsed()) return run_batch(engine_options, batch_options);
    if (one->parsed()) {
      refuse_overwriting({{"--trace", engine_options.trace_file}}, {{"--machine", engine_options.machine_file}}, engine_options.model);
      generate(engine_options, generate_options);
    }
    if (show->parsed()) std::cout << (model.empty() ? moegen::inspect_families(json) : moegen::inspect(model, json));
    if (plan->parsed() || simulate->parsed()) {
      refuse_overwriting({{"--trace", engine_options.trace_file}},
                         {{"--machine", engine_options.machine_file}, {"--input", plan_options.input}, {"--lengths", plan_options.lengths}},
                         engine_options.model);
      // simulate needs a config.json alone
      if (!plan_options.input.empty() && std::filesystem::exists(engine_options.model / "tokenizer.json"))
        engine_options.counter = std::make_shared<moegen::PromptCounter>(engine_options);
      engine_options.workload = workload_of(plan_options, engine_options);
      engine_options.measure_from = 0;
      engine_options.swap_folder = ".";  // a run has one
      if (plan->parsed())
        moegen::show_plan(engine_options, plan_options.json, std::cout);
      else
        moegen::show_simulation(engine_options, plan_options.policy == "static", plan_options.json, std::cout);
    }
    if (bench.parsed()) bench.run();
    if (inform.parsed()) inform.run();
    if (tokenize->parsed()) {
      std::ios::sync_with_stdio(false);  // cin then knows what is there already
      moegen::run_tokenize(model, std::cin, std::cout);
    }
    return flushed();
  } catch (const CLI::ParseError& e) {
    if (argc > 1 && argv[1][0] != '-' && app.get_subcommands().empty()) std::cerr << "moegen: there is no command " << argv[1] << "\n";
    return app.exit(e) == 0 ? flushed() : 2;
  }
}

int out_of_memory() {
  std::cerr << "moegen: out of memory: the system gives no more (ulimit -v, or its memory is taken); see moegen doctor and --host-memory\n";
  return 1;
}

// Given back when memory runs out for the first time, so that what is taken apart then can allocate: nlohmann's destructors do, and would terminate.
void* reserve = nullptr;

void give_reserve_back() {
  std::free(std::exchange(reserve, nullptr));
  throw std::bad_alloc();
}

}  // namespace

// What a file is opened as must not take the place of stdin, stdout or stderr where one of these is closed.
static void prepare_descriptors() {
  for (int fd = 0; fd <= 2; ++fd) {
    if (::fcntl(fd, F_GETFD) < 0 && errno == EBADF && ::open("/dev/null", fd == 0 ? O_RDONLY : O_WRONLY) != fd) std::abort();
  }
}

int main(int argc, char** argv) {
  prepare_descriptors();
  reserve = std::malloc(1 << 20);
  if (reserve == nullptr) return out_of_memory();
  std::set_new_handler(give_reserve_back);
  try {
    return command(argc, argv);
  } catch (const std::bad_alloc&) {
    return out_of_memory();
  } catch (const std::exception& e) {
    std::cerr << "moegen: " << e.what() << "\n";
    return 1;
  }
}
