#include "tokenizer/tokenizer.h"

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "tokenizer/json_fields.h"
#include "tokenizer/token_config.h"
#include "tokenizer/tokenizer_file.h"
#include "tokenizer/tokenizer_impl.h"
#include "tokenizer/unicode.h"

namespace moegen {
namespace {

constexpr uint64_t kMaxFileBytes = 256 << 20;
constexpr size_t kMaxTextBytes = 256 << 20;

const nlohmann::json& part(const nlohmann::json& document, const char* key) {
  static const nlohmann::json null;
  const auto it = document.find(key);
  return it == document.end() ? null : *it;
}

void check_type(const nlohmann::json& model) {
  const text::Fields f(model, "model");
  const std::string type = f.text("type", "BPE");  // old files do not say
  if (type != "BPE") f.refuse(std::string("the type ") + type);
}

// The id of "bos_token" or its like in tokenizer_config.json; -1 without.
int32_t config_token(const text::Fields& config, const char* name, const Tokenizer::Impl& impl) {
  if (!config.has(name)) return -1;
  const nlohmann::json& token = config.at(name);
  const std::string content = token.is_object() ? text::Fields(token, config.where() + ": " + name).text("content") : config.text(name);
  const text::AddedToken* added = impl.added.find(content);
  return added != nullptr ? added->id : impl.bpe.vocab().find(content);
}

std::unique_ptr<Tokenizer::Impl> build(const std::string& path, text::TokenizerFile file, const text::TokenConfig& config) {
  try {
    auto impl = std::make_unique<Tokenizer::Impl>();
    text::Regex::Scratch scratch;
    check_type(file.rest["model"]);
    impl->bpe = text::Bpe::build(std::move(file.vocab), file.merges, file.rest["model"]);
    impl->normalizer = text::Normalizer::parse(part(file.rest, "normalizer"));
    impl->pre_tokenizer = text::PreTokenizer::parse(part(file.rest, "pre_tokenizer"));
    const nlohmann::json added = config.amended(part(file.rest, "added_tokens"), impl->bpe.vocab());
    impl->added = text::AddedTokens::parse(added, impl->bpe.vocab(), impl->normalizer, scratch);
    impl->post_processor = text::PostProcessor::parse(part(file.rest, "post_processor"));
    impl->decoder = text::Decoder::parse(part(file.rest, "decoder"));
    impl->vocab_size = impl->bpe.vocab().size();
    for (const text::AddedToken& t : impl->added.all()) impl->vocab_size = std::max(impl->vocab_size, t.id + 1);
    return impl;
  } catch (const Error& e) {
    throw_error(e.code(), "{}: {}", path, e.what());
  }
}

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::load(const std::filesystem::path& dir) {
  const std::filesystem::path path = dir / "tokenizer.json";
  const text::TokenConfig config = text::TokenConfig::load(dir);
  // The file's text goes before the tables are made: one file size less at the peak.
  text::TokenizerFile file = text::parse_tokenizer_file(read_text_file(path, kMaxFileBytes), path.string());
  std::unique_ptr<Impl> impl = build(path.string(), std::move(file), config);
  const nlohmann::json members = config.members;
  const text::Fields fields(members, (dir / "tokenizer_config.json").string());
  // BOS in front is asked for by tokenizer_config.json where the post-processor of tokenizer.json does nothing.
  if (fields.has("add_bos_token") && fields.at("add_bos_token") == true) impl->bos = config_token(fields, "bos_token", *impl);
  impl->eos = config_token(fields, "eos_token", *impl);
  return Tokenizer(std::move(impl));
}

Tokenizer Tokenizer::parse(const std::string& tokenizer_json, const std::string& name) {
  return Tokenizer(build(name, text::parse_tokenizer_file(tokenizer_json, name), {}));
}

void Tokenizer::Impl::encode_normalized(std::string_view part, size_t start_chars, bool cut, text::Regex::Scratch& scratch,
                                        std::vector<int32_t>& ids) const {
  const auto words = [&](std::string_view piece, size_t first) {
    text::Pieces pieces{std::string(piece), {{0, static_cast<uint32_t>(piece.size())}}, first};
    pre_tokenizer.apply(pieces, scratch);
    for (size_t i = 0; i < pieces.spans.size(); ++i) bpe.encode(pieces.word(i), ids);
  };
  if (!cut || !added.any(true)) {
    words(part, start_chars);
    return;
  }
  for (const auto& p : added.cut(part, true)) {
    if (p.id >= 0) {
      ids.push_back(p.id);
    } else {
      const size_t before = start_chars == 0 ? 0 : std::min(start_chars, text::count_chars(part.substr(0, p.begin)));
      words(part.substr(p.begin, p.end - p.begin), start_chars - before);
    }
  }
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  if (text.size() > kMaxTextBytes)
    throw_error(ErrorCode::invalid_argument, "a text of {} bytes is longer than the {} that can be encoded at once", text.size(), kMaxTextBytes);
  std::string repaired;
  if (text::first_invalid(text) != text.size()) {
    repaired = text::valid_utf8(text);
    text = repaired;
  }
  text::Regex::Scratch scratch;
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 4 + 4);
  const auto plain = [&](std::string_view part, bool at_start) {
    if (impl_->normalizer.empty()) {
      impl_->encode_normalized(part, at_start ? 1 : 0, options.parse_special, scratch, ids);
      return;
    }
    std::string normalized(part);
    const size_t start_chars = impl_->normalizer.apply(normalized, scratch);
    impl_->encode_normalized(normalized, at_start ? start_chars : 0, options.parse_special, scratch, ids);
  };
  if (options.parse_special && impl_->added.any(false)) {
    for (const auto& p : impl_->added.cut(text, false)) {
      if (p.id >= 0) {
        ids.push_back(p.id);
      } else {
        plain(text.substr(p.begin, p.end - p.begin), p.begin == 0);
      }
    }
  } else {
    plain(text, true);
  }
  if (options.add_special_tokens) {
    const text::PostProcessor& post = impl_->post_processor;
    ids.insert(ids.begin(), post.before.begin(), post.before.end());
    ids.insert(ids.end(), post.behind.begin(), post.behind.end());
    if (impl_->bos >= 0 && (ids.empty() || ids.front() != impl_->bos)) ids.insert(ids.begin(), impl_->bos);
  }
  return ids;
}

std::string_view Tokenizer::Impl::token(int32_t id) const {
  const text::AddedToken* t = added.find(id);
  return t != nullptr ? std::string_view(t->encoded) : bpe.vocab().text(id);
}

bool Tokenizer::Impl::is_special(int32_t id) const {
  const text::AddedToken* t = added.find(id);
  return t != nullptr && t->special;
}

bool Tokenizer::Impl::is_shown(int32_t id, bool skip_special_tokens) const {
  const text::AddedToken* t = added.find(id);
  return t != nullptr ? !(skip_special_tokens && t->special) : bpe.vocab().has(id);
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  text::DecodeRun run(impl_->decoder);
  std::string out;
  out.reserve(ids.size() * 4);
  for (const int32_t id : ids) {
    if (impl_->is_shown(id, skip_special_tokens)) run.push(impl_->token(id), out);
  }
  run.finish(out);
  return out;
}

std::string Tokenizer::token_bytes(int32_t id) const {
  if (const text::AddedToken* t = impl_->added.find(id)) return t->content;
  return impl_->decoder.bytes_of(impl_->bpe.vocab().text(id));
}

std::optional<int32_t> Tokenizer::id_of(std::string_view token) const {
  if (const text::AddedToken* t = impl_->added.find(token)) return t->id;
  const int32_t id = impl_->bpe.vocab().find(token);
  return id >= 0 ? std::optional<int32_t>(id) : std::nullopt;
}

std::optional<int32_t> Tokenizer::eos() const { return impl_->eos >= 0 ? std::optional(impl_->eos) : std::nullopt; }
bool Tokenizer::is_special(int32_t id) const { return impl_->is_special(id); }
bool Tokenizer::is_added(int32_t id) const { return impl_->added.find(id) != nullptr; }
int32_t Tokenizer::vocab_size() const { return impl_->vocab_size; }

}  // namespace moegen
