#include "device/gpu.h"

#include "base/error.h"

namespace moegen {

GpuBackend find_gpus() { return {false, "built without CUDA (preset cuda builds with it)", {}}; }

std::unique_ptr<Device> open_gpu(int index) { throw_error(ErrorCode::unsupported, "--device cuda:{}: no GPU: {}", index, find_gpus().problem); }

}  // namespace moegen
