#include "profile/gpu_rates.h"

#include <algorithm>
#include <memory>
#include <random>

#include "base/error.h"
#include "base/size.h"
#include "kernels/gpu_functions.h"
#include "profile/grouped_work.h"
#include "profile/link_copy.h"

namespace moegen {
namespace {

// Shares of the time.
constexpr double kLink = 0.1;       // each of three
constexpr double kProducts = 0.15;  // each of two
constexpr double kRow = 0.1;
constexpr double kAttention = 0.15;  // each of two

constexpr int64_t kTokens[] = {1, 4, 16, 64, 256, 1024, 4096};
constexpr int64_t kContexts[] = {32, 128, 512, 2048};
constexpr int64_t kSequences = 64;
constexpr int64_t kTokensAtOnce = 64;  // of one expert after the other before the host waits, or one expert
constexpr size_t kPiece = 4 << 20;     // of a copy, as in GpuWeights
constexpr uint64_t kMostLink = 256 << 20;
constexpr uint64_t kMostMemory = 512 << 20;

// Numbers as weights have them: what is multiplied decides how much power a product takes, and with it the clock.
void fill_random(Device& device, const Stream& stream, const DeviceBuffer& to, size_t bytes, DType dtype) {
  const size_t block = std::min<size_t>(bytes, 16 << 20);
  const HostBuffer host = device.new_host_buffer(block);
  std::mt19937 rng(1);
  std::uniform_real_distribution<float> number(-1, 1);
  for (size_t i = 0; i + bytes_of(dtype) <= block; i += bytes_of(dtype)) {
    if (dtype == DType::f32)
      static_cast<float*>(host.handle())[i / sizeof(float)] = number(rng);
    else
      static_cast<bf16*>(host.handle())[i / sizeof(bf16)] = to_bf16(number(rng));
  }
  for (size_t at = 0; at < bytes; at += block)
    device.copy_to_device(stream, static_cast<std::byte*>(to.handle()) + at, host.handle(), std::min(block, bytes - at));
  device.synchronize(stream);
}

// Of matrices whose rows follow one another.
void multiply(Device& device, const Stream& stream, GpuGemm op) {
  op.x_stride = op.w_stride = op.k;
  op.y_stride = op.n;
  device.kernels().gemm(device, stream, op);
}

class Measurement {
 public:
  Measurement(Device& device, const GpuProfileInput& in)
      : device_(device),
        in_(in),
        bytes_(in.memory > 0 ? in.memory : std::min<uint64_t>(kMostMemory, device.free_memory() / 4)),
        stream_(device.new_stream()),
        memory_(device.new_buffer(bytes_)) {
    fill_random(device, stream_, memory_, bytes_, in.act);
  }

  // FLOP/s of whole experts over their tokens.
  Curve products(int64_t hidden, int64_t width) {
    width = width_that_fits(hidden, width, bytes_ / 2, in_.act);
    const size_t expert = static_cast<size_t>(3 * hidden * width) * bytes_of(in_.act);
    const size_t experts = bytes_ / expert;
    if (experts < 2)
      throw_error(ErrorCode::out_of_memory, "{}: {} are too few for two experts of {}", device_.name(), format_bytes(bytes_), format_bytes(expert));
    const int64_t most = kTokens[std::size(kTokens) - 1];
    const auto rows = [&](int64_t columns, DType dtype) { return device_.new_buffer(static_cast<size_t>(most * columns) * bytes_of(dtype)); };
    const DeviceBuffer x = rows(hidden, in_.act), gate = rows(width, DType::f32), up = rows(width, DType::f32), activated = rows(width, in_.act),
                       y = rows(hidden, in_.act);
    fill_random(device_, stream_, x, static_cast<size_t>(most * hidden) * bytes_of(in_.act), in_.act);
    size_t next = 0;
    const auto run = [&](int64_t tokens) {
      const int64_t count = std::max<int64_t>(1, kTokensAtOnce / tokens);
      for (int64_t i = 0; i < count; ++i, next = (next + 1) % experts) {
        const auto* w = static_cast<const std::byte*>(memory_.handle()) + next * expert;
        product(x, w, gate, DType::f32, tokens, width, hidden);
        product(x, w + expert / 3, up, DType::f32, tokens, width, hidden);
        device_.kernels().activate(device_, stream_,
                                   {.gate = static_cast<const float*>(gate.handle()),
                                    .up = static_cast<const float*>(up.handle()),
                                    .out = activated.handle(),
                                    .out_dtype = in_.act,
                                    .rows = tokens,
                                    .width = width});
        product(activated, w + expert / 3 * 2, y, in_.act, tokens, hidden, width);
      }
      device_.synchronize(stream_);
      return 6.0 * static_cast<double>(count * tokens * hidden * width);
    };
    std::vector<Sampled> points;
    for (const int64_t tokens : kTokens)
      points.push_back({static_cast<double>(tokens), [&run, tokens] { return units_per_second([&] { return run(tokens); }); }});
    return sample_curve(points, in_.effort.part(kProducts));
  }

