#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "engine/sequence_store.h"
#include "model/kv_layout.h"
#include "pipeline/pass_runner.h"
#include "storage/temp_file.h"

namespace moegen {

/// A SequenceStore in a file without a name: a stack of sequences, each of which is its pages, in the order of its table, and its state. What is kept
/// is on the disk, not in the page cache. Unless a size is asked for, only what takes less time than to be computed again.
class SwapFile : public SequenceStore {
 public:
  /// Bytes that such a file may have in `folder`: those that are asked for, and never more than then stay free on its disk. Where that is no disk but
  /// memory (tmpfs), none unless they are asked for.
  static uint64_t most_bytes(const std::filesystem::path& folder, std::optional<uint64_t> asked);

  /// `runner` and `kv`, which are of one plan, must outlive it.
  SwapFile(PassRunner& runner, const KvLayout& kv, std::filesystem::path folder, std::optional<uint64_t> asked);

  bool keep(const Sequence& sequence) override;
  bool bring_back(const Sequence& sequence) override;
  void drop() override;

  /// That it has now.
  [[nodiscard]] uint64_t bytes() const { return end_; }
  /// That this took, since the begin.
  [[nodiscard]] double seconds() const { return seconds_; }
  /// What a token takes to be computed, on the average of late.
  void set_token_seconds(double seconds) { token_seconds_ = seconds; }

 private:
  template <typename F>
  void for_each_part(const Sequence& sequence, uint64_t begin, const F& f);
  template <typename F>
  bool works(const F& f);
  [[nodiscard]] bool pays(const Sequence& sequence, uint64_t bytes) const;
  void cut(uint64_t end);
  void tell(const std::string& why);

  PassRunner& runner_;
  const KvLayout& kv_;
  std::filesystem::path folder_;
  std::optional<uint64_t> asked_;
  TempFile file_;
  uint64_t end_ = 0;
  std::vector<uint64_t> begins_;  // of those that are kept
  double seconds_ = 0, moved_ = 0, token_seconds_ = 0;
  bool told_ = false;
};

}  // namespace moegen
