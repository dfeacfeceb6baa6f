#include "checkpoint/safetensors.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

#include "base/checked.h"
#include "base/error.h"
#include "base/json.h"

namespace moegen {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // as the reference implementation
constexpr size_t kMaxTensors = 2'000'000;
constexpr size_t kMaxNameBytes = 4096;
constexpr size_t kMaxRank = 8;

class HeaderReader {
 public:
  HeaderReader(const FileReader& file, size_t file_idx) : file_(file), file_idx_(file_idx) {}

  std::vector<TensorInfo> read() {
    const std::string text = header_text();
    const nlohmann::json header = parse_json(text, file_.path().string() + " (header)", {.max_depth = 3, .unique_keys = true});
    if (!header.is_object()) bad("the header is no JSON object");
    if (header.size() > kMaxTensors) bad("more than {} tensors", kMaxTensors);
    std::vector<TensorInfo> tensors;
    tensors.reserve(header.size());
    for (const auto& [name, value] : header.items()) {
      if (name != "__metadata__") tensors.push_back(read_tensor(name, value));
    }
    check_ranges(tensors);
    return tensors;
  }

 private:
  template <typename... Args>
  [[noreturn]] void bad(fmt::format_string<Args...> text, Args&&... args) const {
    throw_error(ErrorCode::corrupt, "{}: {}", file_.path().string(), fmt::format(text, std::forward<Args>(args)...));
  }

  std::string header_text() {
    std::array<uint8_t, 8> raw{};
    if (file_.size() < raw.size()) bad("{} bytes: too short for a safetensors file", file_.size());
    file_.read(0, raw.data(), raw.size());
    uint64_t bytes = 0;
    for (size_t i = 8; i-- > 0;) bytes = bytes << 8 | raw[i];
    refuse_lfs_pointer({reinterpret_cast<const char*>(raw.data()), raw.size()}, file_.path().string());
    if (bytes > kMaxHeaderBytes) bad("a header of {} bytes, at most {} are allowed: is this a safetensors file?", bytes, kMaxHeaderBytes);
    if (bytes > file_.size() - raw.size()) bad("a header of {} bytes in a file of {}: cut off?", bytes, file_.size());
    data_begin_ = raw.size() + bytes;
    std::string text(bytes, '\0');
    file_.read(raw.size(), text.data(), text.size());
    return text;
  }

  TensorInfo read_tensor(const std::string& name, const nlohmann::json& value) {
    if (name.size() > kMaxNameBytes) bad("a tensor name of {} bytes", name.size());
    const auto control = [](unsigned char c) { return c < 0x20 || c == 0x7f; };  // would garble every message that has the name
    if (std::any_of(name.begin(), name.end(), control)) bad("the tensor name {:?} has control characters", name);
    if (!value.is_object() || !value.contains("dtype") || !value.contains("shape") || !value.contains("data_offsets")) {
      bad("tensor {}: expected an object with dtype, shape, data_offsets", name);
    }
    const auto dtype = value["dtype"].is_string() ? dtype_from_safetensors(value["dtype"].get_ref<const std::string&>()) : std::nullopt;
    if (!dtype) bad("tensor {}: unknown dtype {}", name, value["dtype"].dump().substr(0, 40));
    TensorInfo info{name, *dtype, {}, file_idx_, 0, 0};
    const nlohmann::json& shape = value["shape"];
    if (!shape.is_array() || shape.size() > kMaxRank) bad("tensor {}: shape must be a list of at most {} numbers", name, kMaxRank);
    for (const auto& dim : shape) {
      if (!dim.is_number_unsigned() || dim.get<uint64_t>() > uint64_t{1} << 62) bad("tensor {}: shape {} has a bad dimension", name, shape.dump());
      info.shape.push_back(dim.get<int64_t>());
    }
    const nlohmann::json& range = value["data_offsets"];
    if (!range.is_array() || range.size() != 2 || !range[0].is_number_unsigned() || !range[1].is_number_unsigned()) {
      bad("tensor {}: data_offsets must be two offsets", name);
    }
    const auto begin = range[0].get<uint64_t>();
    const auto end = range[1].get<uint64_t>();
    if (begin > end || end > file_.size() - data_begin_) {
      bad("tensor {}: bytes {}..{} are not inside the file, which has {} of data", name, begin, end, file_.size() - data_begin_);
    }
    info.offset = data_begin_ + begin;
    info.bytes = end - begin;
    check_size(info);
    return info;
  }

  void check_size(const TensorInfo& info) const {
    std::optional<uint64_t> bits = static_cast<uint64_t>(bits_of(info.dtype));
    for (const int64_t dim : info.shape) bits = bits ? checked_mul(*bits, static_cast<uint64_t>(dim)) : bits;
    if (!bits || *bits % 8 != 0 || *bits / 8 != info.bytes) {
      bad("tensor {}: {} bytes do not fit dtype {} and shape [{}]", info.name, info.bytes, name_of(info.dtype), fmt::join(info.shape, ","));
    }
  }

  // Sorted by offset the ranges follow one another from the first byte of data to the last of the file.
  void check_ranges(const std::vector<TensorInfo>& tensors) const {
    std::vector<const TensorInfo*> sorted;
    sorted.reserve(tensors.size());
    for (const TensorInfo& t : tensors) sorted.push_back(&t);
    std::sort(sorted.begin(), sorted.end(),
              [](const auto* a, const auto* b) { return std::pair(a->offset, a->bytes) < std::pair(b->offset, b->bytes); });
    uint64_t at = data_begin_;
    for (const TensorInfo* t : sorted) {
      if (t->offset != at) bad("tensor {} begins at byte {} of the file, {} was expected: tensors overlap or leave a gap", t->name, t->offset, at);
      at += t->bytes;
    }
    if (at != file_.size()) bad("the tensors end at byte {}, the file at {}", at, file_.size());
  }

  const FileReader& file_;
  size_t file_idx_;
  uint64_t data_begin_ = 0;
};

}  // namespace

std::vector<TensorInfo> read_safetensors_header(const FileReader& file, size_t file_idx) { return HeaderReader(file, file_idx).read(); }

}  // namespace moegen
