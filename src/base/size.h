#pragma once

#include <cstdint>
#include <string>

#include "moegen/size.h"

namespace moegen {

/// "5.2 GiB"
std::string format_bytes(uint64_t bytes);

}  // namespace moegen
