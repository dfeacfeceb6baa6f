#include "plan/gpu_pass_cost.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace moegen {
namespace {

using Resource = PassTask::Resource;

constexpr double kPiecesOfARing = 3;     // one is used, one is there, one comes
constexpr double kAttentionRate = 0.7;   // of the rate of products: what FlashAttention-2 reaches beside a GEMM
constexpr double kStepSeconds = 100e-6;  // the kernels of half a layer, launched one after the other
constexpr double kElementBytes = 2;      // of activations

}  // namespace

// The resources, each free from some time on, and what the rings hold.
struct GpuPassCosts::Clock {
  struct Ring {
    struct Content {
      double bytes, released;
    };
    double room;
    std::vector<Content> contents;
    size_t oldest = 0;

    // When there is room for so many bytes.
    double reserve(double bytes) {
      double at = 0;
      while (room < bytes && oldest < contents.size()) {
        room += contents[oldest].bytes;
        at = std::max(at, contents[oldest++].released);
      }
      room -= bytes;
      return at;
    }
    void release(double bytes, double at) { contents.push_back({bytes, at}); }
  };

  const Machine& machine;
  double ssd_rate;
  Ring ring, host_ring;
  double ssd = 0, h2d = 0, d2h = 0, gpu = 0, cpu = 0;
  double router = 0;  // is done
  double origin = 0;  // of the tasks that are told

  void run(const Piece& p, const std::function<void(const PassTask&)>& look) {
    const auto tell = [&](Resource resource, std::string_view name, double bytes, double begin, double end) {
      if (look && end > begin) look({resource, name, p.layer, bytes, begin - origin, end - origin});
    };
    const double known = p.routed ? router : 0;
    if (p.joins) router = gpu = std::max({gpu, cpu, d2h});
    const double joined = gpu;
    const double read_bytes = p.read_bytes / p.parts;
    const double copy_bytes = p.copy_bytes / p.parts;
    for (int64_t part = 0; part < static_cast<int64_t>(p.parts); ++part) {
      double there = 0;  // in DRAM, then in HBM
      if (read_bytes > 0) {
        const double begin = std::max({ssd, known, host_ring.reserve(read_bytes)});
        there = ssd = begin + read_bytes / ssd_rate;
        tell(Resource::ssd, p.name, read_bytes, begin, ssd);
      }
      if (copy_bytes > 0) {
        const double begin = std::max({h2d, there, known, ring.reserve(copy_bytes)});
        there = h2d = begin + copy_bytes / machine.link->h2d;
        tell(Resource::h2d, p.name, copy_bytes, begin, h2d);
        if (read_bytes > 0) host_ring.release(read_bytes, h2d);
      }
      const double begin = std::max(gpu, there);
      gpu = begin + p.gpu_seconds / p.parts;
      tell(Resource::gpu, p.name, 0, begin, gpu);
      if (copy_bytes > 0) ring.release(copy_bytes, gpu);
    }
    if (p.back_bytes > 0) {
      const double from = std::max(d2h, gpu);
      d2h = from + p.back_bytes / machine.link->d2h;
      tell(Resource::d2h, "K, V and q", p.back_bytes, from, d2h);
    }
    if (p.cpu_seconds > 0) {
      const double from = std::max(cpu, p.beside ? joined : gpu);
      cpu = from + p.cpu_seconds;
      tell(Resource::cpu, p.name, 0, from, cpu);
    }
  }
};

