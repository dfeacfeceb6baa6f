#pragma once

#include "plan/machine.h"

namespace moegen {

/// A machine of round numbers, without curves: rates come from peak and bandwidth.
inline Machine round_machine() {
  Machine m;
  m.name = "round";
  m.cpu.cores = 2;
  m.cpu.bf16_flops = 1e12;
  m.cpu.attention_flops = 5e11;
  m.dram = {uint64_t{64} << 30, 4e10, {}};
  m.ssd = Machine::Ssd{uint64_t{1} << 40, 2e9, {}, 1, 1, ""};
  return m;
}

}  // namespace moegen
