#pragma once

#include "grammar/network.h"

namespace moegen::grammar {

/// Fills Network::Node::alias: nodes that no text of up to `horizon` bytes tells apart, within their rule, share one. So the
/// thousands of copies of a bounded repeat have few masks. Moore's partition refinement, that many rounds.
void find_aliases(Network& network, int32_t horizon);

}  // namespace moegen::grammar
