#pragma once

#include <cstdint>

namespace moegen {
class Device;
}

// What the CUDA module exports, in C, so that the program can open it at run time: it starts on machines without a driver.
extern "C" {

struct MoegenCudaGpu {
  char name[256];
  uint64_t memory_bytes;
  int32_t compute_capability;
};

/// Fills up to `room` entries; returns how many GPUs there are, or -1 with the driver's words in `problem`.
int32_t moegen_cuda_find(MoegenCudaGpu* gpus, int32_t room, char* problem, int32_t problem_bytes);

/// The GPU of that number, for the caller to delete. Throws Error(io): module and program are built together.
moegen::Device* moegen_cuda_open(int32_t index);
}
