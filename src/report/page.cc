#include "report/page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "report/chart.h"
#include "report/style.h"

namespace moegen {
namespace {

constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();
// SHA-256 of kScript; tests/report opens the page in Chromium, where another script would not run.
constexpr const char* kScriptHash = "sha256-hCLA/hlmr4HwATU7EtLMbK7E8/5tPL8tt+Hr9fBny8U=";

// A curve of one value of every interval.
template <typename Value>
Chart::Series series(const History& h, std::string name, int colour, const Value& value, bool dashed = false) {
  Chart::Series out{std::move(name), colour, {}, dashed};
  for (const Interval& i : h.intervals) out.y.push_back(value(i));
  return out;
}

double ratio(double a, double b) { return b > 0 ? a / b : kNothing; }

Chart chart(const History& h, std::string title, std::string note, Unit unit) {
  Chart out;
  out.title = std::move(title);
  out.note = std::move(note);
  out.unit = unit;
  for (const Interval& i : h.intervals) out.x.push_back((i.begin + i.end) / 2);
  out.marks = h.resumed;
  out.end = h.seconds();
  return out;
}

double limit_of(const History& h, double Summary::*limit) { return h.summary ? (*h.summary).*limit : 0; }

void add_limit(Chart& c, const std::string& name, double value) {
  if (value > 0) c.limits.emplace_back(name, value);
}

Chart throughput(const History& h) {
  Chart c = chart(h, "Throughput", "tokens per second", Unit::count);
  const auto span = [](const Interval& i) { return i.end - i.begin; };
  c.series.push_back(series(h, "prompt tokens", 1, [&](const Interval& i) { return ratio(i.prompt_tokens, span(i)); }));
  c.series.push_back(series(h, "generated tokens", 2, [&](const Interval& i) { return ratio(i.generated_tokens, span(i)); }));
  return c;
}

Chart occupancy(const History& h) {
  Chart c = chart(h, "Batch occupancy", "what a pass carries, on the average", Unit::count);
  c.series.push_back(series(h, "tokens", 1, [](const Interval& i) { return ratio(i.pass_tokens, i.passes); }));
  c.series.push_back(series(h, "sequences", 2, [](const Interval& i) { return ratio(i.pass_sequences, i.passes); }));
  c.series.push_back(series(h, "sequences that wait", 5, [](const Interval& i) { return ratio(i.waiting, i.passes); }));
  add_limit(c, "most tokens", limit_of(h, &Summary::max_pass_tokens));
  add_limit(c, "most sequences", limit_of(h, &Summary::max_sequences));
  return c;
}

Chart experts(const History& h) {
  Chart c = chart(h, "Tokens per expert", "of experts that have any; the more, the less often weights are read for a token", Unit::count);
  c.series.push_back(series(h, "on the average", 3, [](const Interval& i) { return ratio(i.tokens_per_expert, i.passes); }));
  c.series.push_back(series(h, "the busiest", 5, [](const Interval& i) { return i.most_of_an_expert; }));
  return c;
}

Chart resources(const History& h) {
  Chart c = chart(h, "Resource use", "share of the time", Unit::percent);
  c.stacked = true;
  const auto share = [](const Interval& i, double seconds) {
    return i.end > i.begin ? 100 * std::clamp(seconds / (i.end - i.begin), 0.0, 1.0) : 0.0;
  };
  c.series.push_back(series(h, "cores compute", 1, [&](const Interval& i) { return share(i, i.pass_seconds - i.wait_seconds); }));
  c.series.push_back(series(h, "cores wait for weights", 2, [&](const Interval& i) { return share(i, i.wait_seconds); }));
  c.series.push_back(series(h, "between passes", 5, [&](const Interval& i) {
    return std::max(0.0, 100 - share(i, i.pass_seconds - i.wait_seconds) - share(i, i.wait_seconds));
  }));
  return c;
}

Chart storage(const History& h) {
  Chart c = chart(h, "KV pages and storage", "share of the pages that are used, of the time in which weights are read", Unit::percent);
  c.series.push_back(series(h, "KV pages used", 4, [&](const Interval& i) { return 100 * ratio(i.kv_pages_used, h.kv_pages); }));
  c.series.push_back(series(h, "storage reads", 2, [&](const Interval& i) { return 100 * ratio(i.storage_seconds, i.end - i.begin); }));
  c.series.push_back(series(h, "experts used", 3, [](const Interval& i) { return 100 * ratio(i.experts_used, i.passes); }));
  return c;
}

Chart memory(const History& h) {
  Chart c = chart(h, "Memory", "that the process has", Unit::bytes);
  c.series.push_back(series(h, "resident", 4, [](const Interval& i) { return i.memory > 0 ? i.memory : kNothing; }));
  add_limit(c, "planned", limit_of(h, &Summary::planned_memory));
  add_limit(c, "--host-memory", limit_of(h, &Summary::host_memory));
  return c;
}

Chart prediction(const History& h) {
  Chart c = chart(h, "Predicted against measured", "duration of a pass", Unit::seconds);
  c.series.push_back(series(h, "measured", 1, [](const Interval& i) { return ratio(i.pass_seconds, i.passes); }));
  c.series.push_back(series(
      h, "predicted", 2,
      [](const Interval& i) { return i.predicted_of > 0 ? i.predicted_seconds / i.predicted_of * ratio(i.pass_seconds, i.passes) : kNothing; },
      true));
  if (std::none_of(h.intervals.begin(), h.intervals.end(), [](const Interval& i) { return i.predicted_of > 0; }))
    c.note = "duration of a pass; nothing was predicted, as the machine's rates were not known";
  return c;
}

// Of the last run: before, there was another to estimate for.
Chart outlook(const History& h) {
  Chart c = chart(h, "Estimated end", "time since the begin plus the time left as it was shown then", Unit::seconds);
  const double base = h.resumed.empty() ? 0 : h.resumed.back();
  c.series.push_back(
      series(h, "estimated", 3, [&](const Interval& i) { return i.seconds_left && i.begin >= base ? i.end + *i.seconds_left : kNothing; }));
  if (h.summary && h.summary->finished) c.limits.emplace_back("true end", h.seconds());
  return c;
}

std::string tile(const std::string& value, const std::string& name) {
  return fmt::format("<div class=\"tile\"><b>{}</b><span>{}</span></div>\n", escaped(value), escaped(name));
}

std::string tiles(const History& h) {
  const double seconds = h.seconds();
  const auto rate = [&](double tokens) { return seconds > 0 ? unit_text(tokens / seconds, Unit::count) : "0"; };
  std::string out = tile(fmt::format("{:.0f}", h.answered),
                         h.failed > 0 ? fmt::format("answered, {:.0f} with an error", h.failed) : "answered, none with an error");
  out += tile(unit_text(seconds, Unit::seconds), fmt::format("in {:.0f} passes", h.passes));
  out += tile(rate(h.prompt_tokens) + "/s", unit_text(h.prompt_tokens, Unit::count) + " prompt tokens");
  out += tile(rate(h.generated_tokens) + "/s", unit_text(h.generated_tokens, Unit::count) + " generated tokens");
  if (!h.summary) return out;
  if (!h.summary->bottleneck.empty()) out += tile(h.summary->bottleneck, "bottleneck");
  if (h.summary->measured && h.summary->predicted && h.summary->predicted->passes > 0) {
    const double off = 100 * (h.summary->measured->passes / h.summary->predicted->passes - 1);
    out += tile(fmt::format("{:+.0f} %", off), "passes, against their prediction");
  }
  return out;
}

std::string resource_table(const Summary& s) {
  if (!s.measured) return "";
  const auto row = [&](const char* name, double Summary::Resources::*seconds) {
    const double measured = (*s.measured).*seconds;
    const auto predicted = s.predicted ? std::optional((*s.predicted).*seconds) : std::nullopt;
    return fmt::format("<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>\n", name,
                       unit_text(measured, Unit::seconds), predicted ? unit_text(*predicted, Unit::seconds) : "-",
                       predicted && *predicted > 0 ? fmt::format("{:+.0f} %", 100 * (measured / *predicted - 1)) : "-");
  };
  std::string out =
      "<section><h2>Predicted against measured, of the last run</h2><table><tr><th></th><th class=\"n\">measured</th><th class=\"n\">predicted</th>"
      "<th class=\"n\">off by</th></tr>\n";
  out += row("passes", &Summary::Resources::passes) + row("cores compute", &Summary::Resources::cpu) +
         row("storage reads", &Summary::Resources::ssd) + row("cores wait for weights", &Summary::Resources::wait);
  if (s.planned_seconds) {
    out += fmt::format("<tr><td>the job</td><td class=\"n\">{}</td><td class=\"n\">at most {}</td><td class=\"n\">-</td></tr>\n",
                       unit_text(s.seconds, Unit::seconds), unit_text(*s.planned_seconds, Unit::seconds));
  }
  return out + "</table></section>\n";
}

std::string error_table(const History& h) {
  if (h.errors.empty()) return "<section><h2>Errors</h2>None.</section>\n";
  std::vector<ErrorKind> errors = h.errors;
  std::stable_sort(errors.begin(), errors.end(), [](const ErrorKind& a, const ErrorKind& b) { return a.count > b.count; });
  std::string out =
      "<section><h2>Errors by kind</h2><table><tr><th>code</th><th class=\"n\">requests</th><th></th><th>first custom_id</th>"
      "<th class=\"n\">line</th></tr>\n";
  for (const ErrorKind& e : errors) {
    out += fmt::format(
        "<tr><td class=\"t\">{}</td><td class=\"n\">{:.0f}</td><td><span class=\"bar\" style=\"width:{:.0f}px\"></span></td><td "
        "class=\"t\">{}</td><td class=\"n\">{}</td></tr>\n",
        escaped(e.code), e.count, 240 * std::clamp(e.count / std::max(1.0, errors.front().count), 0.0, 1.0), escaped(e.first),
        e.first_line > 0 ? fmt::format("{:.0f}", e.first_line) : "");
  }
  return out + "</table></section>\n";
}

std::string run_list(const Summary& s) {
  if (s.run.empty()) return "";
  std::string out = "<section><h2>The run</h2><dl>\n";
  for (const auto& [label, text] : s.run) out += fmt::format("<dt>{}</dt><dd>{}</dd>\n", escaped(label), escaped(text));
  return out + "</dl></section>\n";
}

std::string state(const History& h) {
  if (!h.summary) return "<span class=\"state\">goes on, or was killed</span>";
  return h.summary->finished ? "<span class=\"state good\">finished</span>" : "<span class=\"state\">interrupted</span>";
}

}  // namespace

std::string report_page(const History& h) {
  std::string out = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src '{}'\">\n"
      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>moegen: {}</title>\n<style>{}</style></head>\n<body><main>\n",
      kScriptHash, escaped(h.name), kStyle);
  out += fmt::format("<header><h1>{}</h1>{}</header>\n<div class=\"tiles\">\n{}</div>\n<div class=\"grid\">\n", escaped(h.name), state(h), tiles(h));
  for (const auto& make : {throughput, occupancy, experts, resources, memory, storage, prediction, outlook}) out += make(h).html();
  out += "</div>\n";
  if (h.summary) out += resource_table(*h.summary);
  out += error_table(h);
  if (h.summary) out += run_list(*h.summary);
  const double each = h.intervals.empty() ? 1 : std::ceil(h.passes / static_cast<double>(h.intervals.size()));
  out +=
      fmt::format("<footer>{} points of {} pass{} each{}. Dashed upright lines: the job was resumed. Written by moegen report.</footer>\n",
                  h.intervals.size(), each > 1 ? fmt::format("up to about {:.0f}", each) : "1", each > 1 ? "es" : "", each > 1 ? ", averaged" : "");
  return out + fmt::format("</main>\n<script>{}</script>\n</body></html>\n", kScript);
}

}  // namespace moegen
