#pragma once

#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/sequence.h"
#include "tokenizer/tokenizer.h"

namespace moegen {

/// The text of one choice as its tokens come: decoding, stop strings across tokens, pieces for those who watch.
class OutputText : public StopRule {
 public:
  struct Options {
    std::vector<std::string> stop;
    int64_t min_tokens = 0;                       ///< stop strings count only behind so many tokens
    bool include_stop = false;                    ///< the text keeps the stop string, or the stop token's text
    std::function<void(std::string_view)> piece;  ///< gets text that no stop string can take back; may be empty
    const Tokenizer* hidden = nullptr;            ///< given: remembers the special tokens that the decoder leaves out
  };
  OutputText(StreamDecoder decoder, Options options);

  bool complete(TokenId token, bool ended_by_id) override;
  /// To be called once, at the end. A stop string may be complete only then.
  void finish();
  [[nodiscard]] const std::string& text() const { return text_; }
  /// The text with the special tokens in it that `text` lacks, and which ones these are.
  [[nodiscard]] std::string text_with_hidden() const;
  [[nodiscard]] std::set<std::string> hidden_tokens() const;
  /// The stop string that ended the text, or null.
  [[nodiscard]] const std::string* stopped_by() const { return stopped_by_; }

 private:
  bool find_stop(size_t before);
  void emit(size_t end);

  StreamDecoder decoder_;
  Options options_;
  size_t longest_stop_ = 0;
  int64_t num_tokens_ = 0;
  std::string text_;
  size_t emitted_ = 0;
  std::vector<std::pair<size_t, TokenId>> hidden_;  // the place in text_, and what stood there
  const std::string* stopped_by_ = nullptr;
};

}  // namespace moegen
