#include "batch/journal.h"

#include <fmt/format.h>
#include <zlib.h>

#include <charconv>
#include <filesystem>
#include <fstream>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"

namespace moegen {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kVersion = 1;
constexpr std::string_view kRun = "run ";
constexpr std::string_view kAnswer = "answer ";
constexpr size_t kMaxLineBytes = size_t{1} << 20;
constexpr size_t kCrcDigits = 8;
constexpr size_t kKeyDigits = 32;
constexpr size_t kRequestDigits = 16;

std::string crc_text(std::string_view text) { return fmt::format("{:08x}", ::crc32_z(0, reinterpret_cast<const Bytef*>(text.data()), text.size())); }

std::optional<JournalRecord> read_run(std::string_view text) {
  try {
    const Json json = parse_ordered_json(text, "a journal", {.max_depth = 2, .unique_keys = true});
    if (json.at("journal") != kVersion) return std::nullopt;
    JournalRun run{.settings = {},
                   .version = json.at("moegen").get<std::string>(),
                   .input = json.at("input").get<std::string>(),
                   .now = json.value("now", ""),
                   .errors = json.value("errors", "")};
    for (const auto& [name, value] : json.at("settings").items()) run.settings.emplace_back(name, value.get<std::string>());
    return run;
  } catch (const Error&) {
    return std::nullopt;
  } catch (const Json::exception&) {
    return std::nullopt;
  }
}

std::optional<JournalRecord> read_answer_record(std::string_view text) {
  if (text.size() != kKeyDigits + 1 + kRequestDigits || text[kKeyDigits] != ' ') return std::nullopt;
  const std::optional<Key> key = parse_key(text.substr(0, kKeyDigits));
  JournalAnswer out;
  const char* end = text.data() + text.size();
  if (!key || std::from_chars(end - kRequestDigits, end, out.request, 16).ptr != end) return std::nullopt;
  out.key = *key;
  return out;
}

// A link's target has the journal beside it, whatever name the output goes by.
std::string journal_path(const std::string& output) {
  std::error_code ignored;
  const std::filesystem::path real = std::filesystem::canonical(output, ignored);
  return (ignored ? output : real.string()) + ".journal";
}

const std::string* find(const RunSettings& settings, const std::string& name) {
  for (const auto& [key, value] : settings) {
    if (key == name) return &value;
  }
  return nullptr;
}

}  // namespace

std::string seal(std::string_view text) { return fmt::format("{} {}\n", crc_text(text), text); }

std::string journal_line(const JournalRecord& record) {
  std::string text;
  if (const auto* answer = std::get_if<JournalAnswer>(&record)) {
    text = fmt::format("{}{} {:016x}", kAnswer, key_text(answer->key), answer->request);
  } else {
    const auto& run = std::get<JournalRun>(record);
    Json settings = Json::object();
    for (const auto& [name, value] : run.settings) settings[name] = value;
    Json json = {{"journal", kVersion}, {"moegen", run.version}, {"input", run.input}, {"now", run.now}};
    if (!run.errors.empty()) json["errors"] = run.errors;
    json["settings"] = std::move(settings);
    text = std::string(kRun) + json.dump(-1, ' ', false, Json::error_handler_t::replace);
  }
  return seal(text);
}

std::optional<JournalRecord> read_journal_line(std::string_view line) {
  if (line.size() <= kCrcDigits || line[kCrcDigits] != ' ') return std::nullopt;
  const std::string_view text = line.substr(kCrcDigits + 1);
  if (crc_text(text) != line.substr(0, kCrcDigits)) return std::nullopt;
  if (text.starts_with(kRun)) return read_run(text.substr(kRun.size()));
  if (text.starts_with(kAnswer)) return read_answer_record(text.substr(kAnswer.size()));
  return std::nullopt;
}

std::string settings_difference(const RunSettings& before, const RunSettings& now) {
  std::string out;
  for (const auto& [name, value] : before) {
    const std::string* other = find(now, name);
    if (other == nullptr || *other != value) out += fmt::format("\n  {}: was {}, is {}", name, value, other == nullptr ? "not there" : *other);
  }
  for (const auto& [name, value] : now) {
    if (find(before, name) == nullptr) out += fmt::format("\n  {}: was not there, is {}", name, value);
  }
  return out;
}

Journal::Journal(const std::string& output) : file_(journal_path(output)) {}

void Journal::refuse_strangers() const {
  const std::string& path = file_.name();
  std::error_code ignored;
  if (std::filesystem::is_symlink(path, ignored)) throw_error(ErrorCode::invalid_argument, "{}: is a link: a journal is a file of its own", path);
  std::ifstream in(path, std::ios::binary);
  std::string start(kCrcDigits + 1, '\0');
  in.read(start.data(), static_cast<std::streamsize>(start.size()));
  start.resize(static_cast<size_t>(in.gcount()));
  const bool torn = start.size() <= kCrcDigits || start[0] == '\0';  // by a crash
  if (!torn && (start.find_first_not_of("0123456789abcdef") != kCrcDigits || start[kCrcDigits] != ' '))
    throw_error(ErrorCode::invalid_argument, "{}: is no journal of moegen's, which would take its place: give it another name", path);
}

void Journal::read(Ledger& ledger) {
  int64_t damaged = 0;
  file_.read_lines(
      [&](std::string_view line) {
        const std::optional<JournalRecord> record = read_journal_line(line);
        if (!record) {
          ++damaged;
        } else if (const auto* answer = std::get_if<JournalAnswer>(&*record)) {
          ledger.set_request(answer->key, answer->request);
        } else {
          last_run_ = std::get<JournalRun>(*record);
        }
        return true;
      },
      "", kMaxLineBytes);
  if (damaged > 0) log_line("{}: {} damaged lines: what their answers answer is not checked", file_.name(), damaged);
}

std::filesystem::path Journal::last_errors() const {
  if (!last_run_ || last_run_->errors.empty()) return {};
  return std::filesystem::path(file_.name()).parent_path() / last_run_->errors;
}

std::string Journal::relative_to_journal(const std::string& errors) const {
  std::error_code ignored;
  return std::filesystem::relative(errors, std::filesystem::absolute(file_.name()).parent_path(), ignored).string();
}

void Journal::start(bool keep, const JournalRun& run) {
  file_.start(keep);
  file_.append(journal_line(run));
}

}  // namespace moegen
