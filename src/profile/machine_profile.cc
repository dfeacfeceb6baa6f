#include "profile/machine_profile.h"

#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/cpu.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "kernels/functions.h"
#include "plan/machine_file.h"
#include "profile/shapes.h"

namespace moegen {
namespace {

namespace fs = std::filesystem;

constexpr int kFormat = 4;  // raised when the file or what is measured changes, and when kernels get much faster
constexpr uint64_t kMostFileBytes = 4 << 20;

std::string kernel_release() {
  utsname name{};
  return ::uname(&name) == 0 ? name.release : "";
}

// "254:0 ef53": the device, and what kind of file system it has.
std::string file_system(const fs::path& directory) {
  struct stat st {};
  struct statfs info {};
  if (::stat(directory.c_str(), &st) != 0 || ::statfs(directory.c_str(), &info) != 0) {
    throw_error(ErrorCode::not_found, "{}: {}", directory.string(), std::strerror(errno));
  }
  return fmt::format("{}:{} {:x}", major(st.st_dev), minor(st.st_dev), info.f_type);
}

// FNV-1a: a name for a file, no more; the key itself stands in it.
uint64_t hash(const std::string& text) {
  uint64_t h = 0xcbf29ce484222325U;
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  return h;
}

// The profile that `file` keeps under this key. What else is there is not one: `warning` says so, if it is worth it.
std::optional<Machine> load(const fs::path& file, const std::string& key, std::string& warning) {
  try {
    const nlohmann::json json = parse_json(read_text_file(file, kMostFileBytes), file.string(), {.max_depth = 16});
    if (json.is_object() && json.contains("key") && json.contains("machine")) {
      if (json["key"].dump() != key) return std::nullopt;
      Machine machine = parse_machine(json["machine"], file.string());
      if (machine.measured && machine.steps) return machine;
    }
    warning = fmt::format("{}: not a profile; measuring anew", file.string());
  } catch (const Error& e) {
    if (e.code() != ErrorCode::not_found) warning = fmt::format("{}; measuring anew", e.what());
  }
  return std::nullopt;
}

std::optional<MachineProfile> kept_under(const std::string& key, const fs::path& cache, std::string& warning) {
  if (cache.empty()) return std::nullopt;
  const fs::path file = profile_file(cache, key);
  auto kept = load(file, key, warning);
  if (!kept) return std::nullopt;
  std::string source = fmt::format("from {}, measured at {}", file.string(), kept->measured->at);
  return MachineProfile{*std::move(kept), std::move(source), {}};
}

// All of it or nothing: another process may read it at any time. Returns why that failed, or nothing.
std::string store(const fs::path& file, const std::string& key, const Machine& machine) {
  const fs::path unfinished = fmt::format("{}.{}", file.string(), ::getpid());
  std::error_code error;
  fs::create_directories(file.parent_path(), error);
  std::ofstream out(unfinished, std::ios::binary);
  out << pretty({{"key", nlohmann::ordered_json::parse(key)}, {"machine", to_json(machine)}});
  out.close();
  if (!error && !out) error = std::make_error_code(errno != 0 ? static_cast<std::errc>(errno) : std::errc::io_error);
  if (!error) fs::rename(unfinished, file, error);
  if (!error) return "";
  std::error_code ignored;
  fs::remove(unfinished, ignored);
  return fmt::format("{}: cannot keep the profile there: {}", file.string(), error.message());
}

}  // namespace

fs::path ProfileInput::default_cache_folder() {
  const auto folder = [](const char* variable) {  // the standard wants relative ones to be ignored
    const char* value = std::getenv(variable);
    const fs::path path = value != nullptr ? value : "";
    return path.is_absolute() ? path : fs::path();
  };
  if (const fs::path cache = folder("XDG_CACHE_HOME"); !cache.empty()) return cache / "moegen";
  const fs::path home = folder("HOME");
  return home.empty() ? home : home / ".cache" / "moegen";
}

std::string profile_key(const ProfileInput& in) {
  const ModelSpec spec = in.spec != nullptr ? *in.spec : default_model();
  const nlohmann::json key = {{"format", kFormat},
                              {"cpu", cpu_name()},
                              {"gpu", in.device != nullptr ? nlohmann::json(in.device->name()) : nlohmann::json(nullptr)},
                              {"path", std::string(select_kernels(in.cpu_path).name)},
                              {"threads", in.threads > 0 ? in.threads : usable_cores()},
                              {"linux", kernel_release()},
                              {"file_system", file_system(in.directory)},
                              {"act", name_of(in.act)},
                              {"weights", name_of(spec.dtype)},
                              {"kv", name_of(in.kv_dtype)},
                              {"shapes", shapes_of(spec).text()},
                              {"memory", in.memory},
                              {"file_bytes", in.file_bytes}};
  return key.dump();
}

fs::path profile_file(const fs::path& folder, const std::string& key) { return folder / fmt::format("machine-{:016x}.json", hash(key)); }

std::optional<MachineProfile> kept_profile(const ProfileInput& input) {
  std::string ignored;
  return kept_under(profile_key(input), input.cache, ignored);
}

MachineProfile machine_profile(const ProfileInput& input, const std::function<Machine(const ProfileInput&)>& measure) {
  const std::string key = profile_key(input);
  std::string warning;
  if (!input.refresh) {
    if (auto kept = kept_under(key, input.cache, warning)) return *kept;
  }
  MachineProfile profile;
  if (!warning.empty()) profile.warnings.push_back(warning);
  profile.machine = measure(input);
  profile.source = fmt::format("measured now, in {:.0f} s", profile.machine.measured ? profile.machine.measured->seconds : 0);
  const std::string problem = input.cache.empty() ? "neither XDG_CACHE_HOME nor HOME says where to keep the profile"
                                                  : store(profile_file(input.cache, key), key, profile.machine);
  if (!problem.empty()) profile.warnings.push_back(problem);
  return profile;
}

}  // namespace moegen
