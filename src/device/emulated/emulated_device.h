#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>

#include "device/emulated/access_check.h"

namespace moegen {

/// A device in host memory, for tests: its streams are queues, from which a seeded choice takes work now and then, one stream far ahead of
/// another, as late as the host allows. Device memory begins as NaNs. Work that meets other work in the same memory without an event between,
/// memory that is given back too early, and ranges beyond an allocation are found whatever the order was, and thrown as std::logic_error;
/// in a destructor they end the program.
class EmulatedDevice : public Device {
 public:
  struct Options {
    uint64_t seed = 1;
    size_t memory_bytes = size_t{1} << 30;
    bool pins = true;  ///< false: the system refuses to pin
    size_t overhead = 0;
  };
  /// `kernels` must outlive it.
  EmulatedDevice(const GpuKernels& kernels, const Options& options);
  ~EmulatedDevice() override;

  /// Work for a kernel's emulation; `reads` and `writes` are all of device memory that it touches.
  void enqueue(const Stream& stream, std::string_view name, const std::vector<Region>& reads, const std::vector<Region>& writes,
               std::function<void()> work);
  [[nodiscard]] size_t most_memory() const { return most_memory_; }  ///< that was allocated at a time
  [[nodiscard]] uint64_t copied_bytes() const { return copied_; }    ///< to the device
  [[nodiscard]] uint64_t seed() const { return options_.seed; }

  [[nodiscard]] std::string name() const override { return "emulated"; }
  [[nodiscard]] size_t free_memory() const override { return options_.memory_bytes - memory_; }
  [[nodiscard]] size_t overhead() const override { return options_.overhead; }
  [[nodiscard]] const GpuKernels& kernels() const override { return kernels_; }
  [[nodiscard]] Stream new_stream(bool urgent) override;
  [[nodiscard]] Event new_event() override;
  [[nodiscard]] Buffer new_buffer(size_t bytes) override;
  [[nodiscard]] HostBuffer new_host_buffer(size_t bytes) override;
  void fill(const Stream& stream, void* to, uint8_t value, size_t bytes) override;
  void record(const Event& event, const Stream& stream) override;
  void wait(const Stream& stream, const Event& event) override;
  void synchronize(const Event& event) override;
  void synchronize(const Stream& stream) override;
  void settle(const Stream& stream) noexcept override { synchronize(stream); }
  void use_here() override {}
  void host_reads(const void* memory, size_t bytes) override;
  void host_writes(const void* memory, size_t bytes) override;
  void release_stream(void* stream) noexcept override;
  void release_event(void* event) noexcept override;
  void release_memory(void* memory) noexcept override;
  void release_host(void* memory) noexcept override;

 private:
  struct EventState {
    uint64_t recorded = 0;  // how often
    uint64_t happened = 0;  // of these
    AccessCheck::Clock clock;
  };
  struct Task {
    std::function<void()> work;
    std::shared_ptr<EventState> waits_for;  // or null
    uint64_t number = 0;                    // of its records
  };
  struct StreamState {
    size_t actor = 0;
    std::deque<Task> tasks;
    uint32_t pace = 1;
  };
  enum class Kind { device, host, pinned };
  struct Memory {
    size_t bytes;
    Kind kind;
  };

  void copy_pieces(const Stream& stream, std::span<const Copy> pieces, bool to_device, bool pinned) override;
  bool pin_range(void* memory, size_t bytes) override;
  void unpin_range(void* memory) noexcept override;
  void push(const Stream& stream, Task task);
  void check_range(std::string_view name, Region region) const;
  [[nodiscard]] const Memory* find(const void* data, size_t bytes) const;
  bool step();
  template <typename Done>
  void run_until(const Done& done);
  void free_memory_of(void* memory, const char* what);

  const GpuKernels& kernels_;
  Options options_;
  std::mt19937_64 rng_;
  AccessCheck check_;
  std::vector<StreamState*> streams_;
  std::map<const std::byte*, Memory> memories_;
  size_t memory_ = 0;
  size_t most_memory_ = 0;
  uint64_t copied_ = 0;
};

}  // namespace moegen
