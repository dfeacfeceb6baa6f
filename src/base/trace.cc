#include "base/trace.h"

#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace moegen {

Trace::Trace(const std::filesystem::path& path) : file_(std::fopen(path.c_str(), "we")) {
  if (file_ == nullptr) throw_error(ErrorCode::io, "{}: cannot write: {}", path.string(), std::strerror(errno));
  std::fputs(
      "[\n"
      R"({"ph":"M","name":"process_name","pid":1,"args":{"name":"moegen"}},)"
      "\n"
      R"({"ph":"M","name":"thread_name","pid":1,"tid":1,"args":{"name":"cores"}})",
      file_);
}

Trace::~Trace() {
  std::fputs("\n]\n", file_);
  std::fclose(file_);
}

void Trace::add_compute(std::string_view name, int64_t layer, int64_t expert, Clock::time_point begin, Clock::time_point end) {
  const std::lock_guard lock(mutex_);
  std::fprintf(file_, ",\n{\"ph\":\"X\",\"pid\":1,\"tid\":1,\"name\":\"%.*s\",\"ts\":%.1f,\"dur\":%.1f,\"args\":{\"layer\":%lld,\"expert\":%lld}}",
               static_cast<int>(name.size()), name.data(), microseconds(begin), microseconds(end) - microseconds(begin),
               static_cast<long long>(layer), static_cast<long long>(expert));
}

// Events of one category and different ids may overlap: a viewer gives them rows of their own.
void Trace::add_read(int64_t id, int64_t layer, int64_t expert, uint64_t bytes, Clock::time_point begin, Clock::time_point end) {
  const std::lock_guard lock(mutex_);
  std::fprintf(file_,
               ",\n{\"ph\":\"b\",\"cat\":\"storage\",\"id\":%lld,\"pid\":1,\"tid\":2,\"name\":\"read\",\"ts\":%.1f,"
               "\"args\":{\"layer\":%lld,\"expert\":%lld,\"bytes\":%llu}}",
               static_cast<long long>(id), microseconds(begin), static_cast<long long>(layer), static_cast<long long>(expert),
               static_cast<unsigned long long>(bytes));
  std::fprintf(file_, ",\n{\"ph\":\"e\",\"cat\":\"storage\",\"id\":%lld,\"pid\":1,\"tid\":2,\"name\":\"read\",\"ts\":%.1f}",
               static_cast<long long>(id), microseconds(end));
}

void Trace::add_task(int resource, std::string_view resource_name, std::string_view name, int64_t layer, uint64_t bytes, Clock::time_point begin,
                     Clock::time_point end) {
  constexpr int kFirstRow = 10;  // behind the cores and the storage of a run
  const std::lock_guard lock(mutex_);
  if ((named_ >> resource & 1) == 0) {
    named_ |= uint64_t{1} << resource;
    std::fprintf(file_, ",\n{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":1,\"tid\":%d,\"args\":{\"name\":\"%.*s\"}}", kFirstRow + resource,
                 static_cast<int>(resource_name.size()), resource_name.data());
  }
  std::fprintf(file_, ",\n{\"ph\":\"X\",\"pid\":1,\"tid\":%d,\"name\":\"%.*s\",\"ts\":%.1f,\"dur\":%.1f,\"args\":{\"layer\":%lld,\"bytes\":%llu}}",
               kFirstRow + resource, static_cast<int>(name.size()), name.data(), microseconds(begin), microseconds(end) - microseconds(begin),
               static_cast<long long>(layer), static_cast<unsigned long long>(bytes));
}

}  // namespace moegen
