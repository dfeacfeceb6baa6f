#include "batch/job.h"
#include "batch/signals.h"

namespace moegen {

class BatchJob::Impl : public Job {
 public:
  using Job::Job;
};

BatchJob::BatchJob(const BatchOptions& options) : impl_(std::make_unique<Impl>(options)) {}
BatchJob::~BatchJob() = default;

Workload BatchJob::workload(const std::string& model_name, const PromptCounter* counter) const { return impl_->workload(model_name, counter); }

std::filesystem::path BatchJob::temporary_folder() const { return impl_->temporary_folder(); }

int BatchJob::run(Engine& engine) {
  const StopOnSignal signals([this, &engine] {
    impl_->stop();
    engine.request_stop();
  });
  impl_->describe(engine.info(), [&engine] { return engine.activity(); });
  impl_->start(engine.info().model_name, engine.info().answer_memory);
  try {
    return impl_->finish(engine.run(*impl_, *impl_));
  } catch (...) {
    impl_->fail();
    throw;
  }
}

}  // namespace moegen
