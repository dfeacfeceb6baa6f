#pragma once

// Every op over the vectors of `Simd` and the `Products` that the including file chose.
#include "kernels/cpu/attention.h"
#include "kernels/cpu/delta.h"
#include "kernels/cpu/expansion.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/peak.h"
#include "kernels/cpu/row_ops.h"
