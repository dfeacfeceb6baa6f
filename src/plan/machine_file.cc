#include "plan/machine_file.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <span>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "spec/config.h"

namespace moegen {
namespace {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;
using Names = std::initializer_list<std::string_view>;

constexpr double kLeastRate = 1e-3;  // no quotient of sizes and rates overflows
constexpr double kMostRate = 1e24;
constexpr double kLeastShare = 0.01;
constexpr double kMostShare = 1;
constexpr int64_t kMostBytes = int64_t{1} << 60;
constexpr int64_t kMostSize = int64_t{1} << 40;
constexpr double kMostSeconds = 1e6;
constexpr size_t kMostItems = 256;  // of a list
constexpr uint64_t kMostFileBytes = 4 << 20;

struct RowStep {
  const char* name;
  Curve StepRates::Rows::*curve;
};
constexpr RowStep kRowSteps[] = {{"embed", &StepRates::Rows::embed}, {"norm", &StepRates::Rows::norm},       {"place", &StepRates::Rows::place},
                                 {"route", &StepRates::Rows::route}, {"combine", &StepRates::Rows::combine}, {"argmax", &StepRates::Rows::argmax},
                                 {"draw", &StepRates::Rows::draw}};

struct DTypeName {
  DType dtype;
  std::string_view name;
};
constexpr DTypeName kDTypes[] = {{DType::f32, "float32"}, {DType::bf16, "bfloat16"}, {DType::i8, "int8"}};  // of activations, K and V
constexpr DTypeName kWeights[] = {{DType::f32, "float32"}, {DType::bf16, "bfloat16"}, {DType::f8_e4m3, "fp8"},
                                  {DType::f4, "mxfp4"},    {DType::i4, "int4"},       {DType::u8, "int8"}};

// An object that has no fields but these.
Config fields(const Json& json, const std::string& where, Names known) {
  Config config(json, where);
  for (const auto& [key, value] : json.items()) {
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      throw_error(ErrorCode::corrupt, "{}: unknown field \"{}\": expected {}", where, key.substr(0, 80), fmt::join(known, ", "));
    }
  }
  return config;
}

// A member that may be absent; null where it is.
const Json* member(const Json& json, const char* field) {
  const auto it = json.find(field);
  return it == json.end() || it->is_null() ? nullptr : &*it;
}

std::string under(const std::string& where, const char* field) { return fmt::format("{}: {}", where, field); }

const Json& needed(const Json& json, const char* field, const std::string& where) {
  const Json* value = member(json, field);
  if (value == nullptr) throw_error(ErrorCode::corrupt, "{}: {} is missing", where, field);
  return *value;
}

double rate(const Config& config, std::string_view field) { return config.number(field, kLeastRate, kMostRate); }

std::optional<double> rate_or_none(const Config& config, std::string_view field) {
  return config.has(field) ? std::optional(rate(config, field)) : std::nullopt;
}

uint64_t bytes(const Config& config, std::string_view field) { return static_cast<uint64_t>(config.integer(field, 0, kMostBytes)); }

DType dtype(const Config& config, std::string_view field, std::span<const DTypeName> names = kDTypes) {
  const std::string name = config.text(field, "");
  std::string known;
  for (const DTypeName& d : names) {
    if (d.name == name) return d.dtype;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", d.name);
  }
  throw_error(ErrorCode::corrupt, "{}: {}: expected one of {}, found \"{}\"", config.where(), field, known, name.substr(0, 80));
}

std::string_view dtype_name(DType dtype, std::span<const DTypeName> names = kDTypes) {
  return std::find_if(names.begin(), names.end(), [dtype](const DTypeName& d) { return d.dtype == dtype; })->name;
}

// Calls item(json, where) for each of a list of 1 to kMostItems; of none where the list is absent.
template <typename Item>
void each(const Json& parent, const char* field, const std::string& where, const Item& item) {
  const Json* list = member(parent, field);
  if (list == nullptr) return;
  if (!list->is_array() || list->empty() || list->size() > kMostItems) {
    throw_error(ErrorCode::corrupt, "{}: {}: expected a list of 1 to {}", where, field, kMostItems);
  }
  for (size_t i = 0; i < list->size(); ++i) item((*list)[i], fmt::format("{}: {}[{}]", where, field, i));
}

Curve::Point parse_point(const Json& json, const std::string& where, double above) {
  const bool numbers = json.is_array() && (json.size() == 2 || json.size() == 3) &&
                       std::all_of(json.begin(), json.end(), [](const Json& value) { return value.is_number(); });
  if (!numbers) throw_error(ErrorCode::corrupt, "{}: expected [size, rate] or [size, rate, noise], found {}", where, json.dump().substr(0, 80));
  const Curve::Point p{json[0].get<double>(), json[1].get<double>(), json.size() == 3 ? json[2].get<double>() : 0};
  if (!(p.x > above && p.x <= static_cast<double>(kMostSize))) {
    throw_error(ErrorCode::corrupt, "{}: size {}: expected more than {} (sizes rise) and at most {}", where, p.x, above, kMostSize);
  }
  if (!(p.rate >= kLeastRate && p.rate <= kMostRate)) {
    throw_error(ErrorCode::corrupt, "{}: rate {}: expected {} to {}", where, p.rate, kLeastRate, kMostRate);
  }
  if (!(p.noise >= 0 && p.noise <= kMostRate)) throw_error(ErrorCode::corrupt, "{}: noise {}: expected 0 or more", where, p.noise);
  return p;
}

Curve parse_curve(const Json& parent, const char* field, const std::string& where) {
  Curve curve;
  each(parent, field, where,
       [&](const Json& json, const std::string& at) { curve.points.push_back(parse_point(json, at, curve.empty() ? 0 : curve.points.back().x)); });
  return curve;
}

Curve needed_curve(const Json& parent, const char* field, const std::string& where) {
  static_cast<void>(needed(parent, field, where));
  return parse_curve(parent, field, where);
}

// [{<line>: 4, <curve>: [..]}, ..]
Surface parse_surface(const Json& parent, const char* field, const char* line, const char* curve, const std::string& where) {
  Surface surface;
  each(parent, field, where, [&](const Json& json, const std::string& at) {
    const Config c = fields(json, at, {line, curve});
    const auto y = static_cast<double>(c.integer(line, surface.empty() ? 1 : static_cast<int64_t>(surface.lines.back().y) + 1, kMostSize));
    surface.lines.push_back({y, needed_curve(json, curve, at)});
  });
  return surface;
}

Machine::Gpu parse_gpu(const Json& json, const std::string& where) {
  const Config c = fields(
      json, where,
      {"name", "memory_bytes", "bf16_flops", "fp8_flops", "memory_bandwidth", "products", "grouped", "attention_flops", "attention_bandwidth"});
  return {c.text("name", ""),
          bytes(c, "memory_bytes"),
          rate(c, "bf16_flops"),
          rate_or_none(c, "fp8_flops"),
          rate(c, "memory_bandwidth"),
          parse_curve(json, "products", where),
          parse_curve(json, "grouped", where),
          rate_or_none(c, "attention_flops"),
          rate_or_none(c, "attention_bandwidth")};
}

Machine::Link parse_link(const Json& json, const std::string& where) {
  const Config c = fields(json, where, {"h2d", "d2h", "both"});
  return {rate(c, "h2d"), rate(c, "d2h"), rate_or_none(c, "both")};
}

Machine::Cpu parse_cpu(const Json& json, const std::string& where) {
  const Config c = fields(json, where, {"cores", "path", "bf16_flops", "attention_flops", "peaks"});
  Machine::Cpu cpu{static_cast<int>(c.integer("cores", 1, 1 << 16)), c.text("path", ""), rate(c, "bf16_flops"), rate(c, "attention_flops"), {}};
  each(json, "peaks", where, [&](const Json& item, const std::string& at) {
    const Config p = fields(item, at, {"path", "dtype", "flops"});
    cpu.peaks.push_back({p.text("path", ""), dtype(p, "dtype"), needed_curve(item, "flops", at)});
  });
  return cpu;
}

Machine::Dram parse_dram(const Json& json, const std::string& where) {
  const Config c = fields(json, where, {"bytes", "bandwidth", "by_threads"});
  return {bytes(c, "bytes"), rate(c, "bandwidth"), parse_curve(json, "by_threads", where)};
}

Machine::Ssd parse_ssd(const Json& json, const std::string& where) {
  const Config c = fields(json, where, {"bytes", "read_bandwidth", "by_depth", "beside_compute", "compute_beside", "note"});
  const auto share = [&](std::string_view field) { return c.number(field, kLeastShare, kMostShare, 1); };
  return {bytes(c, "bytes"),       rate_or_none(c, "read_bandwidth"), parse_surface(json, "by_depth", "depth", "by_block", where),
          share("beside_compute"), share("compute_beside"),           c.text("note", "")};
}

StepRates::Attention parse_attention(const Json& json, const std::string& where) {
  const Config c = fields(json, where, {"heads", "kv_heads", "head_dim", "latent_dim", "plain_dim", "v_dim", "decode", "prefill"});
  const auto size = [&](std::string_view field) { return static_cast<int>(c.integer(field, 1, 1 << 20)); };
  const auto latent = [&](std::string_view field) { return static_cast<int>(c.integer(field, 0, 1 << 20, 0)); };
  static_cast<void>(needed(json, "decode", where));
  return {{size("heads"), size("kv_heads"), size("head_dim"), latent("latent_dim"), latent("plain_dim"), latent("v_dim")},
          parse_surface(json, "decode", "sequences", "bandwidth", where),
          needed_curve(json, "prefill", where)};
}

StepRates parse_steps(const Json& json, const std::string& where) {
  const Config c = fields(json, where, {"act", "kv", "mlps", "linears", "attentions", "rows", "fork_join_seconds", "pass_seconds"});
  StepRates steps;
  steps.act = dtype(c, "act");
  steps.kv = dtype(c, "kv");
  each(json, "mlps", where, [&](const Json& item, const std::string& at) {
    const Config m = fields(item, at, {"hidden", "width", "weights", "flops"});
    steps.mlps.push_back(
        {m.integer("hidden", 1, kMostSize), m.integer("width", 1, kMostSize), needed_curve(item, "flops", at), dtype(m, "weights", kWeights)});
  });
  each(json, "linears", where, [&](const Json& item, const std::string& at) {
    const Config l = fields(item, at, {"outputs", "k", "weights", "flops"});
    steps.linears.push_back(
        {l.integer("outputs", 1, kMostSize), l.integer("k", 1, kMostSize), needed_curve(item, "flops", at), dtype(l, "weights", kWeights)});
  });
  each(json, "attentions", where, [&](const Json& item, const std::string& at) { steps.attentions.push_back(parse_attention(item, at)); });
  if (const Json* rows = member(json, "rows")) {
    const std::string at = under(where, "rows");
    static_cast<void>(fields(*rows, at, {"embed", "norm", "place", "route", "combine", "argmax", "draw"}));
    for (const RowStep& step : kRowSteps) steps.rows.*step.curve = parse_curve(*rows, step.name, at);
  }
  steps.fork_join_seconds = c.number("fork_join_seconds", 0, kMostSeconds, 0);
  steps.pass_seconds = c.number("pass_seconds", 0, kMostSeconds, 0);
  return steps;
}

Machine::Origin parse_origin(const Json& json, const std::string& where) {
  const Config c = fields(json, where, {"at", "seconds", "build"});
  return {c.text("at", ""), c.number("seconds", 0, kMostSeconds, 0), c.text("build", "")};
}

// Whole numbers without a point, as far as a double has them exactly.
OrderedJson number(double x) { return x == std::floor(x) && std::abs(x) < 0x1p53 ? OrderedJson(static_cast<int64_t>(x)) : OrderedJson(x); }

OrderedJson to_json(const Curve& curve) {
  OrderedJson list = OrderedJson::array();
  for (const Curve::Point& p : curve.points) list.push_back({number(p.x), number(p.rate), p.noise});
  return curve.empty() ? OrderedJson(nullptr) : list;
}

OrderedJson to_json(const Surface& surface, const char* line, const char* curve) {
  OrderedJson list = OrderedJson::array();
  for (const Surface::Line& l : surface.lines) list.push_back({{line, number(l.y)}, {curve, to_json(l.curve)}});
  return surface.empty() ? OrderedJson(nullptr) : list;
}

// null for an empty optional.
OrderedJson or_null(const std::optional<double>& value) { return value ? number(*value) : OrderedJson(nullptr); }

// `item` of each; null where there is none, as the reader has it.
template <typename T, typename Item>
OrderedJson list_of(const std::vector<T>& all, const Item& item) {
  OrderedJson list = OrderedJson::array();
  for (const T& one : all) list.push_back(item(one));
  return all.empty() ? OrderedJson(nullptr) : list;
}

OrderedJson to_json(const Machine::Cpu& cpu) {
  return {{"cores", cpu.cores},
          {"path", cpu.path},
          {"bf16_flops", number(cpu.bf16_flops)},
          {"attention_flops", number(cpu.attention_flops)},
          {"peaks", list_of(cpu.peaks, [](const Machine::Peak& p) {
             return OrderedJson{{"path", p.path}, {"dtype", dtype_name(p.dtype)}, {"flops", to_json(p.flops)}};
           })}};
}

OrderedJson to_json(const StepRates& s) {
  OrderedJson json = {{"act", dtype_name(s.act)}, {"kv", dtype_name(s.kv)}};
  json["mlps"] = list_of(s.mlps, [](const StepRates::Mlp& m) {
    return OrderedJson{{"hidden", m.hidden}, {"width", m.width}, {"weights", dtype_name(m.weights, kWeights)}, {"flops", to_json(m.flops)}};
  });
  json["linears"] = list_of(s.linears, [](const StepRates::Linear& l) {
    return OrderedJson{{"outputs", l.outputs}, {"k", l.k}, {"weights", dtype_name(l.weights, kWeights)}, {"flops", to_json(l.flops)}};
  });
  json["attentions"] = list_of(s.attentions, [](const StepRates::Attention& a) {
    return OrderedJson{{"heads", a.shape.heads},
                       {"kv_heads", a.shape.kv_heads},
                       {"head_dim", a.shape.head_dim},
                       {"latent_dim", a.shape.latent_dim},
                       {"plain_dim", a.shape.plain_dim},
                       {"v_dim", a.shape.v_dim},
                       {"decode", to_json(a.decode, "sequences", "bandwidth")},
                       {"prefill", to_json(a.prefill)}};
  });
  for (const RowStep& step : kRowSteps) json["rows"][step.name] = to_json(s.rows.*step.curve);
  json["fork_join_seconds"] = s.fork_join_seconds;
  json["pass_seconds"] = s.pass_seconds;
  return json;
}

void write(const OrderedJson& json, size_t indent, std::string& out) {
  constexpr size_t kWidth = 150;
  const std::string line = json.dump();
  if (!json.is_structured() || json.empty() || line.size() + indent <= kWidth) {
    out += line;
    return;
  }
  const bool object = json.is_object();
  out += object ? '{' : '[';
  const char* separator = "";
  for (const auto& [key, value] : json.items()) {
    out += fmt::format("{}\n{:{}}{}", separator, "", indent + 2, object ? fmt::format("{}: ", OrderedJson(key).dump()) : "");
    write(value, indent + 2, out);
    separator = ",";
  }
  out += fmt::format("\n{:{}}{}", "", indent, object ? '}' : ']');
}

}  // namespace

