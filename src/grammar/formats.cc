#include "grammar/formats.h"

namespace moegen::grammar {
namespace {

// RFC 3339. The 29th of February only in leap years; no leap seconds.
#define MOEGEN_DATE                                                                                                   \
  "([0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))" \
  "|([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)"
#define MOEGEN_TIME "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
#define MOEGEN_OCTET "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
#define MOEGEN_HEX "[0-9a-fA-F]{1,4}"
#define MOEGEN_COUNT "[0-9]{1,9}"  // ISO 8601 as RFC 3339 has it: no unit is left out between two
#define MOEGEN_HOURS "T(" MOEGEN_COUNT "H(" MOEGEN_COUNT "M(" MOEGEN_COUNT "S)?)?|" MOEGEN_COUNT "M(" MOEGEN_COUNT "S)?|" MOEGEN_COUNT "S)"
#define MOEGEN_DAYS "(" MOEGEN_COUNT "Y(" MOEGEN_COUNT "M(" MOEGEN_COUNT "D)?)?|" MOEGEN_COUNT "M(" MOEGEN_COUNT "D)?|" MOEGEN_COUNT "D)"
#define MOEGEN_LABEL "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#define MOEGEN_SHORT_LABEL "[A-Za-z0-9]([A-Za-z0-9-]{0,28}[A-Za-z0-9])?"

struct Format {
  std::string_view name;
  std::string_view pattern;
};

constexpr Format kFormats[] = {
    {"date", MOEGEN_DATE},
    {"time", MOEGEN_TIME},
    {"date-time", MOEGEN_DATE "T" MOEGEN_TIME},
    {"uuid", "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"},
    {"email", "[A-Za-z0-9_+-]+(\\.[A-Za-z0-9_+-]+)*@(" MOEGEN_LABEL "\\.)+[A-Za-z]{2,24}"},
    {"hostname", "(" MOEGEN_SHORT_LABEL "\\.){0,7}" MOEGEN_SHORT_LABEL "|(" MOEGEN_LABEL "\\.){0,2}" MOEGEN_LABEL},  // 253 characters at most
    {"duration", "P(" MOEGEN_DAYS "(" MOEGEN_HOURS ")?|" MOEGEN_HOURS "|" MOEGEN_COUNT "W)"},
    {"ipv6",  // one run of groups may be left out
     "(" MOEGEN_HEX ":){7}(" MOEGEN_HEX "|:)|(" MOEGEN_HEX ":){1,6}:|(" MOEGEN_HEX ":){1,6}:" MOEGEN_HEX "|(" MOEGEN_HEX ":){1,5}(:" MOEGEN_HEX
     "){2}|(" MOEGEN_HEX ":){1,4}(:" MOEGEN_HEX "){3}|(" MOEGEN_HEX ":){1,3}(:" MOEGEN_HEX "){4}|(" MOEGEN_HEX ":){1,2}(:" MOEGEN_HEX
     "){5}|" MOEGEN_HEX ":(:" MOEGEN_HEX "){6}|:(:|(:" MOEGEN_HEX "){1,7})"},
    {"ipv4", "(" MOEGEN_OCTET "\\.){3}" MOEGEN_OCTET},
};

#undef MOEGEN_DATE
#undef MOEGEN_TIME
#undef MOEGEN_OCTET
#undef MOEGEN_HEX
#undef MOEGEN_COUNT
#undef MOEGEN_HOURS
#undef MOEGEN_DAYS
#undef MOEGEN_LABEL
#undef MOEGEN_SHORT_LABEL

}  // namespace

std::string_view format_pattern(std::string_view format) {
  for (const Format& f : kFormats) {
    if (f.name == format) return f.pattern;
  }
  return {};
}

}  // namespace moegen::grammar
