#include "bench/report.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "base/cpu.h"
#include "moegen/version.h"
#include "profile/roofs.h"

namespace moegen {
namespace {

constexpr size_t kTextWidth = 18;
constexpr size_t kNumberWidth = 11;
constexpr size_t kRateWidth = 22;  // "123.4 (121.0-125.2)"

std::string number(double x) { return fmt::format("{:.{}f}", x, x >= 1000 ? 0 : x >= 10 ? 1 : 2); }

std::string text_of(const Cell& cell, double unit) {
  if (cell.kind == Cell::Kind::text) return cell.text;
  if (cell.kind == Cell::Kind::count) return fmt::format("{}", cell.count);
  if (cell.kind == Cell::Kind::unmeasured) return "-";
  const Rate& rate = cell.rate;
  if (rate.low == rate.high) return number(rate.median / unit);
  return fmt::format("{} ({}-{})", number(rate.median / unit), number(rate.low / unit), number(rate.high / unit));
}

// Texts to the left, figures to the right.
std::string padded(const std::string& text, const Cell& like) {
  if (like.kind == Cell::Kind::text) return fmt::format("{:<{}}", text, kTextWidth);
  return fmt::format("{:>{}}", text, like.kind == Cell::Kind::count ? kNumberWidth : kRateWidth);
}

nlohmann::ordered_json json_of(const Cell& cell) {
  if (cell.kind == Cell::Kind::text) return cell.text;
  if (cell.kind == Cell::Kind::count) return cell.count;
  if (cell.kind == Cell::Kind::unmeasured) return nullptr;
  return to_json(cell.rate);
}

// Text stands at the left of its column, numbers at the right of theirs.
std::string after_numbers(const std::vector<Cell>& cells, size_t i) {
  return i > 0 && cells[i].kind == Cell::Kind::text && cells[i - 1].kind != Cell::Kind::text ? "  " : "";
}

}  // namespace

Cell::Cell(std::string value) : kind(Kind::text), text(std::move(value)) {}
Cell::Cell(const char* value) : kind(Kind::text), text(value) {}
Cell::Cell(int64_t value) : kind(Kind::count), count(value) {}
Cell::Cell(const Rate& value) : kind(Kind::rate), rate(value) {}
Cell::Cell(const std::vector<double>& samples)
    : kind(samples.empty() ? Kind::unmeasured : Kind::rate), rate(samples.empty() ? Rate{} : rate_of(samples)) {}

nlohmann::ordered_json to_json(const Rate& rate) { return {{"median", rate.median}, {"low", rate.low}, {"high", rate.high}}; }

nlohmann::ordered_json about_bench(const std::string& bench, std::string_view cpu_path, int threads) {
  const std::string version = version_text();
  return {{"bench", bench},
          {"machine", cpu_name()},
          {"moegen", version.substr(0, version.find('\n'))},
          {"cpu_path", std::string(cpu_path)},
          {"threads", threads}};
}

Report::Report(std::ostream& out, bool json, nlohmann::ordered_json about, std::vector<Column> columns)
    : out_(out), json_(json), object_(std::move(about)), columns_(std::move(columns)) {
  if (!json_) {
    for (const auto& [key, value] : object_.items()) out_ << key << ": " << (value.is_string() ? value.get<std::string>() : value.dump()) << "\n";
    out_ << std::flush;
  }
  object_["rows"] = nlohmann::ordered_json::array();
}

void Report::row(const std::vector<Cell>& cells) {
  MOEGEN_CHECK(cells.size() == columns_.size());
  if (json_) {
    nlohmann::ordered_json row;
    for (size_t i = 0; i < cells.size(); ++i) row[columns_[i].key] = json_of(cells[i]);
    object_["rows"].push_back(std::move(row));
    return;
  }
  std::string line;
  if (object_["rows"].empty()) {  // the first one
    for (size_t i = 0; i < cells.size(); ++i) line += padded(after_numbers(cells, i) + columns_[i].heading, cells[i]);
    line += "\n";
    object_["rows"].push_back(nullptr);
  }
  for (size_t i = 0; i < cells.size(); ++i) line += padded(after_numbers(cells, i) + text_of(cells[i], columns_[i].unit), cells[i]);
  out_ << line << "\n" << std::flush;
}

void Report::note(const std::string& text) {
  if (json_) {
    object_["notes"].push_back(text);
  } else {
    out_ << text << "\n";
  }
}

void Report::finish() {
  if (json_) out_ << object_.dump(2) << "\n";
}

std::vector<Column> measured_columns(std::vector<Column> before) {
  const Column last[] = {{"flops", "GFLOP/s", 1e9},           {"bandwidth", "GB/s", 1e9},
                         {"peak_flops", "peak GFLOP/s", 1e9}, {"peak_bandwidth", "DRAM GB/s", 1e9},
                         {"share", "% of the roof", 0.01},    {"roof", "roof", 1}};
  before.insert(before.end(), std::begin(last), std::end(last));
  return before;
}

std::vector<Cell> measured_cells(std::vector<Cell> before, const Measured& m) {
  const Cell last[] = {m.flops, m.bandwidth, m.peak_flops, m.peak_bandwidth, m.share, std::string(m.computes ? "compute" : "DRAM")};
  before.insert(before.end(), std::begin(last), std::end(last));
  return before;
}

}  // namespace moegen
