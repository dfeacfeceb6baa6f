#include "tokenizer/decoder.h"

#include <array>
#include <optional>
#include <utility>

#include "base/error.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/json_fields.h"
#include "tokenizer/replacer.h"
#include "tokenizer/unicode.h"

namespace moegen::text {
namespace {

constexpr int kMaxNesting = 8;
constexpr size_t kMaxSteps = 32;
constexpr int64_t kMaxStrip = 1 << 20;

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// The byte that a token <0xHH> stands for; -1 for any other token.
int byte_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  const int high = hex_digit(token[3]);
  const int low = hex_digit(token[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

}  // namespace

struct Decoder::Step {
  enum Kind { byte_level, byte_fallback, fuse, replace, strip, metaspace, join } kind;
  std::optional<Replacer> replacer = {};
  std::string content = {};  // the character that strip and metaspace look for
  size_t start = 0;
  size_t stop = 0;
  bool drop_first = false;  // metaspace: its marks in the first token vanish
};

/// One step at work: tokens go in one by one, what comes out goes to the next stage. Behind a step that fuses, all that
/// comes in is one token in parts, which are whole characters.
class DecodeRun::Stage {
 public:
  explicit Stage(Stage* next) : next_(next) {}
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;
  virtual ~Stage() = default;
  virtual void push(std::string_view token) = 0;
  virtual void flush() {}
  void finish() {
    flush();
    if (next_ != nullptr) next_->finish();
  }
  void set_sink(std::string* out) {  // of the last stage
    sink_ = out;
  }

 protected:
  void emit(std::string_view token) {
    if (next_ != nullptr) {
      next_->push(token);
    } else {
      sink_->append(token);
    }
  }

 private:
  Stage* next_;
  std::string* sink_ = nullptr;
};

namespace {

using Step = Decoder::Step;
using Stage = DecodeRun::Stage;

class PassStage : public Stage {
 public:
  using Stage::Stage;
  void push(std::string_view token) override { emit(token); }
};

class ByteLevelStage : public Stage {
 public:
  using Stage::Stage;
  void push(std::string_view token) override {
    bytes_.clear();
    ByteAlphabet::get().append_bytes(token, bytes_);
    text_.clear();
    utf8_.push(bytes_, text_);
    if (!text_.empty()) emit(text_);
  }
  void flush() override {
    text_.clear();
    utf8_.finish(text_);
    if (!text_.empty()) emit(text_);
  }

 private:
  Utf8Stream utf8_;
  std::string bytes_;
  std::string text_;
};

// A run of byte tokens is one unit: valid UTF-8 as a whole, or one U+FFFD for each byte.
class ByteFallbackStage : public Stage {
 public:
  using Stage::Stage;
  void push(std::string_view token) override {
    if (const int byte = byte_token(token); byte >= 0) {
      held_.push_back(static_cast<char>(static_cast<unsigned char>(byte)));
      return;
    }
    flush();
    emit(token);
  }
  void flush() override {
    const std::string held = std::exchange(held_, {});
    if (held.empty()) return;
    if (first_invalid(held) == held.size()) {
      emit(held);
    } else {
      for (size_t i = 0; i < held.size(); ++i) emit("\xEF\xBF\xBD");
    }
  }

 private:
  std::string held_;
};

class ReplaceStage : public Stage {
 public:
  ReplaceStage(Stage* next, const Replacer& replacer) : Stage(next), replacer_(replacer) {}
  void push(std::string_view token) override { emit(replacer_.apply(token, scratch_)); }

 private:
  const Replacer& replacer_;
  Regex::Scratch scratch_;
};

class MetaspaceStage : public Stage {
 public:
  MetaspaceStage(Stage* next, const Step& step) : Stage(next), step_(step) {}
  void push(std::string_view token) override {
    std::string out;
    for (size_t i = 0; i < token.size();) {
      const size_t n = char_bytes(token[i]);
      const std::string_view c = token.substr(i, n);
      if (c != step_.content) {
        out += c;
      } else if (!first_ || !step_.drop_first) {
        out += ' ';
      }
      i += n;
    }
    first_ = false;
    emit(out);
  }

 private:
  const Step& step_;
  bool first_ = true;
};

class StripStage : public Stage {
 public:
  StripStage(Stage* next, const Step& step) : Stage(next), step_(step) {}
  void push(std::string_view token) override {
    const std::string& c = step_.content;
    for (size_t i = 0; i < step_.start && token.starts_with(c); ++i) token.remove_prefix(c.size());
    for (size_t i = 0; i < step_.stop && token.ends_with(c); ++i) token.remove_suffix(c.size());
    emit(token);
  }

 private:
  const Step& step_;
};

// The same where the token comes in parts: the start is cut once, and as many characters as the end may lose are held.
class FusedStripStage : public Stage {
 public:
  FusedStripStage(Stage* next, const Step& step) : Stage(next), step_(step), left_(step.start) {}
  void push(std::string_view part) override {
    const std::string& c = step_.content;
    for (; left_ > 0 && part.starts_with(c); --left_) part.remove_prefix(c.size());
    if (part.empty()) return;
    left_ = 0;
    std::string all = std::exchange(held_, {}) + std::string(part);
    size_t keep = all.size();
    for (size_t i = 0; i < step_.stop && std::string_view(all).substr(0, keep).ends_with(c); ++i) keep -= c.size();
    held_ = all.substr(keep);
    if (keep > 0) emit(std::string_view(all).substr(0, keep));
  }
  void flush() override { held_.clear(); }

 private:
  const Step& step_;
  size_t left_;
  std::string held_;
};

// Other steps on a token that comes in parts: at the end, on the whole.
class WholeStage : public Stage {
 public:
  WholeStage(Stage* next, std::unique_ptr<Stage> inner) : Stage(next), inner_(std::move(inner)) {}
  void push(std::string_view part) override { held_ += part; }
  void flush() override {
    inner_->push(held_);
    inner_->flush();
  }

 private:
  std::unique_ptr<Stage> inner_;
  std::string held_;
};

class JoinStage : public Stage {
 public:
  using Stage::Stage;
  void push(std::string_view token) override {
    if (!first_) emit(" ");
    first_ = false;
    emit(token);
  }

 private:
  bool first_ = true;
};

std::unique_ptr<Stage> make_stage(const Step& step, bool fused, Stage* next) {
  std::unique_ptr<Stage> stage;
  switch (step.kind) {
    case Step::byte_level:
      stage = std::make_unique<ByteLevelStage>(next);
      break;
    case Step::byte_fallback:
      stage = std::make_unique<ByteFallbackStage>(next);
      break;
    case Step::replace: {
      const Pattern& pattern = step.replacer->pattern();
      stage = std::make_unique<ReplaceStage>(next, *step.replacer);
      if (!pattern.is_regex() && count_chars(pattern.literal()) == 1) return stage;  // parts are whole characters
      break;
    }
    case Step::strip:
      if (fused) return std::make_unique<FusedStripStage>(next, step);
      return std::make_unique<StripStage>(next, step);
    case Step::metaspace:
      stage = std::make_unique<MetaspaceStage>(next, step);
      break;
    case Step::join:
      return std::make_unique<JoinStage>(next);
    case Step::fuse:
      return std::make_unique<PassStage>(next);
  }
  return fused ? std::make_unique<WholeStage>(next, std::move(stage)) : std::move(stage);
}

void parse_into(std::vector<std::unique_ptr<const Step>>& steps, const nlohmann::json& spec, int depth) {
  const Fields f(spec, "decoder");
  if (depth > kMaxNesting || steps.size() > kMaxSteps) f.refuse("so many or so deeply nested decoders");
  const std::string type = f.type();
  Step step{Step::fuse};
  if (type == "Sequence") {
    for (const auto& inner : f.array("decoders")) parse_into(steps, inner, depth + 1);
    return;
  }
  if (type == "ByteLevel") {
    step.kind = Step::byte_level;
  } else if (type == "ByteFallback") {
    step.kind = Step::byte_fallback;
  } else if (type == "Replace") {
    step.kind = Step::replace;
    step.replacer = Replacer::parse(f);
  } else if (type == "Strip") {
    step.kind = Step::strip;
    step.content = f.text("content", " ");
    step.start = static_cast<size_t>(f.number("start", kMaxStrip));
    step.stop = static_cast<size_t>(f.number("stop", kMaxStrip));
  } else if (type == "Metaspace") {
    step.kind = Step::metaspace;
    step.content = f.text("replacement", "\xE2\x96\x81");
    step.drop_first = f.text("prepend_scheme", f.flag("add_prefix_space", true) ? "always" : "never") != "never";
  } else if (type != "Fuse") {
    f.refuse(std::string("the type ") + type);
  }
  if ((step.kind == Step::strip || step.kind == Step::metaspace) && count_chars(step.content) != 1)
    f.corrupt("what it looks for is not one character");
  steps.push_back(std::make_unique<const Step>(std::move(step)));
}

}  // namespace

Decoder::Decoder() = default;
Decoder::~Decoder() = default;
Decoder::Decoder(Decoder&&) noexcept = default;
Decoder& Decoder::operator=(Decoder&&) noexcept = default;

Decoder Decoder::parse(const nlohmann::json& spec) {
  Decoder d;
  if (spec.is_null()) {
    d.steps_.push_back(std::make_unique<const Step>(Step{Step::join}));
  } else {
    parse_into(d.steps_, spec, 0);
  }
  return d;
}

std::string Decoder::bytes_of(std::string_view token) const {
  std::string text(token);
  Regex::Scratch scratch;
  for (const auto& step : steps_) {
    std::string next;
    const int byte = byte_token(text);
    if (step->kind == Step::byte_level) {
      ByteAlphabet::get().append_bytes(text, next);
      return next;
    }
    if (step->kind == Step::byte_fallback && byte >= 0) return std::string(1, static_cast<char>(static_cast<unsigned char>(byte)));
    if (step->kind == Step::replace) text = step->replacer->apply(text, scratch);
    if (step->kind == Step::metaspace) {
      for (size_t i = 0; i < text.size(); i += char_bytes(text[i])) {
        const std::string_view c = std::string_view(text).substr(i, char_bytes(text[i]));
        next += c == step->content ? " " : c;
      }
      text = std::move(next);
    }
  }
  return text;
}

DecodeRun::DecodeRun(const Decoder& decoder) {
  bool fused = false;
  std::vector<bool> is_fused;
  for (const auto& step : decoder.steps_) {
    is_fused.push_back(fused);
    fused = fused || step->kind == Step::fuse || step->kind == Step::byte_level;
  }
  stages_.resize(decoder.steps_.size() + 1);
  stages_.back() = std::make_unique<PassStage>(nullptr);
  for (size_t i = decoder.steps_.size(); i-- > 0;) stages_[i] = make_stage(*decoder.steps_[i], is_fused[i], stages_[i + 1].get());
}

DecodeRun::DecodeRun(DecodeRun&&) noexcept = default;
DecodeRun& DecodeRun::operator=(DecodeRun&&) noexcept = default;
DecodeRun::~DecodeRun() = default;

void DecodeRun::push(std::string_view token, std::string& out) {
  stages_.back()->set_sink(&out);
  stages_.front()->push(token);
}

void DecodeRun::finish(std::string& out) {
  stages_.back()->set_sink(&out);
  stages_.front()->finish();
}

}  // namespace moegen::text
