#include "base/trace.h"

#include <cerrno>
#include <cstdarg>
#include <cstring>

#include "base/error.h"
#include "base/log.h"

namespace moegen {

Trace::Trace(const std::filesystem::path& path) : name_(path.string()), file_(std::fopen(path.c_str(), "we")) {
  if (file_ == nullptr) throw_error(ErrorCode::io, "{}: cannot write: {}", name_, std::strerror(errno));
  print(
      "[\n"
      R"({"ph":"M","name":"process_name","pid":1,"args":{"name":"moegen"}},)"
      "\n"
      R"({"ph":"M","name":"thread_name","pid":1,"tid":1,"args":{"name":"cores"}})");
}

Trace::~Trace() {
  print("\n]\n");
  if (std::fclose(file_) != 0 && error_ == 0) error_ = errno;
  if (error_ != 0) log_line("warning: {}: cannot write: {}: the trace is not whole, all else is", name_, std::strerror(error_));
}

// What comes behind a gap would be no trace: the first failure is the last write.
void Trace::print(const char* format, ...) {
  if (error_ != 0) return;
  va_list args;
  va_start(args, format);
  if (std::vfprintf(file_, format, args) < 0) error_ = errno;
  va_end(args);
}

void Trace::add_compute(std::string_view name, int64_t layer, int64_t expert, Clock::time_point begin, Clock::time_point end) {
  const std::lock_guard lock(mutex_);
  print(",\n{\"ph\":\"X\",\"pid\":1,\"tid\":1,\"name\":\"%.*s\",\"ts\":%.1f,\"dur\":%.1f,\"args\":{\"layer\":%lld,\"expert\":%lld}}",
        static_cast<int>(name.size()), name.data(), microseconds(begin), microseconds(end) - microseconds(begin), static_cast<long long>(layer),
        static_cast<long long>(expert));
}

// Events of one category and different ids may overlap: a viewer gives them rows of their own.
void Trace::add_read(int64_t id, int64_t layer, int64_t expert, uint64_t bytes, Clock::time_point begin, Clock::time_point end) {
  const std::lock_guard lock(mutex_);
  print(
      ",\n{\"ph\":\"b\",\"cat\":\"storage\",\"id\":%lld,\"pid\":1,\"tid\":2,\"name\":\"read\",\"ts\":%.1f,"
      "\"args\":{\"layer\":%lld,\"expert\":%lld,\"bytes\":%llu}}",
      static_cast<long long>(id), microseconds(begin), static_cast<long long>(layer), static_cast<long long>(expert),
      static_cast<unsigned long long>(bytes));
  print(",\n{\"ph\":\"e\",\"cat\":\"storage\",\"id\":%lld,\"pid\":1,\"tid\":2,\"name\":\"read\",\"ts\":%.1f}", static_cast<long long>(id),
        microseconds(end));
}

void Trace::add_task(int resource, std::string_view resource_name, std::string_view name, int64_t layer, uint64_t bytes, Clock::time_point begin,
                     Clock::time_point end) {
  constexpr int kFirstRow = 10;  // behind the cores and the storage of a run
  const std::lock_guard lock(mutex_);
  if ((named_ >> resource & 1) == 0) {
    named_ |= uint64_t{1} << resource;
    print(",\n{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":1,\"tid\":%d,\"args\":{\"name\":\"%.*s\"}}", kFirstRow + resource,
          static_cast<int>(resource_name.size()), resource_name.data());
  }
  print(",\n{\"ph\":\"X\",\"pid\":1,\"tid\":%d,\"name\":\"%.*s\",\"ts\":%.1f,\"dur\":%.1f,\"args\":{\"layer\":%lld,\"bytes\":%llu}}",
        kFirstRow + resource, static_cast<int>(name.size()), name.data(), microseconds(begin), microseconds(end) - microseconds(begin),
        static_cast<long long>(layer), static_cast<unsigned long long>(bytes));
}

}  // namespace moegen
