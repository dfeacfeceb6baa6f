#pragma once

#include <nlohmann/json.hpp>

#include "grammar/network.h"

namespace moegen::grammar {

/// Compiles a JSON schema to the rules of the JSON texts that it accepts; rule 0 is the whole. What is written is compact
/// JSON with at most one space behind each ':' and ','; properties stand in the order of the schema. Where a keyword allows
/// more than can be written, less is: every text is valid under the schema. Objects without "additionalProperties" but with
/// "properties" get no others.
/// Throws Error(unsupported | invalid_argument) naming the keyword and where it stands.
void add_schema(NetworkBuilder& builder, const nlohmann::ordered_json& schema);

/// The same for any JSON object.
void add_json_object(NetworkBuilder& builder);

}  // namespace moegen::grammar
