#include "device/gpu.h"

namespace moegen {

GpuBackend find_gpus() { return {false, "built without CUDA (preset cuda builds with it)", {}}; }

}  // namespace moegen
