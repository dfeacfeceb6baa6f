#include "profile/grouped_work.h"

#include <gtest/gtest.h>

#include "tests/support/devices.h"

namespace moegen {
namespace {

class GroupedWorkTest : public ::testing::Test {
 protected:
  GroupedWork work(const MatrixFormat& weights, int64_t width, size_t bytes) {
    spec_.num_experts = 4;
    spec_.width = width;
    return {*device_, stream_, {memory_.handle(), bytes}, spec_, 64, weights, DType::bf16, 32};
  }

  static constexpr size_t kBytes = 200'000;
  std::unique_ptr<EmulatedDevice> device_ = testing::emulated_device({.seed = 3});
  Stream stream_ = device_->new_stream(false);
  DeviceBuffer memory_ = device_->new_buffer(kBytes);
  MlpSpec spec_;
};

TEST_F(GroupedWorkTest, RunsEveryFormat) {
  device_->fill(stream_, memory_.handle(), 0x11, kBytes);
  for (const MatrixFormat& weights : {MatrixFormat{}, MatrixFormat{DType::f8_e4m3, 1, 128}, MatrixFormat{DType::f4, 0.53, 32},
                                      MatrixFormat{DType::i4, 0.53, 32}, MatrixFormat{DType::u8, 1.03, 32}, MatrixFormat{DType::u8, 1, 0}}) {
    GroupedWork w = work(weights, 96, kBytes);
    ASSERT_FALSE(w.empty()) << name_of(weights.dtype);
    for (int i = 0; i < 4; ++i) {  // round the experts that the memory has
      EXPECT_EQ(w.run(9), 6.0 * 27 * 64 * 96) << "3 experts of 9 tokens";
      EXPECT_EQ(w.run(32), 6.0 * 32 * 64 * 96);
    }
  }
}

TEST_F(GroupedWorkTest, IsNoneOfExpertsThatAreNotGrouped) {
  EXPECT_TRUE(work({}, 90, kBytes).empty()) << "columns are no multiple of 8";
  EXPECT_TRUE(work({}, 1 << 20, kBytes).empty()) << "large matrices";
  EXPECT_TRUE(work({}, 96, 1000).empty()) << "memory for no expert";
}

}  // namespace
}  // namespace moegen
