#include "spec/quantisation.h"

#include <algorithm>

#include "base/dtype.h"
#include "base/error.h"
#include "tokenizer/regex.h"

namespace moegen {
namespace {

constexpr int64_t kMaxGroup = 1 << 20;

[[noreturn]] void refuse(const Config& q, const std::string& what) {
  throw_error(ErrorCode::unsupported, "{}: {} is not supported", q.where(), what);
}

void refuse_unless(bool good, const Config& q, const std::string& what) {
  if (!good) refuse(q, what);
}

// "re:..." is a pattern, all else a name.
std::vector<NamePattern> patterns_of(const std::vector<std::string>& texts) {
  std::vector<NamePattern> out;
  for (const std::string& text : texts) {
    const bool regex = text.starts_with("re:");
    out.push_back({regex ? NamePattern::Kind::regex : NamePattern::Kind::whole, regex ? text.substr(3) : text});
  }
  return out;
}

bool has_part(const std::string& name, const std::string& part) {
  return part.empty() || ('.' + name + '.').find('.' + part + '.') != std::string::npos;
}

// What transformers leaves plain.
std::vector<NamePattern> not_converted(const Config& q) {
  std::vector<NamePattern> out;
  for (const std::string& name : q.texts("modules_to_not_convert")) out.push_back({NamePattern::Kind::part, name});
  return out;
}

int64_t read_group(const Config& q) {
  const int64_t group = q.integer("group_size", -1, kMaxGroup, -1);
  if (group == -1) return 0;
  if (group == 0 || group % kGroupUnit != 0) refuse(q, fmt::format("group_size {} (multiples of {}, and -1, are)", group, kGroupUnit));
  return group;
}

int read_bits(const Config& q, std::string_view field) {
  const int64_t bits = q.integer(field, 1, 64);
  if (bits != 4 && bits != 8) refuse(q, fmt::format("{} {} (4 and 8 are)", field, bits));
  return static_cast<int>(bits);
}

// What compressed-tensors takes it to be where it is not said.
std::string strategy_of(const Config& w) {
  const int64_t group = w.integer("group_size", -1, kMaxGroup, 0);
  return w.text("strategy", group > 0 ? "group" : group < 0 ? "channel" : "tensor");
}

WeightScheme read_float_weights(const Config& w) {
  if (const int64_t bits = w.integer("num_bits", 1, 64); bits != 8) refuse(w, fmt::format("num_bits {} of type float (8 is)", bits));
  const std::string strategy = strategy_of(w);
  if (strategy == "block") {
    const bool named = w.is_text("block_structure");  // "128x128"
    const std::vector<int64_t> block = named ? std::vector<int64_t>{} : w.integers("block_structure", 1, kMaxGroup);
    if (named ? w.text("block_structure", "") != "128x128" : block != std::vector<int64_t>{kF8Block, kF8Block})
      refuse(w,
             fmt::format("block_structure {} ([128, 128] is)", named ? w.text("block_structure", "") : fmt::format("[{}]", fmt::join(block, ", "))));
    return {.format = WeightFormat::f8_blocks};
  }
  refuse_unless(strategy == "tensor" || strategy == "channel", w, "strategy \"" + strategy + "\" of type float");
  return {.format = WeightFormat::f8_rows};
}

WeightScheme read_whole_weights(const Config& w, bool packed) {
  WeightScheme s{.format = packed ? WeightFormat::packed : WeightFormat::bytes, .bits = read_bits(w, "num_bits")};
  if (!packed && s.bits != 8) refuse(w, fmt::format("num_bits {} that are not packed (8 is)", s.bits));
  const std::string strategy = strategy_of(w);
  refuse_unless(strategy == "group" || strategy == "channel", w, "strategy \"" + strategy + "\" of type int");
  if (strategy == "group") s.group = read_group(w);
  if (strategy == "group" && s.group == 0) throw_error(ErrorCode::corrupt, "{}: strategy \"group\" without a group_size", w.where());
  s.zeros = !w.flag("symmetric", true);
  return s;
}

// https://github.com/vllm-project/compressed-tensors: QuantizationConfig. Activations are not quantised, whatever their scheme is: what is computed
// is closer to the model that was quantised.
WeightScheme read_group_of_layers(const Config& group, std::string format) {
  format = group.text("format", format);
  const std::optional<Config> w = group.object("weights");
  if (!w) refuse(group, "a group without weights");
  const bool flag = w->is_flag("actorder");  // false: none
  if (w->has("actorder") && !(flag && !w->flag("actorder", true))) {
    const std::string order =
        flag ? "group" : w->text("actorder", "");  // "weight" and "static" tell how codes were found, and nothing about their order
    refuse_unless(order == "weight" || order == "static", *w, "actorder \"" + order + "\"");
  }
  const std::string type = w->text("type", "int");
  refuse_unless(type == "int" || type == "float", *w, "type \"" + type + "\"");
  const bool naive = format == "naive-quantized";
  const bool known = format == "pack-quantized" || (format == "int-quantized" && type == "int") || (format == "float-quantized" && type == "float");
  refuse_unless((naive || known) && !(format == "pack-quantized" && type == "float"), group, "format \"" + format + "\" of type " + type);
  WeightScheme s = type == "float" ? read_float_weights(*w) : read_whole_weights(*w, format == "pack-quantized");
  for (NamePattern& p : patterns_of(group.texts("targets"))) {
    if (p.text == "Linear" && p.kind == NamePattern::Kind::whole) p = {NamePattern::Kind::part, ""};
    s.targets.push_back(std::move(p));
  }
  return s;
}

Quantisation read_compressed_tensors(const Config& q) {
  for (const std::string_view field : {"sparsity_config", "transform_config"}) {
    const std::optional<Config> other = q.object(field);
    if (other && !other->empty() && other->text("format", "") != "dense") refuse(q, std::string(field));
  }
  const std::optional<Config> groups = q.object("config_groups");
  if (!groups || groups->empty()) refuse(q, "no config_groups");
  Quantisation out;
  for (const std::string& name : groups->fields()) out.schemes.push_back(read_group_of_layers(*groups->object(name), q.text("format", "?")));
  out.ignored = patterns_of(q.texts("ignore"));
  return out;
}

// https://github.com/ModelCloud/GPTQModel: QuantizeConfig.
Quantisation read_gptq(const Config& q) {
  const std::string format = q.text("checkpoint_format", "gptq");
  refuse_unless(format == "gptq" || format == "gptq_v2" || format.empty(), q, "checkpoint_format \"" + format + "\"");
  if (q.flag("is_marlin_format", false)) refuse(q, "is_marlin_format");
  if (const std::string pack = q.text("pack_dtype", "int32"); pack != "int32") refuse(q, "pack_dtype \"" + pack + "\"");
  Quantisation out;
  out.schemes.push_back(
      {.format = WeightFormat::gptq, .bits = read_bits(q, "bits"), .group = read_group(q), .zeros = true, .less_one = format != "gptq_v2"});
  if (const std::optional<Config> dynamic = q.object("dynamic")) {
    for (const std::string& pattern : dynamic->fields()) {
      if (pattern.starts_with("-:")) {
        out.ignored.push_back({NamePattern::Kind::regex, pattern.substr(2)});
      } else if (!dynamic->object(pattern)->empty()) {  // {} changes nothing
        refuse(q, "dynamic \"" + pattern + "\" (\"-:...\" is)");
      }
    }
  }
  return out;
}

// https://github.com/casper-hansen/AutoAWQ: AwqConfig.
Quantisation read_awq(const Config& q) {
  std::string version = q.text("version", "gemm");
  std::transform(version.begin(), version.end(), version.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  refuse_unless(version == "gemm", q, "version \"" + version + "\" of awq (\"gemm\" is)");
  if (!q.flag("zero_point", true)) refuse(q, "zero_point false of awq");
  const std::string_view bits = q.first_of({"bits", "w_bit"});
  if (const int64_t b = q.integer(bits, 1, 64); b != 4) refuse(q, fmt::format("{} {} of awq (4 is)", bits, b));
  Quantisation out;
  const std::string_view group = q.first_of({"group_size", "q_group_size"});
  if (group != "group_size") refuse(q, std::string(group));
  out.schemes.push_back({.format = WeightFormat::awq, .bits = 4, .group = read_group(q), .zeros = true});
  out.ignored = not_converted(q);
  return out;
}

Quantisation read_fp8(const Config& q) {
  if (const std::string format = q.text("fmt", "e4m3"); format != "e4m3" && format != "float8_e4m3fn") refuse(q, "fmt \"" + format + "\"");
  if (const std::string scheme = q.text("activation_scheme", "dynamic"); scheme != "dynamic" && scheme != "static")
    refuse(q, "activation_scheme \"" + scheme + "\"");
  const bool blocks = q.has("weight_block_size");  // else a scale for a matrix, under the name that compressed-tensors has for it
  const std::vector<int64_t> block = q.integers("weight_block_size", 1, kMaxGroup);
  if (blocks && block != std::vector<int64_t>{kF8Block, kF8Block}) {
    refuse(q, fmt::format("weight_block_size [{}] (only [128, 128] is)", fmt::join(block, ", ")));
  }
  Quantisation out{{{.format = blocks ? WeightFormat::f8_blocks : WeightFormat::f8_rows}}, not_converted(q)};
  for (const std::string& name : q.texts("ignored_layers")) out.ignored.push_back({NamePattern::Kind::whole, name});
  return out;
}

}  // namespace

Quantisation read_quantisation(const Config& c, bool mxfp4) {
  const bool old = !c.has("quantization_config") && c.has("compression_config");  // of compressed-tensors
  const std::optional<Config> q = c.object(old ? "compression_config" : "quantization_config");
  if (!q) return {};
  const std::string method = q->text("quant_method", old ? "compressed-tensors" : "?");
  if (method == "mxfp4" && mxfp4) return {{{.format = WeightFormat::mxfp4, .bits = 4, .group = kF4Block}}, {}};
  if (method == "compressed-tensors") return read_compressed_tensors(*q);
  if (method == "gptq") return read_gptq(*q);
  if (method == "awq") return read_awq(*q);
  if (method == "fp8") return read_fp8(*q);
  throw_error(ErrorCode::unsupported, "{}: quantization_config (quant_method \"{}\") is not supported", c.where(), method);
}

struct SchemeFinder::Patterns {
  struct Compiled {
    const NamePattern* pattern;
    std::optional<text::Regex> regex;
  };
  mutable text::Regex::Scratch scratch;
  std::vector<Compiled> ignored;
  std::vector<std::vector<Compiled>> targets;