GpuPassCosts::GpuPassCosts(const ModelSpec& spec, const ModelWork& work, const Machine& machine, const Plan& plan)
    : spec_(spec),
      work_(work),
      machine_(machine),
      plan_(*plan.gpu),
      device_kv_bytes_(static_cast<double>(plan.gpu->device_pages) * static_cast<double>(plan.kv.page_bytes)) {
  const double fixed = work.fixed_bytes();
  const double experts = work.expert_bytes();
  // HBM and DRAM are filled with what every token meets, then with experts.
  const auto fill = [&](double bytes, double& of_fixed, double& of_experts) {
    of_fixed = std::min(1.0, bytes / std::max(1.0, fixed));
    of_experts = std::clamp((bytes - fixed) / std::max(1.0, experts), 0.0, 1.0);
  };
  double fixed_in_memory = 1;
  double experts_in_memory = 1;
  fill(plan_.device_weights, fixed_on_device_, experts_on_device_);
  fill(plan_.device_weights + plan_.host_weights, fixed_in_memory, experts_in_memory);
  fixed_stored_ = 1 - fixed_in_memory;
  experts_stored_ = 1 - experts_in_memory;
  const bool streams = plan_.host_weights + plan_.storage_weights > 0;
  // What copies leave, and half of it at least: neither starves the other.
  cpu_bandwidth_ = std::max(machine.dram.bandwidth / 2, machine.dram.bandwidth - (streams ? machine.link->h2d : 0));
  if (plan_.storage_weights <= 0) {  // but for rounding, which a rate of nothing would make endless
    fixed_stored_ = experts_stored_ = 0;
    return;
  }
  if (!machine.ssd || !machine.ssd->read_bandwidth)
    throw_error(ErrorCode::unsupported, "{}: no rate of its storage is known, and weights would stream from it", machine.name);
  ssd_rate_ = *machine.ssd->read_bandwidth;
}

double GpuPassCosts::product_seconds(const Curve& rates, double flops, double bytes, double rows) const {
  const Machine::Gpu& gpu = *machine_.gpu;
  const double rate = rates.empty() || rows <= 0 ? gpu.bf16_flops : rates.at(rows);
  return std::max(flops / rate, bytes / gpu.memory_bandwidth);
}

// As many as leave room in the rings for the next ones.
double GpuPassCosts::parts_of(const Piece& piece) const {
  return std::ceil(
      std::max({1.0, kPiecesOfARing * piece.copy_bytes / plan_.ring, plan_.host_ring > 0 ? kPiecesOfARing * piece.read_bytes / plan_.host_ring : 0}));
}

double GpuPassCosts::keys_seen(size_t l, double count, double keys) const {
  return count > 0 ? count * keys_within(spec_.layers[l].attention.mean_window(), keys / count) : 0;
}

// Of the KV of a pass, what HBM does not hold.
double GpuPassCosts::share_in_host(const PassLoad& load) const {
  double bytes = 0;
  for (size_t l = 0; l < work_.layers.size(); ++l)
    bytes += (keys_seen(l, load.decodes, load.decode_keys) + load.prompt_tokens) * work_.layers[l].kv_bytes;
  return bytes > 0 ? 1 - std::min(1.0, device_kv_bytes_ / bytes) : 0;
}

// The output projection is counted with the others.
GpuPassCosts::Piece GpuPassCosts::projections(size_t l, const PassLoad& load, PassCost& cost) const {
  const LayerWork& w = work_.layers[l];
  const double tokens = load.decodes + load.prompt_tokens;
  Piece products{"projections", static_cast<int64_t>(l)};
  products.joins = l > 0 && plan_.cpu_experts.any();
  products.read_bytes = w.fixed_bytes * fixed_stored_;
  products.copy_bytes = w.fixed_bytes * (1 - fixed_on_device_) + (l == 0 ? tokens * spec_.hidden * kElementBytes : 0);
  products.gpu_seconds = product_seconds(machine_.gpu->products, tokens * w.fixed_flops, w.fixed_bytes, tokens) + kStepSeconds;
  products.parts = parts_of(products);
  cost.projections += products.gpu_seconds;
  cost.flops += tokens * w.fixed_flops / machine_.gpu->bf16_flops;
  return products;
}

