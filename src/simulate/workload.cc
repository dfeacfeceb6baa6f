#include "simulate/workload.h"

#include <algorithm>
#include <charconv>
#include <numeric>
#include <string_view>
#include <tuple>

#include "base/error.h"
#include "base/file.h"
#include "moegen/plan.h"

namespace moegen {
namespace {

constexpr uint64_t kMaxFileBytes = uint64_t{1} << 30;
constexpr int64_t kMaxTokens = int64_t{1} << 30;
constexpr int64_t kMostRequests = int64_t{1} << 26;

std::string_view next_field(std::string_view& line) {
  const size_t comma = std::min(line.find(','), line.size());
  std::string_view field = line.substr(0, comma);
  line.remove_prefix(std::min(line.size(), comma + 1));
  while (!field.empty() && (field.front() == ' ' || field.front() == '"')) field.remove_prefix(1);
  while (!field.empty() && (field.back() == ' ' || field.back() == '"' || field.back() == '\r')) field.remove_suffix(1);
  return field;
}

int32_t read_tokens(std::string_view field, const char* column, int64_t least, const std::filesystem::path& file, int64_t number) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), value);
  if (error != std::errc() || end != field.data() + field.size() || value < least || value > kMaxTokens) {
    throw_error(ErrorCode::invalid_argument, "{}: line {}: {}: expected a number from {} to {}, found '{}'", file.string(), number, column, least,
                kMaxTokens, field.substr(0, 80));
  }
  return static_cast<int32_t>(value);
}

}  // namespace

int64_t prompt_tokens(const Workload& workload) {
  int64_t sum = 0;
  for (const RequestLength& r : workload.requests) sum += r.prompt_tokens;
  return sum;
}

int64_t output_tokens(const Workload& workload) {
  int64_t sum = 0;
  for (const RequestLength& r : workload.requests) sum += r.output_tokens;
  return sum;
}

int64_t longest_sequence(const Workload& workload) {
  int64_t longest = 0;
  for (const RequestLength& r : workload.requests) longest = std::max(longest, int64_t{r.prompt_tokens} + r.output_tokens);
  return longest;
}

double mean_output(const Workload& workload) {
  return static_cast<double>(output_tokens(workload)) / static_cast<double>(std::max<size_t>(1, workload.requests.size()));
}

ByLength::ByLength(const Workload& workload) : workload_(workload), sorted_(workload.requests.size()) {
  std::iota(sorted_.begin(), sorted_.end(), 0);
  const auto length = [&](uint32_t i) { return std::tuple(workload_.requests[i].output_tokens, workload_.requests[i].prompt_tokens, i); };
  std::sort(sorted_.begin(), sorted_.end(), [&](uint32_t a, uint32_t b) { return length(a) < length(b); });
}

// Every so-many-th by length: the lengths of few are spread as those of all.
Workload ByLength::some(int64_t count) const {
  const auto all = std::ssize(sorted_);
  if (count >= all) return workload_;
  std::vector<uint32_t> taken;
  for (int64_t i = 0; i < count; ++i) taken.push_back(sorted_[static_cast<size_t>((2 * i + 1) * all / (2 * count))]);
  std::sort(taken.begin(), taken.end());
  Workload out{workload_.name, {}};
  for (const uint32_t i : taken) out.requests.push_back(workload_.requests[i]);
  return out;
}

Workload equal_requests(int64_t prompt, int64_t output, int64_t count) {
  if (count > kMostRequests)
    throw_error(ErrorCode::invalid_argument, "--num-requests {}: at most {}; a longer job takes as much longer", count, kMostRequests);
  for (const int64_t value : {prompt, output, count}) {
    if (value < 1 || value > kMaxTokens) {
      throw_error(ErrorCode::invalid_argument, "--prompt-len, --output-len, --num-requests must be from 1 to {}, not {}", kMaxTokens, value);
    }
  }
  const RequestLength one{static_cast<int32_t>(prompt), static_cast<int32_t>(output)};
  return {fmt::format("{} requests of {} + {} tokens", count, prompt, output), std::vector<RequestLength>(static_cast<size_t>(count), one)};
}

Workload read_lengths(const std::filesystem::path& file) {
  const std::string text = read_text_file(file, kMaxFileBytes);
  Workload out{file.filename().string(), {}};
  int prompt_column = -1;
  int output_column = -1;
  int64_t number = 0;
  std::string_view rest = text;
  if (constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf"; rest.starts_with(kByteOrderMark)) rest.remove_prefix(kByteOrderMark.size());
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(rest.size(), end + 1));
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    std::vector<std::string_view> fields;
    while (!line.empty()) fields.push_back(next_field(line));
    if (prompt_column < 0) {
      for (size_t i = 0; i < fields.size(); ++i) {
        if (fields[i] == "prompt_tokens") prompt_column = static_cast<int>(i);
        if (fields[i] == "output_tokens") output_column = static_cast<int>(i);
      }
      if (prompt_column < 0 || output_column < 0) {
        throw_error(ErrorCode::invalid_argument, "{}: line {}: expected a header with the columns prompt_tokens and output_tokens", file.string(),
                    number);
      }
      continue;
    }
    const auto field = [&](int column) {
      return static_cast<size_t>(column) < fields.size() ? fields[static_cast<size_t>(column)] : std::string_view();
    };
    out.requests.push_back(
        {read_tokens(field(prompt_column), "prompt_tokens", 1, file, number), read_tokens(field(output_column), "output_tokens", 0, file, number)});
  }
  if (out.requests.empty())
    throw_error(ErrorCode::invalid_argument, "{}: no lengths in it: expected lines under prompt_tokens,output_tokens", file.string());
  return out;
}

}  // namespace moegen