  static std::vector<Compiled> compiled(const std::vector<NamePattern>& patterns) {
    std::vector<Compiled> out;
    for (const NamePattern& p : patterns)
      out.push_back({&p, p.kind == NamePattern::Kind::regex ? std::optional(text::Regex::compile(p.text)) : std::nullopt});
    return out;
  }
  // By patterns of one kind, or of any.
  [[nodiscard]] bool has(const std::vector<Compiled>& patterns, const std::string& name, std::optional<NamePattern::Kind> kind = {}) const {
    return std::any_of(patterns.begin(), patterns.end(), [&](const Compiled& c) {
      if (kind && c.pattern->kind != *kind) return false;
      text::Match match;
      if (c.regex) return c.regex->find(name, 0, scratch, match) && match.begin == 0;
      return c.pattern->kind == NamePattern::Kind::whole ? name == c.pattern->text : has_part(name, c.pattern->text);
    });
  }
};

SchemeFinder::SchemeFinder(const Quantisation& quantisation) : quantisation_(quantisation), patterns_(std::make_unique<Patterns>()) {
  patterns_->ignored = Patterns::compiled(quantisation.ignored);
  for (const WeightScheme& s : quantisation.schemes) patterns_->targets.push_back(Patterns::compiled(s.targets));
}

SchemeFinder::~SchemeFinder() = default;

const WeightScheme* SchemeFinder::find(const std::string& module) const {
  return patterns_->has(patterns_->ignored, module) ? nullptr : find_target(module);
}

const WeightScheme* SchemeFinder::find_target(const std::string& module) const {
  // A name of its own comes before a pattern, and that before the kind of layer: compressed_tensors, utils/match.py.
  for (const auto kind : {NamePattern::Kind::whole, NamePattern::Kind::regex, NamePattern::Kind::part}) {
    for (size_t i = 0; i < quantisation_.schemes.size(); ++i) {
      const WeightScheme& s = quantisation_.schemes[i];
      if (s.targets.empty() || patterns_->has(patterns_->targets[i], module, kind)) return &s;
    }
  }
  return nullptr;
}

}  // namespace moegen