Machine parse_machine(const Json& json, const std::string& where) {
  const Config c = fields(json, where, {"name", "gpu", "link", "cpu", "dram", "ssd", "steps", "measured"});
  Machine m;
  m.name = c.text("name", "");
  if (const Json* gpu = member(json, "gpu")) m.gpu = parse_gpu(*gpu, under(where, "gpu"));
  if (const Json* link = member(json, "link")) m.link = parse_link(*link, under(where, "link"));
  if (m.gpu && !m.link) throw_error(ErrorCode::corrupt, "{}: link is missing: a gpu needs it", where);
  m.cpu = parse_cpu(needed(json, "cpu", where), under(where, "cpu"));
  m.dram = parse_dram(needed(json, "dram", where), under(where, "dram"));
  if (const Json* ssd = member(json, "ssd")) m.ssd = parse_ssd(*ssd, under(where, "ssd"));
  if (const Json* steps = member(json, "steps")) m.steps = parse_steps(*steps, under(where, "steps"));
  if (const Json* origin = member(json, "measured")) m.measured = parse_origin(*origin, under(where, "measured"));
  return m;
}

Machine load_machine(const std::filesystem::path& file) {
  return parse_machine(parse_json(read_text_file(file, kMostFileBytes), file.string(), {.max_depth = 16, .unique_keys = true}), file.string());
}

