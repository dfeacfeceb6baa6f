#pragma once

#include <CLI/CLI.hpp>
#include <functional>

#include "moegen/bench.h"

/// The command `bench` and its measurements. Options are kept here between parsing and run().
class BenchCommand {
 public:
  /// `add_model_options` adds those that every command with a model has.
  BenchCommand(CLI::App& app, const std::function<void(CLI::App&, moegen::EngineOptions&)>& add_model_options);
  [[nodiscard]] bool parsed() const { return command_->parsed(); }
  /// The measurement that was asked for, to stdout. Throws moegen::Error.
  void run() const;

 private:
  void add_machine();
  void add_gemm();
  void add_attention();
  void add_copy();
  void add_throughput(const std::function<void(CLI::App&, moegen::EngineOptions&)>& add_model_options);

  CLI::App* command_;
  moegen::MachineBench machine_;
  moegen::GemmBench gemm_;
  moegen::AttentionBench attention_;
  moegen::CopyBench copy_;
  moegen::ThroughputBench throughput_;
};
