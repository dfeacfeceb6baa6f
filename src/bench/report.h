#pragma once

#include <nlohmann/json.hpp>
#include <ostream>
#include <string>
#include <vector>

#include "profile/rate.h"

namespace moegen {

struct Measured;

/// One column of a report: `key` names it in JSON, where figures have base units (bytes/s, FLOP/s, seconds; shares from 0 to 1);
/// the table shows them divided by `unit`.
struct Column {
  std::string key;
  std::string heading;
  double unit = 1;
};

/// A name, a count, a rate, or a rate that could not be measured: "-", and null in JSON.
struct Cell {
  enum class Kind { text, count, rate, unmeasured };
  Cell(std::string value);
  Cell(const char* value);
  Cell(int64_t value);
  Cell(const Rate& value);
  /// Of a rate's samples, if there are any.
  explicit Cell(const std::vector<double>& samples);

  Kind kind;
  std::string text;
  int64_t count = 0;
  Rate rate;
};

/// Rows of figures, written as they come: a table for people, or one JSON object at the end.
class Report {
 public:
  /// `about`: what was measured on what; its texts head the table, its members the JSON object.
  Report(std::ostream& out, bool json, nlohmann::ordered_json about, std::vector<Column> columns);
  /// As many cells as there are columns.
  void row(const std::vector<Cell>& cells);
  /// A remark below the row before; `notes` in JSON.
  void note(const std::string& text);
  void finish();

 private:
  std::ostream& out_;
  bool json_;
  nlohmann::ordered_json object_;
  std::vector<Column> columns_;
};

/// bench, machine, moegen (version and commit), cpu_path, threads.
[[nodiscard]] nlohmann::ordered_json about_bench(const std::string& bench, std::string_view cpu_path, int threads);
[[nodiscard]] nlohmann::ordered_json to_json(const Rate& rate);

/// The figures of a Measured, as the last columns of a row.
[[nodiscard]] std::vector<Column> measured_columns(std::vector<Column> before);
[[nodiscard]] std::vector<Cell> measured_cells(std::vector<Cell> before, const Measured& measured);

}  // namespace moegen
