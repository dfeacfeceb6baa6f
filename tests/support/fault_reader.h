#pragma once

#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <utility>

#include "storage/async_reader.h"

namespace moegen {

/// A reader whose results a test may change: short reads, errors, delays, wrong bytes. What a shortened read did not bring is
/// overwritten, as if it had never come.
class FaultReader : public AsyncReader {
 public:
  /// Called with every read that ended, on the thread that waits.
  using Spoil = std::function<void(const ReadRequest& request, ReadResult& result)>;

  FaultReader(std::unique_ptr<AsyncReader> inner, Spoil spoil) : inner_(std::move(inner)), spoil_(std::move(spoil)) {}

  [[nodiscard]] std::string_view name() const override { return "faulty"; }
  void submit(const ReadRequest& request) override {
    requests_[request.tag] = request;
    inner_->submit(request);
  }
  size_t wait(std::span<ReadResult> results) override {
    const size_t count = inner_->wait(results);
    for (ReadResult& result : results.first(count)) {
      const ReadRequest& request = requests_.at(result.tag);
      const int64_t before = result.bytes;
      spoil_(request, result);
      if (result.bytes < before)
        std::memset(request.to + std::max<int64_t>(result.bytes, 0), 0xee, request.bytes - std::max<int64_t>(result.bytes, 0));
    }
    return count;
  }

 private:
  std::unique_ptr<AsyncReader> inner_;
  Spoil spoil_;
  std::map<uint32_t, ReadRequest> requests_;
};

}  // namespace moegen