// Projections go to the CPU, where states are; what attention gives comes back.
void GpuPassCosts::add_linear_attention(size_t l, const PassLoad& load, std::vector<Piece>& pieces, PassCost& cost) const {
  const DeltaSpec& d = spec_.layers[l].attention.delta;
  const double tokens = load.decodes + load.prompt_tokens;
  Piece products = projections(l, load, cost);
  products.back_bytes = tokens * d.projected_width() * sizeof(float);
  products.cpu_bytes = load.decodes * delta_decode_bytes(d);
  products.cpu_seconds = machine_.delta_seconds(d, tokens, load.decodes);
  pieces.push_back(products);
  Piece given{"attention", static_cast<int64_t>(l)};
  given.joins = true;
  given.copy_bytes = tokens * d.value_width() * kElementBytes;
  given.parts = parts_of(given);
  pieces.push_back(given);
}

// Projections, then the attention of the share of each processor.
void GpuPassCosts::add_attention(size_t l, const PassLoad& load, double in_host, std::vector<Piece>& pieces, PassCost& cost) const {
  if (spec_.layers[l].attention.is_linear()) return add_linear_attention(l, load, pieces, cost);
  const LayerWork& w = work_.layers[l];
  const double decode_keys = keys_seen(l, load.decodes, load.decode_keys);
  const double prompt_keys = keys_seen(l, load.prompt_tokens, load.prompt_keys);
  const double on_cpu = in_host * plan_.cpu_attention_share;
  const Machine::Gpu& gpu = *machine_.gpu;
  const double rate = gpu.attention_flops.value_or(kAttentionRate * gpu.bf16_flops);
  const double kv_bytes = decode_keys * w.kv_bytes;

  Piece products = projections(l, load, cost);
  const double prompt_flops = prompt_keys * w.prompt_key_flops + std::max(0.0, load.chunk_ends - load.prompt_tokens) * w.expansion_flops;
  const double prompts = prompt_flops / rate;
  const double added = load.prompt_tokens + load.decodes * (on_cpu + (1 - on_cpu) * plan_.back_tokens);
  products.back_bytes = in_host * added * w.kv_bytes + on_cpu * load.decodes * w.query_bytes;
  products.cpu_bytes = on_cpu * kv_bytes;
  products.cpu_seconds = std::max(products.cpu_bytes / cpu_bandwidth_, on_cpu * decode_keys * w.key_flops / machine_.cpu.attention_flops);
  pieces.push_back(products);

  Piece attend{"attention", static_cast<int64_t>(l)};
  attend.copy_bytes = (in_host - on_cpu) * kv_bytes + on_cpu * load.decodes * w.query_bytes;
  const double decodes = (1 - on_cpu) * (gpu.attention_bandwidth ? kv_bytes / *gpu.attention_bandwidth
                                                                 : std::max(decode_keys * w.key_flops / rate, kv_bytes / gpu.memory_bandwidth));
  attend.gpu_seconds = prompts + decodes;
  attend.parts = parts_of(attend);
  pieces.push_back(attend);
  cost.attention += prompts + decodes;
  cost.flops += (prompt_flops + (1 - on_cpu) * decode_keys * w.key_flops) / machine_.gpu->bf16_flops;
}