  // Likewise of as many experts at once as have 4,096 tokens together; empty where they are not grouped.
  Curve grouped(const MlpSpec& experts, const ModelShapes::Mlp& shape) {
    GroupedWork work(device_, stream_, {memory_.handle(), bytes_}, experts, shape.hidden, shape.weights, in_.act, kTokens[std::size(kTokens) - 1]);
    std::vector<Sampled> points;
    for (const int64_t tokens : kTokens)
      points.push_back({static_cast<double>(tokens), [&work, tokens] { return units_per_second([&] { return work.run(tokens); }); }});
    return work.empty() ? Curve() : sample_curve(points, in_.effort.part(kProducts));
  }

  // Bytes/s of the weights of one row through a matrix that fills the memory.
  double row_bandwidth(int64_t k) {
    const int64_t n = std::max<int64_t>(1, static_cast<int64_t>(bytes_ / bytes_of(in_.act)) / k);
    const DeviceBuffer x = device_.new_buffer(static_cast<size_t>(k) * bytes_of(in_.act));
    const DeviceBuffer y = device_.new_buffer(static_cast<size_t>(n) * sizeof(float));
    fill_random(device_, stream_, x, static_cast<size_t>(k) * bytes_of(in_.act), in_.act);
    return figure(kRow, [&] {
      product(x, memory_.handle(), y, DType::f32, 1, n, k);
      device_.synchronize(stream_);
      return static_cast<double>(n * k) * static_cast<double>(bytes_of(in_.act));
    });
  }

  // As the planner counts it (AttentionShape): FLOP/s of a prompt, or bytes/s of K and V of generated tokens.
  double attention(const AttentionShape& shape, bool prompt) {
    const int heads = shape.heads / shape.kv_heads;
    const size_t head_bytes = shape.latent_dim > 0 ? latent_page_bytes(in_.kv_dtype, shape.head_dim) : kv_head_bytes(in_.kv_dtype, shape.head_dim);
    const size_t slot_bytes = head_bytes * static_cast<size_t>(shape.kv_heads);
    const auto slots = static_cast<int64_t>(bytes_ / slot_bytes);
    const int64_t most = kContexts[std::size(kContexts) - 1];
    const int64_t rows = std::max(most, kSequences);
    const DeviceBuffer q = device_.new_buffer(static_cast<size_t>(rows * shape.heads * shape.head_dim) * bytes_of(in_.act));
    const DeviceBuffer out = device_.new_buffer(static_cast<size_t>(rows * shape.heads * shape.head_dim) * bytes_of(in_.act));
    fill_random(device_, stream_, q, static_cast<size_t>(rows * shape.heads * shape.head_dim) * bytes_of(in_.act), in_.act);
    std::vector<Sampled> points;
    for (const int64_t context : kContexts) {
      const int64_t pages = context / kPageTokens;
      if (pages > slots) break;
      const int64_t sequences = prompt ? 1 : std::min(kSequences, slots / pages);
      const int64_t queries = prompt ? std::max(1, kGpuTileRows * shape.kv_heads / shape.heads) : 1;
      std::vector<GpuTile> tiles;
      for (int32_t s = 0; s < static_cast<int32_t>(sequences); ++s) {
        const auto first = static_cast<int32_t>(prompt ? 0 : context - 1);
        for (int64_t p = first; p < context; p += queries)
          tiles.push_back({static_cast<int32_t>(s + p - first), static_cast<int32_t>(std::min(queries, context - p)), static_cast<int32_t>(p),
                           static_cast<int32_t>(s * pages)});
      }
      const auto tokens = static_cast<double>(context);
      const double units = prompt ? tokens * (tokens + 1) / 2 * shape.prompt_flops() + tokens * shape.expansion_flops()
                                  : static_cast<double>(sequences * pages) * static_cast<double>(slot_bytes);
      GpuAttention op{.q = q.handle(),
                      .out = out.handle(),
                      .act = in_.act,
                      .kv_dtype = in_.kv_dtype,
                      .rows = prompt ? context : sequences,
                      .num_tiles = static_cast<int64_t>(tiles.size()),
                      .max_count = queries,
                      .kv_heads = shape.kv_heads,
                      .heads = heads,
                      .head_dim = shape.head_dim,
                      .latent_dim = shape.latent_dim,
                      .slots = static_cast<const std::byte*>(memory_.handle()),
                      .slot_bytes = slot_bytes,
                      .head_bytes = head_bytes,
                      .num_slots = slots,
                      .scale = 0.1F};
      points.push_back(
          {tokens, [this, op, units,
                    tiles = std::make_shared<DeviceBuffer>(device_.new_buffer_of(stream_, tiles.data(), tiles.size() * sizeof(GpuTile)))]() mutable {
             op.tiles = static_cast<const GpuTile*>(tiles->handle());
             return units_per_second([&] {
               device_.kernels().attention(device_, stream_, op);
               device_.synchronize(stream_);
               return units;
             });
           }});
    }
    return sample_curve(points, in_.effort.part(kAttention)).best();
  }

