#include "report/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "tokenizer/unicode.h"

namespace moegen {
namespace {

constexpr double kWidth = 640, kHeight = 230;
constexpr double kLeft = 58, kRight = 14, kTop = 12, kBottom = 26, kLabelHeight = 13;
constexpr size_t kFew = 40;  // points that are shown as such

double nice_step(double range, int steps, Unit unit) {
  const double raw = range / steps;
  if (unit == Unit::seconds && raw > 20) {
    for (const double s : {30., 60., 120., 300., 600., 1200., 1800., 3600., 7200., 10800., 21600., 43200., 86400.})
      if (s >= raw) return s;
    return std::ceil(raw / 86400) * 86400;
  }
  const double base = unit == Unit::bytes ? std::exp2(std::floor(std::log2(std::max(raw, 1.0)) / 10) * 10) : 1;
  const double scale = std::pow(10, std::floor(std::log10(raw / base)));
  for (const double m : {1., 2., 5., 10.})
    if (m * scale * base >= raw * 0.999) return m * scale * base;
  return raw;
}

std::string number(double v) { return std::isfinite(v) ? fmt::format("{:.5g}", v) : "null"; }

std::vector<Chart::Series> stack(std::vector<Chart::Series> series) {
  for (size_t s = 1; s < series.size(); ++s) {
    for (size_t i = 0; i < series[s].y.size(); ++i) series[s].y[i] += std::isfinite(series[s - 1].y[i]) ? series[s - 1].y[i] : 0;
  }
  return series;
}

class Picture {
 public:
  explicit Picture(const Chart& chart) : chart_(chart), shown_(chart.stacked ? stack(chart.series) : chart.series) {
    for (const Chart::Series& s : shown_) {
      for (const double y : s.y) top_ = std::isfinite(y) ? std::max(top_, y) : top_;
    }
    for (const auto& [name, value] : chart.limits) {
      if (value <= 3 * top_) top_ = std::max(top_, value);  // one far above would press the curves flat
    }
    if (top_ <= 0) top_ = 1;
    if (chart.unit == Unit::percent) top_ = std::max(top_, 100.0);
    step_ = nice_step(top_, 4, chart.unit);
    top_ = std::ceil(top_ / step_ * 0.999) * step_;
  }

  [[nodiscard]] std::string svg() const {
    std::string out =
        fmt::format("<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\" data-left=\"{}\" data-right=\"{}\" data-end=\"{}\" data-top=\"{}\">",
                    kWidth, kHeight, escaped(chart_.title), kLeft, kWidth - kRight, number(end()), number(top_));
    out += axes();
    for (const double mark : chart_.marks)
      out += fmt::format("<line class=\"mark\" x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1}\" y2=\"{2}\"/>", px(mark), kTop, kHeight - kBottom);
    if (chart_.stacked) {
      for (size_t s = shown_.size(); s-- > 0;) out += area(shown_[s]);
    } else {
      for (const Chart::Series& s : shown_) out += line(s);
    }
    double taken = -2 * kLabelHeight;  // where the label before is
    for (const auto& [name, value] : chart_.limits) {
      if (value > top_) continue;
      out += fmt::format("<line class=\"limit\" x1=\"{0}\" x2=\"{1}\" y1=\"{2:.1f}\" y2=\"{2:.1f}\"/>", kLeft, kWidth - kRight, py(value));
      double at = py(value) + (py(value) < kTop + 14 ? 12 : -4);
      if (std::abs(at - taken) < kLabelHeight) at = taken + kLabelHeight;
      taken = at;
      out += fmt::format("<text class=\"limit\" x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>", kWidth - kRight - 4, at, escaped(name));
    }
    return out + fmt::format("<line class=\"cross\" y1=\"{}\" y2=\"{}\"/></svg>", kTop, kHeight - kBottom);
  }

 private:
  [[nodiscard]] double end() const { return std::max(chart_.end, 1e-9); }
  [[nodiscard]] double px(double x) const { return kLeft + x / end() * (kWidth - kLeft - kRight); }
  [[nodiscard]] double py(double y) const { return kTop + (1 - y / top_) * (kHeight - kTop - kBottom); }

  [[nodiscard]] std::string axes() const {
    std::string out;
    for (double y = 0; y <= top_ * 1.001; y += step_) {
      out += fmt::format("<line class=\"grid\" x1=\"{0}\" x2=\"{1}\" y1=\"{2:.1f}\" y2=\"{2:.1f}\"/>", kLeft, kWidth - kRight, py(y));
      out += fmt::format("<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>", kLeft - 6, py(y) + 4, unit_text(y, chart_.unit));
    }
    const double step = nice_step(end(), 6, Unit::seconds);
    for (double x = 0; x <= end() * 1.001; x += step) {
      const bool last = px(x) > kWidth - 30;
      out += fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"{}\">{}</text>", px(x), kHeight - 8, last ? "end" : "middle",
                         unit_text(x, Unit::seconds));
    }
    return out;
  }

