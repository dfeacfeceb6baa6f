#include "moegen/report.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "base/error.h"
#include "report/page.h"

namespace moegen {

void write_report(const std::filesystem::path& metrics, const std::filesystem::path& page, std::ostream& out) {
  const std::string text = report_page(read_history(metrics));
  if (page == "-") {
    out << text;
    return;
  }
  std::error_code none;
  if (std::filesystem::equivalent(metrics, page, none))
    throw_error(ErrorCode::invalid_argument, "{} and {} are the same file", metrics.string(), page.string());
  std::ofstream file(page, std::ios::binary);
  if (!(file << text << std::flush)) throw_error(ErrorCode::io, "{}: cannot write: {}", page.string(), std::strerror(errno));
}

}  // namespace moegen
