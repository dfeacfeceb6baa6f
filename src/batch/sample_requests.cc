#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <limits>

#include "base/error.h"
#include "batch/line_reader.h"
#include "batch/refusal.h"
#include "batch/request_line.h"
#include "moegen/batch.h"

namespace moegen {
namespace {

constexpr int64_t kSampleLines = 2000;
constexpr size_t kMaxLineBytes = 64 << 10;  // to parse: memory is not planned yet
constexpr size_t kBytesPerToken = 4;        // of English, with any large vocabulary
constexpr int64_t kTextTokens = 16;         // max_tokens' default for texts
constexpr int64_t kChatTokens = 512;        // conversations end by themselves

int32_t tokens_of(size_t bytes) { return static_cast<int32_t>(std::min<size_t>(bytes / kBytesPerToken + 1, std::numeric_limits<int32_t>::max())); }

int32_t prompt_tokens(const Prompt& prompt) {
  if (const auto* ids = std::get_if<std::vector<TokenId>>(&prompt)) return static_cast<int32_t>(ids->size());
  const auto* text = std::get_if<std::string>(&prompt);
  return tokens_of(text != nullptr ? text->size() : std::get<Chat>(prompt).messages.size() + std::get<Chat>(prompt).tools.size());
}

void add_lengths(const Request& request, std::vector<RequestLength>& out) {
  for (const Prompt& prompt : request.prompts) {
    const int64_t usual = std::holds_alternative<Chat>(prompt) ? kChatTokens : kTextTokens;
    const int64_t output = std::min<int64_t>(request.sampling.max_tokens.value_or(usual), std::numeric_limits<int32_t>::max());
    const RequestLength length{std::max(1, prompt_tokens(prompt)), static_cast<int32_t>(output)};
    out.insert(out.end(), static_cast<size_t>(request.sampling.n), length);
  }
}

}  // namespace

Workload sample_requests(const BatchOptions& options, const std::string& model_name) {
  Workload out{std::filesystem::path(options.input).filename().string(), {}};
  struct stat status {};
  if (options.input == "-" || (::stat(options.input.c_str(), &status) == 0 && !S_ISREG(status.st_mode))) return out;
  const int fd = ::open(options.input.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw_error(ErrorCode::io, "{}: cannot open: {}", options.input, std::strerror(errno));
  std::vector<std::string> models{model_name};
  models.insert(models.end(), options.served_model_names.begin(), options.served_model_names.end());
  const std::atomic<bool> never{false};
  LineReader reader(decompressed(descriptor_source(fd, options.input, never), options.input), kMaxLineBytes);
  const int64_t limit = options.limit.value_or(std::numeric_limits<int64_t>::max());
  int64_t lines = 0;
  Line line;
  while (lines < std::min(kSampleLines, limit) && reader.next(line)) {
    ++lines;
    if (line.too_long) {
      out.requests.push_back({tokens_of(static_cast<size_t>(line.end - line.begin)), static_cast<int32_t>(kTextTokens)});
      continue;
    }
    try {
      add_lengths(RequestLine(line).parse(models).request, out.requests);
    } catch (const Refusal&) {  // costs nothing
    }
  }
  // The rest of the file is as its begin, which is a guess where it is compressed.
  if (lines < kSampleLines || out.requests.empty()) return out;
  const int64_t all = std::min(limit, status.st_size / std::max<int64_t>(1, line.end / lines));
  const size_t sampled = out.requests.size();
  const auto wanted = static_cast<size_t>(std::max<int64_t>(all, lines)) * sampled / static_cast<size_t>(lines);
  while (out.requests.size() < wanted) out.requests.push_back(out.requests[out.requests.size() - sampled]);
  return out;
}

}  // namespace moegen