  Machine::Link link() {
    const size_t bytes = std::min<uint64_t>(kMostLink, bytes_);
    const LinkCopy there(device_, true, bytes), back(device_, false, bytes);
    const auto rate = [&](const std::vector<const LinkCopy*>& copies) {
      return figure(kLink, [&] {
        LinkCopy::run(copies, kPiece);
        return static_cast<double>(bytes * copies.size());
      });
    };
    return {rate({&there}), rate({&back}), rate({&there, &back})};
  }

 private:
  template <typename Run>
  double figure(double share, const Run& run) {
    return rounded(sample_rate([&] { return units_per_second(run); }, in_.effort.part(share)).median);
  }

  void product(const DeviceBuffer& x, const void* w, const DeviceBuffer& y, DType y_dtype, int64_t m, int64_t n, int64_t k) {
    multiply(device_, stream_, {.x = x.handle(), .w = w, .y = y.handle(), .dtype = in_.act, .y_dtype = y_dtype, .m = m, .n = n, .k = k});
  }

  Device& device_;
  const GpuProfileInput& in_;
  uint64_t bytes_;
  Stream stream_;
  DeviceBuffer memory_;
};

}  // namespace

double gpu_multiply_rate(Device& device, DType act) {
  constexpr int64_t kLeast = 128, kMost = 8192;
  constexpr double kEnough = 1e-3;  // seconds
  const Stream stream = device.new_stream();
  double rate = 0;
  for (int64_t n = kLeast; n <= kMost; n *= 2) {
    const size_t bytes = static_cast<size_t>(n * n) * bytes_of(act);
    const DeviceBuffer x = device.new_buffer(bytes), w = device.new_buffer(bytes), y = device.new_buffer(bytes);
    for (const DeviceBuffer* b : {&x, &w}) fill_random(device, stream, *b, bytes, act);
    const auto run = [&] {
      multiply(device, stream, {.x = x.handle(), .w = w.handle(), .y = y.handle(), .dtype = act, .y_dtype = act, .m = n, .n = n, .k = n});
      device.synchronize(stream);
      return 2.0 * static_cast<double>(n * n * n);
    };
    run();  // chooses how
    rate = std::max(units_per_second(run), units_per_second(run));
    if (2.0 * static_cast<double>(n * n * n) / rate > kEnough) break;
  }
  return rate;
}

GpuRates measure_gpu(Device& device, const GpuProfileInput& input) {
  GpuRates out;
  out.gpu.name = device.name();
  out.gpu.memory_bytes = device.free_memory();
  Measurement measurement(device, input);
  out.link = measurement.link();
  const ModelShapes::Mlp& mlp = input.shapes.mlps.front();
  out.gpu.products = measurement.products(mlp.hidden, mlp.width);
  out.gpu.bf16_flops = out.gpu.products.best();
  const MlpSpec& experts = input.shapes.spec.layers.front().mlp;
  const auto& mlps = input.shapes.mlps;
  const auto shape = std::find_if(mlps.begin(), mlps.end(), [&](const ModelShapes::Mlp& m) { return !experts.dense() && m.width == experts.width; });
  if (shape != mlps.end()) out.gpu.grouped = measurement.grouped(experts, *shape);
  out.gpu.memory_bandwidth = measurement.row_bandwidth(mlp.hidden);
  if (input.shapes.attentions.empty()) return out;
  out.gpu.attention_flops = measurement.attention(input.shapes.attentions.front(), true);
  out.gpu.attention_bandwidth = measurement.attention(input.shapes.attentions.front(), false);
  return out;
}

}  // namespace moegen