OrderedJson to_json(const Machine& m) {
  OrderedJson json = {{"name", m.name}, {"gpu", nullptr}, {"link", nullptr}};
  if (m.gpu) {
    json["gpu"] = {{"name", m.gpu->name},
                   {"memory_bytes", m.gpu->memory_bytes},
                   {"bf16_flops", m.gpu->bf16_flops},
                   {"fp8_flops", or_null(m.gpu->fp8_flops)},
                   {"memory_bandwidth", m.gpu->memory_bandwidth},
                   {"products", to_json(m.gpu->products)},
                   {"grouped", to_json(m.gpu->grouped)},
                   {"attention_flops", or_null(m.gpu->attention_flops)},
                   {"attention_bandwidth", or_null(m.gpu->attention_bandwidth)}};
  }
  if (m.link) json["link"] = {{"h2d", m.link->h2d}, {"d2h", m.link->d2h}, {"both", or_null(m.link->both)}};
  json["cpu"] = to_json(m.cpu);
  json["dram"] = {{"bytes", m.dram.bytes}, {"bandwidth", number(m.dram.bandwidth)}, {"by_threads", to_json(m.dram.by_threads)}};
  json["ssd"] = nullptr;
  if (m.ssd) {
    json["ssd"] = {{"bytes", m.ssd->bytes},
                   {"read_bandwidth", or_null(m.ssd->read_bandwidth)},
                   {"by_depth", to_json(m.ssd->by_depth, "depth", "by_block")},
                   {"beside_compute", m.ssd->beside_compute},
                   {"compute_beside", m.ssd->compute_beside},
                   {"note", m.ssd->note}};
  }
  json["steps"] = m.steps ? to_json(*m.steps) : OrderedJson(nullptr);
  if (m.measured) json["measured"] = {{"at", m.measured->at}, {"seconds", m.measured->seconds}, {"build", m.measured->build}};
  return json;
}

std::string pretty(const OrderedJson& json) {
  std::string out;
  write(json, 0, out);
  return out + "\n";
}

}  // namespace moegen
