#pragma once

#include <string>

#include "report/history.h"

namespace moegen {

/// The whole page. Nothing in it is loaded from elsewhere, and a policy in it forbids that; every text of the history is escaped.
[[nodiscard]] std::string report_page(const History& history);

}  // namespace moegen
