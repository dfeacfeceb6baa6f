#include "tokenizer/pre_tokenizer.h"

#include <algorithm>
#include <variant>

#include "base/error.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/replacer.h"
#include "tokenizer/splitter.h"
#include "tokenizer/unicode.h"

namespace moegen::text {
namespace {

constexpr int kMaxNesting = 8;
constexpr size_t kMaxSteps = 64;
constexpr size_t kMaxText = 0xFFFFFFFF;  // spans are 32 bits wide

struct Split {
  Pattern pattern;
  SplitBehavior behavior;
  bool invert;
};
struct CharSplit {  // cuts at single characters
  bool (*is_match)(char32_t);
  SplitBehavior behavior;
};
struct ByteLevel {
  bool add_prefix_space;
  std::optional<Regex> regex;
};
enum class Prepend { first, never, always };
struct Metaspace {
  std::string mark;
  Prepend prepend;
  bool split;
};

void drop_empty(std::vector<Pieces::Span>& spans) {
  std::erase_if(spans, [](const Pieces::Span& s) { return s.begin == s.end; });
}

void replace_spans(Pieces& pieces, std::vector<Pieces::Span>& spans) {
  drop_empty(spans);
  if (!spans.empty() && pieces.start_chars > 0) {
    const size_t begin = pieces.spans[0].begin;
    pieces.start_chars -= std::min(pieces.start_chars, count_chars(std::string_view(pieces.text).substr(begin, spans[0].begin - begin)));
  }
  pieces.spans.swap(spans);
}

void split_word(const Pattern& pattern, std::string_view word, size_t base, SpanWriter& writer, Regex::Scratch& scratch) {
  writer.start_word();
  size_t done = 0;
  pattern.for_each(word, scratch, [&](Match m) {
    if (done < m.begin) writer.part(base + done, base + m.begin, false);
    writer.part(base + m.begin, base + m.end, true);
    done = m.end;
  });
  if (done < word.size()) writer.part(base + done, base + word.size(), false);
}

void apply(const Split& step, Pieces& pieces, Regex::Scratch& scratch) {
  std::vector<Pieces::Span> out;
  out.reserve(pieces.spans.size() + pieces.text.size() / 8);
  SpanWriter writer(out, step.behavior, step.invert);
  for (size_t i = 0; i < pieces.spans.size(); ++i) split_word(step.pattern, pieces.word(i), pieces.spans[i].begin, writer, scratch);
  replace_spans(pieces, out);
}

void apply(const CharSplit& step, Pieces& pieces, Regex::Scratch&) {
  std::vector<Pieces::Span> out;
  SpanWriter writer(out, step.behavior, false);
  for (size_t i = 0; i < pieces.spans.size(); ++i) {
    const std::string_view word = pieces.word(i);
    const size_t base = pieces.spans[i].begin;
    writer.start_word();
    size_t done = 0;
    for (size_t pos = 0; pos < word.size();) {
      const size_t at = pos;
      if (!step.is_match(next_char(word, pos))) continue;
      if (done < at) writer.part(base + done, base + at, false);
      writer.part(base + at, base + pos, true);
      done = pos;
    }
    if (done < word.size()) writer.part(base + done, base + word.size(), false);
  }
  replace_spans(pieces, out);
}

// Rewrites every word into `out.text`; rewrite(i, word, text) appends.
template <typename Rewrite>
void rewrite_words(Pieces& pieces, Rewrite&& rewrite) {
  std::string text;
  text.reserve(pieces.text.size() + pieces.text.size() / 4);
  for (size_t i = 0; i < pieces.spans.size(); ++i) {
    const size_t begin = text.size();
    rewrite(i, pieces.word(i), text);
    if (text.size() > kMaxText) throw_error(ErrorCode::invalid_argument, "the text is too long for the tokenizer");
    pieces.spans[i] = {static_cast<uint32_t>(begin), static_cast<uint32_t>(text.size())};
  }
  pieces.text = std::move(text);
}

void apply(const ByteLevel& step, Pieces& pieces, Regex::Scratch& scratch) {
  const ByteAlphabet& alphabet = ByteAlphabet::get();
  if (!step.add_prefix_space && !step.regex) {
    rewrite_words(pieces, [&](size_t, std::string_view word, std::string& text) { alphabet.append_text(word, text); });
    return;
  }
  if (step.add_prefix_space) {
    rewrite_words(pieces, [](size_t, std::string_view word, std::string& text) {
      if (word[0] != ' ') text += ' ';
      text += word;
    });
  }
  if (step.regex) {
    std::vector<Pieces::Span> out;
    SpanWriter writer(out, SplitBehavior::isolated, false);
    for (size_t i = 0; i < pieces.spans.size(); ++i) {
      size_t done = 0;
      const std::string_view word = pieces.word(i);
      const size_t base = pieces.spans[i].begin;
      writer.start_word();
      for_each_match(*step.regex, word, scratch, [&](Match m) {
        if (done < m.begin) writer.part(base + done, base + m.begin, false);
        writer.part(base + m.begin, base + m.end, true);
        done = m.end;
      });
      if (done < word.size()) writer.part(base + done, base + word.size(), false);
    }
    replace_spans(pieces, out);
  }
  rewrite_words(pieces, [&](size_t, std::string_view word, std::string& text) { alphabet.append_text(word, text); });
}

// How many words stand for the first character of the whole input.
size_t words_at_start(const Pieces& pieces) {
  size_t words = 0;
  for (; words < pieces.spans.size() && words < pieces.start_chars; ++words) {
    const size_t begin = pieces.spans[0].begin;
    if (count_chars(std::string_view(pieces.text).substr(begin, pieces.spans[words].begin - begin)) >= pieces.start_chars) break;
  }
  return words;
}

void apply(const Metaspace& step, Pieces& pieces, Regex::Scratch&) {
  const size_t marked = step.prepend == Prepend::always ? pieces.spans.size() : step.prepend == Prepend::first ? words_at_start(pieces) : 0;
  rewrite_words(pieces, [&](size_t i, std::string_view word, std::string& text) {
    const bool wanted = i < marked;
    if (wanted && word[0] != ' ' && !word.starts_with(step.mark)) text += step.mark;
    for (const char c : word) {
      if (c == ' ') {
        text += step.mark;
      } else {
        text += c;
      }
    }
  });
  if (!step.split) return;
  std::vector<Pieces::Span> out;
  for (size_t i = 0; i < pieces.spans.size(); ++i) {
    const Pieces::Span span = pieces.spans[i];
    size_t begin = span.begin;
    const std::string_view text = std::string_view(pieces.text).substr(0, span.end);
    for (size_t at = text.find(step.mark, begin + 1); at < span.end; at = text.find(step.mark, at + step.mark.size())) {
      out.push_back({static_cast<uint32_t>(begin), static_cast<uint32_t>(at)});
      begin = at;
    }
    out.push_back({static_cast<uint32_t>(begin), span.end});
  }
  replace_spans(pieces, out);
}

}  // namespace

struct PreTokenizer::Step {
  std::variant<Split, CharSplit, ByteLevel, Metaspace> what;
};

namespace {

using Steps = std::vector<std::unique_ptr<const PreTokenizer::Step>>;

// The words of GPT-2.
constexpr const char* kByteLevelPattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

Metaspace parse_metaspace(const Fields& f) {
  Metaspace m{f.text("replacement", "\xE2\x96\x81"), Prepend::always, f.flag("split", true)};
  if (m.mark.empty() || m.mark.size() != char_bytes(m.mark[0])) f.corrupt("\"replacement\" is not one character");
  const std::string scheme = f.text("prepend_scheme", f.flag("add_prefix_space", true) ? "always" : "never");
  if (scheme == "first") {
    m.prepend = Prepend::first;
  } else if (scheme == "never") {
    m.prepend = Prepend::never;
  } else if (scheme != "always") {
    f.refuse(std::string("the prepend_scheme ") + scheme);
  }
  return m;
}

void parse_into(Steps& steps, const nlohmann::json& spec, int depth) {
  const Fields f(spec, "pre_tokenizer");
  if (depth > kMaxNesting || steps.size() > kMaxSteps) f.refuse("so many or so deeply nested pre-tokenizers");
  const std::string type = f.type();
  const auto add = [&](auto step) { steps.push_back(std::make_unique<PreTokenizer::Step>(PreTokenizer::Step{std::move(step)})); };
  if (type == "Sequence") {
    for (const auto& inner : f.array("pretokenizers")) parse_into(steps, inner, depth + 1);
  } else if (type == "Split") {
    add(Split{Pattern::parse(f, "pattern"), parse_behavior(f, "behavior"), f.flag("invert", false)});
  } else if (type == "ByteLevel") {
    ByteLevel step{f.flag("add_prefix_space", true), {}};
    if (f.flag("use_regex", true)) step.regex = Regex::compile(kByteLevelPattern);
    add(std::move(step));
  } else if (type == "Metaspace") {
    add(parse_metaspace(f));
  } else if (type == "Digits") {
    add(CharSplit{is_numeric, f.flag("individual_digits", false) ? SplitBehavior::isolated : SplitBehavior::contiguous});
  } else if (type == "Punctuation") {
    add(CharSplit{is_punctuation, parse_behavior(f, "behavior")});
  } else if (type == "WhitespaceSplit") {
    add(CharSplit{is_whitespace, SplitBehavior::removed});
  } else if (type == "Whitespace") {  // runs of word characters and runs of all else that is no space
    add(CharSplit{is_whitespace, SplitBehavior::removed});
    add(CharSplit{is_word, SplitBehavior::contiguous});
  } else {
    f.refuse(std::string("the type ") + type);
  }
}

}  // namespace

PreTokenizer::PreTokenizer() = default;
PreTokenizer::~PreTokenizer() = default;
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;
PreTokenizer& PreTokenizer::operator=(PreTokenizer&&) noexcept = default;

PreTokenizer PreTokenizer::parse(const nlohmann::json& spec) {
  PreTokenizer p;
  if (!spec.is_null()) parse_into(p.steps_, spec, 0);
  return p;
}

void PreTokenizer::apply(Pieces& pieces, Regex::Scratch& scratch) const {
  drop_empty(pieces.spans);
  for (const auto& step : steps_) {
    std::visit([&](const auto& s) { text::apply(s, pieces, scratch); }, step->what);
  }
}

}  // namespace moegen::text
