#include "output/harmony.h"

#include "tests/output/support.h"

namespace moegen::testing {
namespace {

ParsedOutput harmony(std::string_view text) { return parse(OutputFormat::harmony, text); }

TEST(Harmony, Channels) {
  expect(harmony("<|channel|>analysis<|message|>Why?<|end|><|start|>assistant<|channel|>final<|message|>So.<|return|>"), "So.", {}, "Why?");
  expect(harmony("<|channel|>final<|message|>So.\n\né"), "So.\n\né", {});
  expect(harmony("<|channel|>analysis<|message|>Why, and wh"), "", {}, "Why, and wh");
  expect(harmony("<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>analysis<|message|>b<|end|>"), "", {}, "a\nb");
  expect(harmony("<|channel|>commentary<|message|>First I look.<|end|><|start|>assistant<|channel|>final<|message|>So."), "First I look.\nSo.", {});
}

TEST(Harmony, Calls) {
  const std::string json = R"({"s": "a \"q\"\n<|x é", "o": {"k": [1, {"z": "}"}]}, "i": 12345678901234567890})";
  const std::string analysis = "<|channel|>analysis<|message|>Why?<|end|><|start|>assistant";
  for (const std::string header :
       {"<|channel|>commentary to=functions.f <|constrain|>json<|message|>", "<|channel|>commentary to=functions.f<|message|>",
        " to=functions.f<|channel|>commentary json<|message|>", "<|channel|>analysis to=functions.f code<|message|>",
        " to=functions.f<|channel|>commentary <|constrain|>json<|message|>", "<|channel|>commentary to=f json<|message|>"}) {
    for (const std::string end : {"<|call|>", ""}) {
      const std::string text = analysis + header + json + end;
      expect(harmony(text), "", {{"f", json}}, "Why?");
    }
  }
  expect(harmony("<|channel|>commentary<|message|>Now.<|end|><|start|>assistant to=functions.f<|channel|>commentary json<|message|>{}<|call|>"
                 "<|start|>assistant to=functions.g<|channel|>commentary json<|message|>{\"a\": 1}<|call|>"),
         "Now.", {{"f", "{}"}, {"g", "{\"a\": 1}"}});
}

TEST(Harmony, BuiltInToolsAreReasoning) {
  for (const std::string to : {"python", "browser.search", "container.exec", "assistant"}) {
    expect(harmony("<|channel|>analysis to=" + to + "<|message|>1+1<|call|>"), "", {}, "1+1");
  }
  expect(harmony("<|channel|>commentary to=unheard.of<|message|>{}<|call|>"), "", {{"unheard.of", "{}"}});
}

TEST(Harmony, EndsMayBeRepeatedOrMissing) {
  expect(harmony("<|channel|>analysis<|message|>a<|end|><|end|><|start|>assistant<|channel|>final<|message|>b<|return|><|call|>"), "b", {}, "a");
  expect(harmony("<|channel|>analysis<|message|>a<|start|>assistant<|channel|>final<|message|>b"), "b", {}, "a");
}

TEST(Harmony, WithoutCallsTheyAreContent) {
  OutputContext context = context_of(OutputFormat::harmony);
  context.with_calls = false;
  expect(parse_output(context, "<|channel|>commentary to=functions.f json<|message|>{}<|call|>"), "{}", {});
}

TEST(Harmony, MalformedIsPlain) {
  for (const std::string text :
       {"So.", " So.", "<|channel|>", "<|channel|>final", "<|channel|>other<|message|>x", "<|message|>x", "<|start|>user<|channel|>final<|message|>x",
        "<|channel|>commentary to=functions.f json<|message|>{\"a\": <|call|>", "<|channel|>commentary to=functions. json<|message|>{}",
        "<|channel|>final a b<|message|>x", "<|channel|>final<|other|><|message|>x", "So. <|channel|>final<|message|>x",
        "<|channel|>final<|channel|>final<|message|>x"}) {
    expect_plain(harmony(text), text);
  }
  EXPECT_EQ(harmony("").content, "");
  expect(harmony("<|channel|>final<|message|>So.<|end|> and more"), "So.\nand more", {});  // cut off in a header
}

}  // namespace
}  // namespace moegen::testing
