#pragma once

#include "api/output_text.h"
#include "output/parse_output.h"

namespace moegen {

/// Splits the text of a choice, which has its token ids and its reason to finish, into reasoning, content and calls.
/// A text in which nothing is found stays as it is. `prompt_key` tells conversations apart in the ids of calls.
void read_output(const OutputContext& context, const OutputText& text, uint64_t prompt_key, Choice& choice);

}  // namespace moegen