  [[nodiscard]] std::string line(const Chart::Series& s) const {
    std::string path;
    std::string dots;
    bool pen = false;
    for (size_t i = 0; i < s.y.size(); ++i) {
      if (!std::isfinite(s.y[i])) {
        pen = false;
        continue;
      }
      path += fmt::format("{}{:.1f} {:.1f}", pen ? "L" : "M", px(chart_.x[i]), py(s.y[i]));
      pen = true;
      if (s.y.size() <= kFew)
        dots += fmt::format("<circle class=\"c{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"2.5\"/>", s.colour, px(chart_.x[i]), py(s.y[i]));
    }
    return fmt::format("<path class=\"line c{}{}\" d=\"{}\"/>", s.colour, s.dashed ? " dashed" : "", path) + dots;
  }

  [[nodiscard]] std::string area(const Chart::Series& s) const {
    if (s.y.empty()) return "";
    std::string path = fmt::format("M{:.1f} {:.1f}", px(chart_.x.front()), py(0));
    for (size_t i = 0; i < s.y.size(); ++i) path += fmt::format("L{:.1f} {:.1f}", px(chart_.x[i]), py(std::isfinite(s.y[i]) ? s.y[i] : 0));
    return fmt::format("<path class=\"area c{}\" d=\"{}L{:.1f} {:.1f}Z\"/>", s.colour, path, px(chart_.x.back()), py(0));
  }

  const Chart& chart_;
  std::vector<Chart::Series> shown_;
  double top_ = 0;
  double step_ = 1;
};

std::string list(const std::vector<double>& values) {
  std::string out;
  for (const double v : values) out += (out.empty() ? "" : ",") + number(v);
  return "[" + out + "]";
}

const char* name_of(Unit unit) {
  switch (unit) {
    case Unit::count:
      return "count";
    case Unit::bytes:
      return "bytes";
    case Unit::percent:
      return "percent";
    case Unit::seconds:
      return "seconds";
  }
  return "";
}

}  // namespace

std::string unit_text(double v, Unit unit) {
  const auto scaled = [](double value, double by, std::initializer_list<const char*> names) {
    const char* name = "";
    for (const char* next : names) {
      name = next;
      if (value < by * 0.9995 || next == *(names.end() - 1)) break;
      value /= by;
    }
    const std::string digits = value >= 99.95 || value == std::floor(value) ? fmt::format("{:.0f}", value) : fmt::format("{:.3g}", value);
    return digits + name;
  };
  switch (unit) {
    case Unit::count:
      return scaled(v, 1000, {"", "k", "M", "G", "T"});
    case Unit::bytes:
      return scaled(v, 1024, {" B", " KiB", " MiB", " GiB", " TiB"});
    case Unit::percent:
      return fmt::format("{:.0f} %", v);
    case Unit::seconds:
      break;
  }
  if (v > 0 && v < 1) return fmt::format("{:.3g} ms", v * 1000);
  if (v < 120) return fmt::format("{:.3g} s", v);
  if (v < 7200) return fmt::format("{:.3g} min", v / 60);
  if (v < 172800) return fmt::format("{:.3g} h", v / 3600);
  return fmt::format("{:.3g} days", v / 86400);
}

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text::valid_utf8(text)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t' ? ' ' : c;
    }
  }
  return out;
}

std::string Chart::html() const {
  std::string legend;
  std::string data;
  for (const Series& s : series) {
    legend += fmt::format("<span><i class=\"c{}{}\"></i>{}</span>", s.colour, s.dashed ? " dashed" : "", escaped(s.name));
    data += fmt::format("{}{{\"n\":\"{}\",\"c\":{},\"y\":{}}}", data.empty() ? "" : ",", s.name, s.colour, list(s.y));
  }
  return fmt::format(
      "<figure><figcaption><b>{}</b><small>{}</small></figcaption>{}<div class=\"legend\">{}</div>"
      "<script type=\"application/json\">{{\"unit\":\"{}\",\"x\":{},\"s\":[{}]}}</script></figure>\n",
      escaped(title), escaped(note), Picture(*this).svg(), legend, name_of(unit), list(x), data);
}

}  // namespace moegen