// Experts that stay first, while the others come.
void GpuPassCosts::add_experts(size_t l, const PassLoad& load, std::vector<Piece>& pieces, PassCost& cost) const {
  const LayerWork& w = work_.layers[l];
  const MlpSpec& mlp = spec_.layers[l].mlp;
  const double tokens = load.decodes + load.prompt_tokens;
  const double met = mlp.dense() ? 0 : touched_experts(mlp, tokens) / mlp.num_experts;
  const double copied = plan_.static_batches ? 1 : met;
  const double flops = mlp.dense() ? 0 : tokens * mlp.top_k * w.expert_flops;
  // Tokens spread evenly, so experts are alike.
  const double rows = mlp.dense() ? 0 : tokens * mlp.top_k / (mlp.num_experts * met);
  const Machine::Gpu& gpu = *machine_.gpu;
  const double seconds = product_seconds(gpu.grouped.empty() ? gpu.products : gpu.grouped, flops, w.expert_bytes * met, rows) + kStepSeconds;
  const double in_dram = 1 - experts_on_device_ - experts_stored_;
  const double streamed = mlp.num_experts * met * in_dram;
  // Shares of all experts.
  const double on_cpu = streamed > 0 ? in_dram * plan_.cpu_experts.share_of(streamed, rows) : 0;
  const double come_to_gpu = 1 - experts_on_device_ - on_cpu;
  Piece stay{"experts", static_cast<int64_t>(l)};
  stay.gpu_seconds = seconds * experts_on_device_;
  stay.cpu_seconds = on_cpu * mlp.num_experts * met * plan_.cpu_experts.cpu_seconds(rows);
  stay.cpu_bytes = on_cpu * met * w.expert_bytes;
  stay.joins = true;
  stay.beside = true;
  pieces.push_back(stay);
  if (experts_on_device_ < 1 && !mlp.dense()) {
    Piece come{"experts", static_cast<int64_t>(l)};
    come.copy_bytes = w.expert_bytes * copied * come_to_gpu;
    come.read_bytes = w.expert_bytes * copied * experts_stored_;
    come.routed = !plan_.static_batches && tokens < static_cast<double>(read_ahead_tokens(mlp));
    come.gpu_seconds = seconds * come_to_gpu;
    come.parts = parts_of(come);
    pieces.push_back(come);
  }
  cost.experts += seconds * (1 - on_cpu);
  cost.flops += flops * (1 - on_cpu) / machine_.gpu->bf16_flops;
}

void GpuPassCosts::add_head(const PassLoad& load, std::vector<Piece>& pieces, PassCost& cost) const {
  if (load.logit_rows <= 0) return;
  const double bytes = work_.head_bytes;
  const double flops = 2.0 * spec_.vocab * spec_.hidden * load.logit_rows;
  Piece head{"logits"};
  head.joins = plan_.cpu_experts.any();
  head.copy_bytes = bytes * (1 - fixed_on_device_);
  head.read_bytes = bytes * fixed_stored_;
  head.gpu_seconds = product_seconds(machine_.gpu->products, flops, bytes, load.logit_rows) + kStepSeconds;
  head.parts = parts_of(head);
  pieces.push_back(head);
  cost.logits += head.gpu_seconds;
  cost.flops += flops / machine_.gpu->bf16_flops;
}

PassCost GpuPassCosts::of(const PassLoad& load, const std::function<void(const PassTask&)>& look) const {
  PassCost cost;
  if (load.decodes + load.prompt_tokens <= 0) return cost;
  std::vector<Piece> pieces;
  pieces.reserve(4 * work_.layers.size() + 1);
  const double in_host = share_in_host(load);
  for (size_t l = 0; l < work_.layers.size(); ++l) {
    add_attention(l, load, in_host, pieces, cost);
    add_experts(l, load, pieces, cost);
  }
  add_head(load, pieces, cost);
  double copied = 0;
  double back = 0;
  double by_cpu = 0;
  for (const Piece& p : pieces) {
    copied += p.copy_bytes;
    back += p.back_bytes;
    by_cpu += p.cpu_bytes;
    cost.bytes_read += p.read_bytes;
    cost.gpu += p.gpu_seconds;
    cost.cpu += p.cpu_seconds;
  }
  cost.link = std::max(copied / machine_.link->h2d, back / machine_.link->d2h);
  cost.storage = cost.bytes_read > 0 ? cost.bytes_read / ssd_rate_ : 0;
  cost.dram = (copied + back + by_cpu + cost.bytes_read) / machine_.dram.bandwidth;
  Clock clock{machine_, ssd_rate_, {plan_.ring, {}}, {plan_.host_ring, {}}};
  // The end of the pass before fills the rings.
  for (size_t i = pieces.size() - pieces.size() / 4; i < pieces.size(); ++i) clock.run(pieces[i], {});
  clock.origin = std::max(clock.gpu, clock.d2h);
  for (const Piece& p : pieces) clock.run(p, look);
  cost.seconds = std::max({clock.gpu - clock.origin, clock.d2h - clock.origin, cost.link, cost.storage, cost.dram});
  cost.wait = cost.seconds - cost.gpu;
  return cost;
}

}  // namespace moegen
