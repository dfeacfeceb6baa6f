#include "device/emulated/emulated_device.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "base/check.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/size.h"

namespace moegen {
namespace {

constexpr size_t kAlignment = 256;
constexpr int kPoison = 0xff;  // a NaN in every float format

void* allocate(size_t bytes) {
  const size_t size = round_up(std::max<size_t>(bytes, 1), kAlignment);
  void* memory = std::aligned_alloc(kAlignment, size);
  if (memory == nullptr) throw_error(ErrorCode::out_of_memory, "no memory for {} of an emulated device", format_bytes(bytes));
  std::memset(memory, kPoison, size);
  return memory;
}

}  // namespace

EmulatedDevice::EmulatedDevice(const GpuKernels& kernels, const Options& options) : kernels_(kernels), options_(options), rng_(options.seed) {}

EmulatedDevice::~EmulatedDevice() { MOEGEN_CHECK(streams_.empty() && memories_.empty()); }

Stream EmulatedDevice::new_stream(bool) {
  auto* stream = new StreamState{.actor = check_.add_actor(), .tasks = {}};
  streams_.push_back(stream);
  return {*this, stream};
}

Event EmulatedDevice::new_event() { return {*this, new std::shared_ptr<EventState>(std::make_shared<EventState>())}; }

DeviceBuffer EmulatedDevice::new_buffer(size_t bytes) {
  if (bytes > free_memory())
    throw_error(ErrorCode::out_of_memory, "{} do not fit the {} that are left of the device's memory", format_bytes(bytes),
                format_bytes(free_memory()));
  void* memory = allocate(bytes);
  memories_[static_cast<const std::byte*>(memory)] = {bytes, Kind::device};
  memory_ += bytes;
  most_memory_ = std::max(most_memory_, memory_);
  return {*this, memory};
}

HostBuffer EmulatedDevice::new_host_buffer(size_t bytes) {
  void* memory = allocate(bytes);
  memories_[static_cast<const std::byte*>(memory)] = {bytes, options_.pins ? Kind::pinned : Kind::host};
  return {*this, memory};
}

bool EmulatedDevice::pin_range(void* memory, size_t bytes) {
  if (options_.pins) memories_[static_cast<const std::byte*>(memory)] = {bytes, Kind::pinned};
  return options_.pins;
}

void EmulatedDevice::free_memory_of(void* memory, const char* what) {
  const auto it = memories_.find(static_cast<const std::byte*>(memory));
  MOEGEN_CHECK(it != memories_.end());
  if (const std::string user = check_.users({memory, it->second.bytes}); !user.empty()) {
    fmt::print(stderr, "{} is given back while {} may still use it\n", what, user);
    std::abort();
  }
  if (it->second.kind == Kind::device) memory_ -= it->second.bytes;
  memories_.erase(it);
}

void EmulatedDevice::unpin_range(void* memory) noexcept { free_memory_of(memory, "pinned memory"); }

void EmulatedDevice::release_memory(void* memory) noexcept {
  free_memory_of(memory, "device memory");
  std::free(memory);
}

void EmulatedDevice::release_host(void* memory) noexcept {
  free_memory_of(memory, "host memory");
  std::free(memory);
}

void EmulatedDevice::release_stream(void* stream) noexcept {
  auto* state = static_cast<StreamState*>(stream);
  run_until([&] { return state->tasks.empty(); });  // as CUDA does: what is in it still runs
  std::erase(streams_, state);
  delete state;
}

void EmulatedDevice::release_event(void* event) noexcept { delete static_cast<std::shared_ptr<EventState>*>(event); }

const EmulatedDevice::Memory* EmulatedDevice::find(const void* data, size_t bytes) const {
  const auto* begin = static_cast<const std::byte*>(data);
  auto it = memories_.upper_bound(begin);
  if (it == memories_.begin()) return nullptr;
  --it;
  return begin + bytes <= it->first + it->second.bytes ? &it->second : nullptr;
}

void EmulatedDevice::check_range(std::string_view name, Region region) const {
  const Memory* memory = find(region.data, region.bytes);
  if (memory == nullptr || memory->kind != Kind::device)
    throw std::logic_error(fmt::format("{}: {} bytes at {} are not in one allocation of device memory", name, region.bytes, fmt::ptr(region.data)));
}

void EmulatedDevice::enqueue(const Stream& stream, std::string_view name, const std::vector<Region>& reads, const std::vector<Region>& writes,
                             std::function<void()> work) {
  for (const auto* regions : {&reads, &writes}) {
    for (const Region& r : *regions) {
      if (r.bytes > 0) check_range(name, r);  // else an operand that is not there
    }
  }
  check_.use(static_cast<StreamState*>(stream.handle())->actor, name, reads, writes);
  push(stream, {std::move(work), nullptr, 0});
}

void EmulatedDevice::copy_pieces(const Stream& stream, std::span<const Copy> pieces, bool to_device, bool) {
  for (const auto& [to, from, bytes] : pieces) {
    check_range("a copy", {to_device ? to : from, bytes});
    const Memory* memory = find(to_device ? from : to, bytes);
    const bool pinned = memory != nullptr && memory->kind == Kind::pinned;
    copied_ += to_device ? bytes : 0;
    check_.use(static_cast<StreamState*>(stream.handle())->actor, to_device ? "a copy to the device" : "a copy to the host", {{from, bytes}},
               {{to, bytes}});
    push(stream, {[to = to, from = from, bytes = bytes] { std::memcpy(to, from, bytes); }, nullptr, 0});
    if (!pinned) synchronize(stream);
  }
}

void EmulatedDevice::fill(const Stream& stream, void* to, uint8_t value, size_t bytes) {
  enqueue(stream, "a fill", {}, {{to, bytes}}, [=] { std::memset(to, value, bytes); });
}

void EmulatedDevice::record(const Event& event, const Stream& stream) {
  const auto state = *static_cast<std::shared_ptr<EventState>*>(event.handle());
  state->clock = check_.now(static_cast<StreamState*>(stream.handle())->actor);
  const uint64_t number = ++state->recorded;
  push(stream, {[state, number] { state->happened = std::max(state->happened, number); }, nullptr, 0});
}

void EmulatedDevice::wait(const Stream& stream, const Event& event) {
  const auto state = *static_cast<std::shared_ptr<EventState>*>(event.handle());
  check_.join(static_cast<StreamState*>(stream.handle())->actor, state->clock);
  push(stream, {[] {}, state, state->recorded});
}

void EmulatedDevice::synchronize(const Event& event) {
  const auto state = *static_cast<std::shared_ptr<EventState>*>(event.handle());
  run_until([&] { return state->happened >= state->recorded; });
  check_.join(AccessCheck::kHost, state->clock);
}

void EmulatedDevice::synchronize(const Stream& stream) {
  auto* state = static_cast<StreamState*>(stream.handle());
  run_until([&] { return state->tasks.empty(); });
  check_.join(AccessCheck::kHost, check_.now(state->actor));
}

void EmulatedDevice::host_reads(const void* memory, size_t bytes) { check_.use(AccessCheck::kHost, "the host", {{memory, bytes}}, {}); }
void EmulatedDevice::host_writes(const void* memory, size_t bytes) { check_.use(AccessCheck::kHost, "the host", {}, {{memory, bytes}}); }

// Mostly the queues grow, for nothing but waiting makes the host see results; now and then some of it runs.
void EmulatedDevice::push(const Stream& stream, Task task) {
  static_cast<StreamState*>(stream.handle())->tasks.push_back(std::move(task));
  if (rng_() % 8 != 0) return;
  for (StreamState* s : streams_) s->pace = 1U << (rng_() % 8);
  for (uint64_t steps = rng_() % 24; steps > 0 && step(); --steps) {
  }
}

// Runs a task of some stream whose turn it may be; false where there is none.
bool EmulatedDevice::step() {
  const auto ready = [](const StreamState& s) {
    return !s.tasks.empty() && (s.tasks.front().waits_for == nullptr || s.tasks.front().waits_for->happened >= s.tasks.front().number);
  };
  uint64_t sum = 0;
  for (const StreamState* s : streams_) sum += ready(*s) ? s->pace : 0;
  if (sum == 0) return false;
  uint64_t at = rng_() % sum;
  for (StreamState* s : streams_) {
    if (!ready(*s)) continue;
    if (at < s->pace) {
      const Task task = std::move(s->tasks.front());
      s->tasks.pop_front();
      task.work();
      return true;
    }
    at -= s->pace;
  }
  return false;
}

template <typename Done>
void EmulatedDevice::run_until(const Done& done) {
  while (!done()) MOEGEN_CHECK(step());
}

}  // namespace moegen
