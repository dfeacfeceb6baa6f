#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/token_table.h"

namespace moegen::text {

/// The merges as the file lists them, best first.
struct MergeList {
  std::string bytes;           // left and right parts, one behind the other
  std::vector<uint32_t> ends;  // where each part ends; two a merge
  void add(std::string_view left, std::string_view right);
  [[nodiscard]] size_t size() const { return ends.size() / 2; }
  [[nodiscard]] std::string_view part(size_t i) const;
};

/// Byte-pair encoding of words. Immutable but for a memo that any thread may fill: const members are thread-safe.
class Bpe {
 public:
  /// `options` is "model" of tokenizer.json without vocab and merges. Throws Error(corrupt | unsupported).
  static Bpe build(TokenTable vocab, const MergeList& merges, const nlohmann::json& options);

  /// Appends the ids of one word of valid UTF-8. Linear in its length, but for a logarithm where merges can run on and on.
  void encode(std::string_view word, std::vector<int32_t>& ids) const;
  [[nodiscard]] const TokenTable& vocab() const { return vocab_; }

 private:
  struct Merge {
    uint64_t pair = kNoPair;
    int32_t rank = 0;
    int32_t id = 0;
  };
  struct Symbol {
    int32_t id;
    bool joins_next;  // some merge reaches over the boundary behind it
  };
  struct Work;
  static constexpr uint64_t kNoPair = ~uint64_t{0};

  void read_options(const nlohmann::json& options);
  void index_merges(const MergeList& merges);
  void index_chars();
  [[nodiscard]] const Merge* find_merge(int32_t left, int32_t right) const;
  [[nodiscard]] int32_t char_id(std::string_view word, size_t begin, size_t end) const;
  void initial_symbols(std::string_view word, std::vector<Symbol>& symbols) const;
  void merge_all(std::string_view word, std::vector<int32_t>& ids) const;
  void merge_run(const Symbol* symbols, size_t count, std::vector<int32_t>& ids) const;
  void merge_short(const Symbol* symbols, size_t count, std::vector<int32_t>& ids) const;
  void merge_long(const Symbol* symbols, size_t count, std::vector<int32_t>& ids) const;
  [[nodiscard]] bool may_join(char32_t a, char32_t b) const;
  void set_may_join(char32_t a, char32_t b);

  TokenTable vocab_;
  std::vector<Merge> merges_;       // open addressing by pair
  std::vector<int32_t> low_chars_;  // id of a character below kLowChars, or kNone
  std::vector<uint64_t> joins_;     // Bloom filter of one function: pairs of characters side by side inside some merge
  bool cut_at_joins_ = true;
  int32_t byte_ids_[256];
  std::string unk_;
  std::string prefix_;
  std::string suffix_;
  int32_t unk_id_ = TokenTable::kNone;
  bool fuse_unk_ = false;
  bool byte_fallback_ = false;
  bool ignore_merges_ = false;
  enum Whole : uint8_t { not_known, is_one, is_many };
  std::unique_ptr<std::atomic<uint8_t>[]> whole_;  // by id: do merges turn the token's own text into the token?
};

}  // namespace moegen::text
