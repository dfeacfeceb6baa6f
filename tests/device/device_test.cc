// The contract of Device, on every implementation that is here: the emulated one in many orders, and a GPU where there is one.
#include "device/device.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "device/emulated/emulated_device.h"
#include "device/gpu.h"
#include "tests/support/devices.h"
#include "tests/support/errors.h"

namespace moegen {
namespace {

class DeviceTest : public ::testing::TestWithParam<testing::TestDevice> {
 protected:
  const std::unique_ptr<Device> device = GetParam().open();
};
INSTANTIATE_TEST_SUITE_P(Devices, DeviceTest, ::testing::ValuesIn(testing::test_devices()), [](const auto& d) { return d.param.name; });

std::byte* bytes_of(const DeviceBuffer& b, size_t at = 0) { return static_cast<std::byte*>(b.handle()) + at; }
std::byte* bytes_of(const HostBuffer& b, size_t at = 0) { return static_cast<std::byte*>(b.handle()) + at; }

void count_up(const HostBuffer& host, size_t bytes, int first) {
  for (size_t i = 0; i < bytes; ++i) *bytes_of(host, i) = static_cast<std::byte>(first + static_cast<int>(i));
}

TEST_P(DeviceTest, CopiesThereAndBack) {
  constexpr size_t kBytes = 1000;
  const Stream stream = device->new_stream();
  const DeviceBuffer memory = device->new_buffer(kBytes);
  const HostBuffer from = device->new_host_buffer(kBytes), to = device->new_host_buffer(kBytes);
  count_up(from, kBytes, 1);
  device->copy_to_device(stream, bytes_of(memory), bytes_of(from), kBytes);
  device->copy_to_host(stream, bytes_of(to), bytes_of(memory), kBytes);
  device->synchronize(stream);
  EXPECT_EQ(std::memcmp(bytes_of(from), bytes_of(to), kBytes), 0);
}

TEST_P(DeviceTest, EventsOrderStreams) {
  constexpr size_t kBytes = 1 << 16;
  const Stream first = device->new_stream(), second = device->new_stream(true);
  const DeviceBuffer memory = device->new_buffer(kBytes);
  const HostBuffer to = device->new_host_buffer(kBytes);
  const Event filled = device->new_event(), fetched = device->new_event();
  for (int round = 1; round < 20; ++round) {
    device->wait(first, fetched);  // not recorded in the first round
    device->fill(first, bytes_of(memory), static_cast<uint8_t>(round), kBytes);
    device->record(filled, first);
    device->wait(second, filled);
    device->copy_to_host(second, bytes_of(to), bytes_of(memory), kBytes);
    device->record(fetched, second);
    device->synchronize(fetched);
    device->host_reads(bytes_of(to), kBytes);
    EXPECT_EQ(*bytes_of(to), static_cast<std::byte>(round));
    EXPECT_EQ(*bytes_of(to, kBytes - 1), static_cast<std::byte>(round));
  }
}

// An event that is recorded anew: who waited before waits for what it was then.
TEST_P(DeviceTest, WaitingIsForTheLastRecord) {
  const Stream first = device->new_stream(), second = device->new_stream();
  const DeviceBuffer memory = device->new_buffer(64);
  const HostBuffer to = device->new_host_buffer(64);
  const Event event = device->new_event();
  device->fill(first, bytes_of(memory), 1, 32);
  device->record(event, first);
  device->wait(second, event);
  device->copy_to_host(second, bytes_of(to), bytes_of(memory), 32);
  device->fill(first, bytes_of(memory, 32), 2, 32);
  device->record(event, first);
  device->wait(second, event);
  device->copy_to_host(second, bytes_of(to, 32), bytes_of(memory, 32), 32);
  device->synchronize(second);
  EXPECT_EQ(*bytes_of(to), std::byte{1});
  EXPECT_EQ(*bytes_of(to, 63), std::byte{2});
}

// Blocks of pinned memory side by side, and memory that is not pinned: copies go across.
TEST_P(DeviceTest, CopiesAcrossPinnedBlocks) {
  constexpr size_t kPage = 4096;
  std::vector<std::byte> host(10 * kPage);
  for (size_t i = 0; i < host.size(); ++i) host[i] = static_cast<std::byte>(i / 7);
  std::byte* begin = host.data() + (kPage - reinterpret_cast<uintptr_t>(host.data()) % kPage);
  const Stream stream = device->new_stream();
  const DeviceBuffer memory = device->new_buffer(8 * kPage);
  const HostBuffer to = device->new_host_buffer(8 * kPage);
  {
    const auto one = device->try_pin(begin + kPage, 2 * kPage), two = device->try_pin(begin + 3 * kPage, kPage);
    device->copy_to_device(stream, bytes_of(memory), begin, 8 * kPage);
    device->copy_to_host(stream, bytes_of(to), bytes_of(memory), 8 * kPage);
    device->synchronize(stream);
  }
  EXPECT_EQ(std::memcmp(begin, bytes_of(to), 8 * kPage), 0);
}

// Many small copies at once, into pinned memory, across its borders and beside it: all of them behind what is in the stream, before what comes.
TEST_P(DeviceTest, CopiesManyAtOnce) {
  constexpr size_t kPage = 4096, kCopies = 3000, kBytes = 96;
  std::vector<std::byte> host(kCopies * kBytes + 2 * kPage);
  std::byte* begin = host.data() + (kPage - reinterpret_cast<uintptr_t>(host.data()) % kPage);
  const Stream stream = device->new_stream();
  const DeviceBuffer memory = device->new_buffer(kCopies * kBytes);
  const HostBuffer to = device->new_host_buffer(kCopies * kBytes);
  for (size_t i = 0; i < kCopies * kBytes; ++i) begin[i] = static_cast<std::byte>(i / 5);
  {
    const auto one = device->try_pin(begin, 3 * kPage), two = device->try_pin(begin + 3 * kPage, 40 * kPage);
    std::vector<Copy> copies;
    for (size_t i = 0; i < kCopies; ++i) copies.push_back({bytes_of(memory, (kCopies - 1 - i) * kBytes), begin + i * kBytes, kBytes});
    device->fill(stream, memory.handle(), 0, kCopies * kBytes);
    device->copy_to_device(stream, copies);
    for (Copy& c : copies) c = {bytes_of(to, static_cast<size_t>(static_cast<std::byte*>(c.to) - bytes_of(memory))), c.to, c.bytes};
    device->copy_to_host(stream, copies);
    device->settle(stream);
  }
  for (size_t i = 0; i < kCopies; ++i) ASSERT_EQ(std::memcmp(begin + i * kBytes, bytes_of(to, (kCopies - 1 - i) * kBytes), kBytes), 0) << i;
  device->copy_to_device(stream, std::span<const Copy>{});
}

TEST_P(DeviceTest, RefusesMoreMemoryThanThereIs) {
  EXPECT_ERROR(device->new_buffer(size_t{1} << 50), ErrorCode::out_of_memory, "memory");
  const size_t free = device->free_memory();
  const DeviceBuffer some = device->new_buffer(4 << 20);
  EXPECT_LT(device->free_memory(), free);
}

// What only an emulation can find.
class Misuse : public ::testing::Test {
 protected:
  Misuse() { count_up(host, kBytes, 0); }
  ~Misuse() override {
    device->synchronize(first);
    device->synchronize(second);
  }
  static constexpr size_t kBytes = 512;
  const std::unique_ptr<Device> device = testing::emulated_device({});
  const Stream first = device->new_stream(false), second = device->new_stream(false);
  const Event event = device->new_event();
  const DeviceBuffer memory = device->new_buffer(kBytes);
  const HostBuffer host = device->new_host_buffer(kBytes);
};

TEST_F(Misuse, SlotReadBeforeItsEvent) {
  device->copy_to_device(first, bytes_of(memory), bytes_of(host), kBytes);
  EXPECT_THROW(device->copy_to_host(second, bytes_of(host), bytes_of(memory), 1), std::logic_error);
  device->record(event, first);
  device->wait(second, event);
  device->copy_to_host(second, bytes_of(host), bytes_of(memory), 1);
}

TEST_F(Misuse, SlotOverwrittenWhileRead) {
  device->fill(first, bytes_of(memory), 1, kBytes);
  device->record(event, first);
  device->wait(second, event);
  device->copy_to_host(second, bytes_of(host), bytes_of(memory, 100), 100);
  device->fill(first, bytes_of(memory), 2, 100);  // beside it
  EXPECT_THROW(device->fill(first, bytes_of(memory), 2, 101), std::logic_error);
  device->record(event, second);
  device->wait(first, event);
  device->fill(first, bytes_of(memory), 2, 101);
}

// An event says nothing of what came into the stream behind it.
TEST_F(Misuse, StaleEvent) {
  device->record(event, first);
  device->fill(first, bytes_of(memory), 1, kBytes);
  device->wait(second, event);
  EXPECT_THROW(device->fill(second, bytes_of(memory), 1, kBytes), std::logic_error);
}

TEST_F(Misuse, HostDoesNotWait) {
  device->copy_to_device(first, bytes_of(memory), bytes_of(host), kBytes);
  device->host_reads(bytes_of(host), kBytes);
  EXPECT_THROW(device->host_writes(bytes_of(host), 1), std::logic_error);
  device->record(event, first);
  device->synchronize(event);
  device->host_writes(bytes_of(host), 1);
}

TEST_F(Misuse, BeyondAnAllocation) { EXPECT_THROW(device->fill(first, bytes_of(memory, 1), 0, kBytes), std::logic_error); }

TEST_F(Misuse, GivenBackTooEarly) {
  const auto give_back = [&] {
    const HostBuffer gone = device->new_host_buffer(kBytes);
    device->copy_to_device(first, bytes_of(memory), bytes_of(gone), kBytes);
  };
  EXPECT_DEATH(give_back(), "host memory is given back while a copy to the device");
  const auto keep = [&] {
    const DeviceBuffer gone = device->new_buffer(kBytes);
    device->fill(first, bytes_of(gone), 0, kBytes);
    device->synchronize(first);
  };
  keep();
}

TEST_F(Misuse, MemoryBeginsAsNaN) {
  device->copy_to_host(first, bytes_of(host), bytes_of(memory), 4);
  device->synchronize(first);
  float x = 0;
  std::memcpy(&x, bytes_of(host), 4);
  EXPECT_TRUE(x != x);
}

}  // namespace
}  // namespace moegen
