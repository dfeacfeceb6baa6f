#include "tokenizer/token_config.h"

#include <array>
#include <charconv>
#include <map>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"

namespace moegen::text {
namespace {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

constexpr uint64_t kMaxBytes = 64 << 20;
constexpr std::array<const char*, 7> kNamed = {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"};

OrderedJson read_object(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return OrderedJson::object();
  OrderedJson v = parse_ordered_json(read_text_file(path, kMaxBytes), path.string());
  if (!v.is_object()) throw_error(ErrorCode::corrupt, "{}: is no object", path.string());
  return v;
}

// A token that is written as a text or as an object.
Json token_of(const OrderedJson& v) {
  if (v.is_string()) return {{"content", v.get<std::string>()}};
  return v.is_object() && v.contains("content") && v["content"].is_string() ? Json(v) : Json();
}

// Special tokens that are there by name or in a list.
std::vector<Json> special_tokens(const OrderedJson& config) {
  std::vector<Json> out;
  const auto add = [&](const OrderedJson& v) {
    if (Json token = token_of(v); !token.is_null()) out.push_back(std::move(token));
  };
  for (const char* name : kNamed) {
    if (config.contains(name)) add(config[name]);
  }
  for (const char* name : {"extra_special_tokens", "additional_special_tokens"}) {
    if (!config.contains(name) || !config[name].is_array() || config[name].empty()) continue;
    for (const OrderedJson& v : config[name]) add(v);
    break;
  }
  return out;
}

// "added_tokens_decoder" by id.
std::map<int64_t, Json> decoder_of(const OrderedJson& config) {
  std::map<int64_t, Json> out;
  const auto it = config.find("added_tokens_decoder");
  if (it == config.end()) return out;
  if (!it->is_object()) throw_error(ErrorCode::corrupt, "tokenizer_config.json: \"added_tokens_decoder\" is no object");
  for (const auto& [key, value] : it->items()) {
    int64_t id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    Json token = value.is_object() ? token_of(value) : Json();
    if (error != std::errc() || end != key.data() + key.size() || token.is_null())
      throw_error(ErrorCode::corrupt, "tokenizer_config.json: \"added_tokens_decoder\" has \"{}\", which is no id with a token", key);
    token["id"] = id;
    out[id] = std::move(token);
  }
  return out;
}

}  // namespace

TokenConfig TokenConfig::load(const std::filesystem::path& dir) {
  TokenConfig c;
  c.members = read_object(dir / "tokenizer_config.json");
  if (c.members.contains("added_tokens_decoder")) return c;
  const OrderedJson map = read_object(dir / "special_tokens_map.json");
  for (const auto& [name, value] : map.items()) c.members[name] = value;
  c.added = read_object(dir / "added_tokens.json");
  return c;
}

Json TokenConfig::amended(Json added_tokens, const TokenTable& vocab) const {
  if (added_tokens.is_null()) added_tokens = Json::array();
  if (!added_tokens.is_array()) return added_tokens;  // AddedTokens refuses it
  std::map<std::string, size_t> known;
  for (size_t i = 0; i < added_tokens.size(); ++i) {
    if (const Json& t = added_tokens[i]; t.is_object() && t.contains("content") && t["content"].is_string()) known[t["content"]] = i;
  }
  const auto put = [&](Json token) {
    const auto [it, fresh] = known.try_emplace(token["content"], added_tokens.size());
    if (fresh) {
      added_tokens.push_back(std::move(token));
      return;
    }
    Json& old = added_tokens[it->second];
    token["id"] = old["id"];
    token["special"] = token.value("special", false) || old.value("special", false);
    old = std::move(token);
  };
  const std::vector<Json> special = special_tokens(members);
  std::set<std::string> special_contents;
  for (const Json& t : special) special_contents.insert(t["content"]);
  for (auto& [id, token] : decoder_of(members)) {
    if (special_contents.contains(token["content"])) token["special"] = true;
    put(std::move(token));
  }
  for (const auto& [content, id] : added.items()) {
    if (!known.contains(content)) put({{"content", content}, {"id", id}, {"special", special_contents.contains(content)}});
  }
  for (Json token : special) {
    const int32_t id = vocab.find(token["content"].get_ref<const std::string&>());
    if (known.contains(token["content"]) || id == TokenTable::kNone) continue;
    token["id"] = id;
    token["special"] = true;
    put(std::move(token));
  }
  return added_tokens;
}

}  // namespace moegen::text
