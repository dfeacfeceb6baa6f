// The device layer over the CUDA runtime, in the module.
#include "device/device.h"

#include <algorithm>
#include <cstdlib>
#include <set>
#include <vector>

#include "device/cuda/check.h"
#include "device/cuda/module.h"

namespace moegen {
namespace {

cudaStream_t stream_of(const Stream& stream) { return static_cast<cudaStream_t>(stream.handle()); }
cudaEvent_t event_of(const Event& event) { return static_cast<cudaEvent_t>(event.handle()); }

class CudaDevice : public Device {
 public:
  explicit CudaDevice(int index) : index_(index) {
    use_here();
    cudaDeviceProp properties{};
    check_cuda(cudaGetDeviceProperties(&properties, index), "properties");
    name_ = properties.name;
    if (!has_kernels()) {
      static_cast<void>(cudaGetLastError());
      throw Error(ErrorCode::unsupported, "GPU: " + name_ + " (compute capability " + std::to_string(properties.major) + "." +
                                              std::to_string(properties.minor) +
                                              "): this build has no kernels for it, see MOEGEN_CUDA_ARCHITECTURES");
    }
    check_cuda(cudaDeviceGetStreamPriorityRange(&least_priority_, &greatest_priority_), "priorities");
    int same = 0;
    check_cuda(cudaDeviceGetAttribute(&same, cudaDevAttrCanUseHostPointerForRegisteredMem, index), "properties");
    same_addresses_ = same != 0;
    if (cudaDeviceGetAttribute(&numa_node_, cudaDevAttrHostNumaId, index) != cudaSuccess) {
      static_cast<void>(cudaGetLastError());  // of an older driver
      numa_node_ = -1;
    }
  }

  std::string name() const override { return name_; }
  void use_here() override { check_cuda(cudaSetDevice(index_), "cannot be used"); }
  size_t free_memory() const override {
    size_t free = 0, total = 0;
    check_cuda(cudaMemGetInfo(&free, &total), "free memory");
    return free;
  }
  // A context with this module and cuBLASLt; the driver tells it of no process alone.
  size_t overhead() const override { return size_t{512} << 20; }
  int numa_node() const override { return numa_node_; }
  const GpuKernels& kernels() const override { return cuda_kernels(); }

  Stream new_stream(bool urgent) override {
    cudaStream_t stream{};
    check_cuda(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, urgent ? greatest_priority_ : least_priority_), "a stream");
    return {*this, stream};
  }
  Event new_event() override {
    cudaEvent_t event{};
    check_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "an event");
    return {*this, event};
  }
  Buffer new_buffer(size_t bytes) override {
    void* memory = nullptr;
    const cudaError_t error = cudaMalloc(&memory, std::max<size_t>(bytes, 1));
    if (error == cudaErrorMemoryAllocation) {
      static_cast<void>(cudaGetLastError());  // it is told once
      throw Error(ErrorCode::out_of_memory, std::to_string(bytes) + " bytes do not fit the memory of " + name_ + ": use less --device-memory");
    }
    check_cuda(error, "memory");
    return {*this, memory};
  }
  HostBuffer new_host_buffer(size_t bytes) override {
    void* memory = nullptr;
    if (cudaHostAlloc(&memory, std::max<size_t>(bytes, 1), cudaHostAllocDefault) == cudaSuccess) {
      pinned_.insert(memory);
      return {*this, memory};
    }
    static_cast<void>(cudaGetLastError());
    memory = std::malloc(std::max<size_t>(bytes, 1));
    if (memory == nullptr) throw Error(ErrorCode::out_of_memory, "no host memory for " + std::to_string(bytes) + " bytes");
    return {*this, memory};
  }

  void fill(const Stream& stream, void* to, uint8_t value, size_t bytes) override {
    check_cuda(cudaMemsetAsync(to, value, bytes, stream_of(stream)), "a fill");
  }
  void record(const Event& event, const Stream& stream) override { check_cuda(cudaEventRecord(event_of(event), stream_of(stream)), "an event"); }
  void wait(const Stream& stream, const Event& event) override { check_cuda(cudaStreamWaitEvent(stream_of(stream), event_of(event), 0), "a wait"); }
  void synchronize(const Event& event) override { check_cuda(cudaEventSynchronize(event_of(event)), "computing"); }
  void synchronize(const Stream& stream) override { check_cuda(cudaStreamSynchronize(stream_of(stream)), "computing"); }
  void settle(const Stream& stream) noexcept override { static_cast<void>(cudaStreamSynchronize(stream_of(stream))); }
  void host_reads(const void*, size_t) override {}
  void host_writes(const void*, size_t) override {}

  // An error of what was enqueued is told here again; it was thrown when it was first met.
  void release_stream(void* stream) noexcept override { static_cast<void>(cudaStreamDestroy(static_cast<cudaStream_t>(stream))); }
  void release_event(void* event) noexcept override { static_cast<void>(cudaEventDestroy(static_cast<cudaEvent_t>(event))); }
  void release_memory(void* memory) noexcept override { static_cast<void>(cudaFree(memory)); }
  void release_host(void* memory) noexcept override { pinned_.erase(memory) > 0 ? static_cast<void>(cudaFreeHost(memory)) : std::free(memory); }

 private:
  // In one call, the sources read in the order of the stream. Memory that is not pinned is not taken so, nor what is registered where the device has
  // other addresses for it (WSL): only single copies look these up.
  void copy_pieces(const Stream& stream, std::span<const Copy> pieces, bool to_device, bool pinned) override {
    if (!pinned || !same_addresses_ || pieces.size() == 1) {
      const cudaMemcpyKind kind = to_device ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToHost;
      for (const Copy& c : pieces) check_cuda(cudaMemcpyAsync(c.to, c.from, c.bytes, kind, stream_of(stream)), "a copy");
      return;
    }
    std::vector<void*> to;
    std::vector<const void*> from;
    std::vector<size_t> sizes;
    for (const Copy& c : pieces) {
      to.push_back(c.to);
      from.push_back(c.from);
      sizes.push_back(c.bytes);
    }
    cudaMemcpyAttributes attributes{};
    attributes.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
    attributes.flags = cudaMemcpyFlagPreferOverlapWithCompute;
    constexpr size_t kTogether = 1024;  // so that the first begin while the last are told
    for (size_t at = 0; at < pieces.size(); at += kTogether) {
      const size_t count = std::min(kTogether, pieces.size() - at);
      size_t first = 0;
      check_cuda(cudaMemcpyBatchAsync(&to[at], &from[at], &sizes[at], count, &attributes, &first, 1, stream_of(stream)), "copies");
    }
  }
  bool pin_range(void* memory, size_t bytes) override {
    if (cudaHostRegister(memory, bytes, cudaHostRegisterDefault) == cudaSuccess) return true;
    static_cast<void>(cudaGetLastError());
    return false;
  }
  void unpin_range(void* memory) noexcept override { static_cast<void>(cudaHostUnregister(memory)); }

  int index_;
  std::string name_;
  int least_priority_ = 0, greatest_priority_ = 0;
  bool same_addresses_ = true;
  int numa_node_ = -1;
  std::set<void*> pinned_;  // of new_host_buffer
};

}  // namespace
}  // namespace moegen

moegen::Device* moegen_cuda_open(int32_t index) { return new moegen::CudaDevice(index); }
