#include "tokenizer/post_processor.h"

#include "tokenizer/json_fields.h"
#include "tokenizer/token_table.h"

namespace moegen::text {
namespace {

constexpr int kMaxNesting = 8;
constexpr size_t kMaxIds = 1024;

void parse_template(const Fields& f, PostProcessor& to) {
  std::vector<int32_t> before;
  std::vector<int32_t> behind;
  bool seen = false;
  for (const auto& item : f.array("single")) {
    const Fields part(item, f.where() + ".single");
    if (part.has("Sequence")) {
      if (seen) f.refuse("a template that holds the text twice");
      seen = true;
      continue;
    }
    const Fields token(part.at("SpecialToken"), f.where() + ".single");
    const Fields known(f.at("special_tokens"), f.where() + ".special_tokens");
    const Fields special(known.at(token.text("id").c_str()), f.where() + ".special_tokens");
    for (const auto& id : special.array("ids")) {
      if (!id.is_number_unsigned() || id.get<uint64_t>() > static_cast<uint64_t>(TokenTable::kMaxId)) special.corrupt("an id is out of range");
      (seen ? behind : before).push_back(id.get<int32_t>());
    }
  }
  if (!seen) f.corrupt("the template has no place for the text");
  if (to.before.size() + to.behind.size() + before.size() + behind.size() > kMaxIds) f.refuse("so many special tokens");
  to.before.insert(to.before.begin(), before.begin(), before.end());  // a later template stands around an earlier one
  to.behind.insert(to.behind.end(), behind.begin(), behind.end());
}

void parse_into(const nlohmann::json& spec, PostProcessor& to, int depth) {
  const Fields f(spec, "post_processor");
  if (depth > kMaxNesting) f.refuse("nesting so deep");
  const std::string type = f.type();
  if (type == "Sequence") {
    for (const auto& inner : f.array("processors")) parse_into(inner, to, depth + 1);
  } else if (type == "TemplateProcessing") {
    parse_template(f, to);
  } else if (type != "ByteLevel") {  // that one changes offsets only
    f.refuse(std::string("the type ") + type);
  }
}

}  // namespace

PostProcessor PostProcessor::parse(const nlohmann::json& spec) {
  PostProcessor p;
  if (!spec.is_null()) parse_into(spec, p, 0);
  return p;
}

}  // namespace moegen::text
