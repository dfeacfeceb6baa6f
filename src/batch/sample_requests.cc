#include "batch/sample_requests.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <optional>
#include <variant>

#include "batch/line_sample.h"
#include "batch/refusal.h"
#include "batch/request_line.h"
#include "moegen/prompt_counter.h"

namespace moegen {
namespace {

constexpr int64_t kTextTokens = 16;                 // max_tokens' default for texts
constexpr int64_t kChatTokens = 512;                // conversations end by themselves
constexpr size_t kMostRequests = size_t{64} << 20;  // 512 MiB of lengths

int32_t clamped(int64_t tokens) { return static_cast<int32_t>(std::clamp<int64_t>(tokens, 1, std::numeric_limits<int32_t>::max())); }

// Without the model's tokenizer: four ASCII characters are a token, as in English, and any other is one, also where JSON has it escaped.
int64_t estimate(std::string_view text) {
  int64_t ascii = 0;
  int64_t others = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte == '\\' && i + 5 < text.size() && text[i + 1] == 'u') {
      ++others;
      i += 5;
    } else if (byte < 0x80) {
      ++ascii;
    } else if (byte >= 0xC0) {
      ++others;
    }
  }
  return ascii / 4 + others + 1;
}

std::optional<int64_t> prompt_tokens(const Prompt& prompt, const PromptCounter* counter) {
  if (counter != nullptr) return counter->count(prompt);
  if (const auto* ids = std::get_if<std::vector<TokenId>>(&prompt)) return ids->size();
  if (const auto* text = std::get_if<std::string>(&prompt)) return estimate(*text);
  const Chat& chat = std::get<Chat>(prompt);
  return estimate(chat.messages) + (chat.tools.empty() ? 0 : estimate(chat.tools));
}

std::vector<RequestLength> lengths_of(const Request& request, const PromptCounter* counter) {
  std::vector<RequestLength> out;
  for (const Prompt& prompt : request.prompts) {
    const std::optional<int64_t> tokens = prompt_tokens(prompt, counter);
    if (!tokens) return {};  // the whole request is refused
    int64_t output = request.sampling.max_tokens.value_or(std::holds_alternative<Chat>(prompt) ? kChatTokens : kTextTokens);
    if (counter != nullptr) output = std::min(output, counter->context() - *tokens);
    const int32_t most = std::numeric_limits<int32_t>::max();
    out.insert(out.end(), static_cast<size_t>(request.sampling.n), {clamped(*tokens), static_cast<int32_t>(std::min<int64_t>(output, most))});
  }
  return out;
}

// Of the chosen lines, or those of them that are left to answer.
struct Sample {
  int64_t lines = 0;
  std::vector<RequestLength> requests;
  void add(const std::vector<RequestLength>& lengths) {
    ++lines;
    requests.insert(requests.end(), lengths.begin(), lengths.end());
  }
};

}  // namespace

Workload sample_requests(const BatchOptions& options, const std::string& model_name, const PromptCounter* counter, const FormerAnswers& former) {
  Workload out{std::filesystem::path(options.input).filename().string(), {}};
  struct stat status {};
  if (options.input == "-" || (::stat(options.input.c_str(), &status) == 0 && !S_ISREG(status.st_mode))) return out;
  out.complete = true;
  std::vector<std::string> models{model_name};
  models.insert(models.end(), options.served_model_names.begin(), options.served_model_names.end());
  const LineSample lines(options.input, options.limit.value_or(std::numeric_limits<int64_t>::max()));
  Sample all;
  Sample left;
  lines.each([&](const Line& line) {
    std::string custom_id;
    std::vector<RequestLength> lengths;
    try {
      if (line.too_long) {
        lengths = {{clamped((line.end - line.begin) / 4), static_cast<int32_t>(kTextTokens)}};
      } else {
        const RequestLine request(line);
        custom_id = request.custom_id().value_or("");
        lengths = lengths_of(request.parse(models).request, counter);
      }
    } catch (const Refusal&) {  // costs nothing
    }
    all.add(lengths);
    if (!former.has || !former.has(custom_id, line)) left.add(lengths);
  });
  const bool whole = all.lines == lines.num_lines();
  const int64_t lines_left = whole ? left.lines : std::max(left.lines, lines.num_lines() - former.count);
  const Sample& as = left.lines > 0 ? left : all;
  if (as.requests.empty() || lines_left == 0) return out;
  // What was not looked at is as what was.
  const double wanted = static_cast<double>(lines_left) * static_cast<double>(as.requests.size()) / static_cast<double>(as.lines);
  const auto count = static_cast<size_t>(std::min(wanted + 0.5, static_cast<double>(kMostRequests)));
  out.requests = as.requests;
  while (out.requests.size() < count) out.requests.push_back(out.requests[out.requests.size() - as.requests.size()]);
  return out;
}

Workload sample_requests(const BatchOptions& options, const std::string& model_name, const PromptCounter* counter) {
  return sample_requests(options, model_name, counter, {});
}

}  // namespace moegen
