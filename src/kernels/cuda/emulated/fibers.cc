#include "kernels/cuda/emulated/fibers.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "base/check.h"

// Saves what a call must leave as it was on the stack, and goes on where another stack was left.
extern "C" void moegen_switch_stack(void** from, void* to);
asm(R"(
.text
.globl moegen_switch_stack
.hidden moegen_switch_stack
.type moegen_switch_stack, @function
moegen_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size moegen_switch_stack, .-moegen_switch_stack
)");

namespace moegen::emulated {
namespace {

constexpr size_t kStackBytes = 64 << 10;
constexpr size_t kWarp = 32;
enum class State { runs, at_warp_barrier, at_block_barrier, done };

struct Fiber {
  void* stack_pointer = nullptr;
  State state = State::done;
  unsigned thread = 0;
  uint64_t exchanges = 0;
};

// All of a block, reused for the next.
class Block {
 public:
  void run(const Shape& shape, uint64_t seed, void (*body)(const void*), const void* argument);

  Place place;
  Fiber* now = nullptr;
  std::vector<Given> values;  // [2][threads] of exchange(), two calls in turn

  void pause(State state) {
    now->state = state;
    moegen_switch_stack(&now->stack_pointer, scheduler_);
  }

 private:
  // Never returns, which ThreadSanitizer, where it counts calls and returns, must not see.
  [[gnu::no_sanitize("thread")]] static void enter();
  void prepare(Fiber& fiber);
  void open_barriers();

  void* scheduler_ = nullptr;
  void (*body_)(const void*) = nullptr;
  const void* argument_ = nullptr;
  std::vector<Fiber> fibers_;
  std::vector<std::unique_ptr<std::byte[]>> stacks_;
  std::vector<std::byte> shared_;
};

thread_local Block block;

void Block::enter() {
  block.body_(block.argument_);
  block.now->state = State::done;
  moegen_switch_stack(&block.now->stack_pointer, block.scheduler_);
}

void Block::prepare(Fiber& fiber) {
  auto top = reinterpret_cast<uintptr_t>(stacks_[fiber.thread].get()) + kStackBytes;
  top &= ~uintptr_t{63};
  auto* at = reinterpret_cast<void**>(top);
  *--at = nullptr;  // a return address for enter(), which never returns; the stack is then as after a call
  *--at = reinterpret_cast<void*>(&Block::enter);
  for (int i = 0; i < 6; ++i) *--at = nullptr;
  fiber.stack_pointer = at;
  fiber.state = State::runs;
  fiber.exchanges = 0;
}

// Lets go on who is at a barrier together with all others of the warp, or the block.
void Block::open_barriers() {
  const auto all_are = [&](size_t begin, size_t end, State state) {
    return std::all_of(fibers_.begin() + static_cast<ptrdiff_t>(begin), fibers_.begin() + static_cast<ptrdiff_t>(end),
                       [&](const Fiber& f) { return f.state == state; });
  };
  for (size_t begin = 0; begin < fibers_.size(); begin += kWarp) {
    const size_t end = std::min(fibers_.size(), begin + kWarp);
    if (!all_are(begin, end, State::at_warp_barrier)) continue;
    for (size_t i = begin; i < end; ++i) fibers_[i].state = State::runs;
  }
  if (!all_are(0, fibers_.size(), State::at_block_barrier)) return;
  for (Fiber& f : fibers_) f.state = State::runs;
}

void Block::run(const Shape& shape, uint64_t seed, void (*body)(const void*), const void* argument) {
  body_ = body;
  argument_ = argument;
  fibers_.resize(shape.threads);
  values.resize(2 * shape.threads);
  while (stacks_.size() < shape.threads) stacks_.push_back(std::make_unique<std::byte[]>(kStackBytes));
  shared_.resize(shape.shared_bytes + 64);
  std::vector<unsigned> order(shape.threads);
  std::iota(order.begin(), order.end(), 0U);
  if (seed % 3 == 1) std::reverse(order.begin(), order.end());
  if (seed % 3 == 2) std::shuffle(order.begin(), order.end(), std::mt19937_64(seed));
  const auto aligned = (reinterpret_cast<uintptr_t>(shared_.data()) + 63) & ~uintptr_t{63};
  place.shared = shared_.data() + (aligned - reinterpret_cast<uintptr_t>(shared_.data()));
  for (unsigned b = 0; b < shape.blocks_x * shape.blocks_y; ++b) {
    place.block = {b % shape.blocks_x, b / shape.blocks_x, 0};
    place.block_dim = {shape.threads, 1, 1};
    place.grid_dim = {shape.blocks_x, shape.blocks_y, 1};
    std::memset(place.shared, 0xff, shape.shared_bytes);
    if (shape.independent) {
      for (const unsigned t : order) {
        place.thread = {t, 0, 0};
        body(argument);
      }
      continue;
    }
    for (unsigned t = 0; t < shape.threads; ++t) {
      fibers_[t].thread = t;
      prepare(fibers_[t]);
    }
    for (size_t left = shape.threads, ran = 1; left > 0;) {
      MOEGEN_CHECK(ran > 0);  // else a barrier waits for threads that are elsewhere, or gone
      ran = 0;
      for (const unsigned t : order) {
        if (fibers_[t].state != State::runs) continue;
        now = &fibers_[t];
        place.thread = {t, 0, 0};
        ++ran;
        moegen_switch_stack(&scheduler_, now->stack_pointer);
        left -= now->state == State::done ? 1 : 0;
      }
      open_barriers();
    }
  }
}

}  // namespace

const Place& place() { return block.place; }

void run(const Shape& shape, uint64_t seed, void (*body)(const void*), const void* argument) { block.run(shape, seed, body, argument); }

void block_barrier() { block.pause(State::at_block_barrier); }
void warp_barrier() { block.pause(State::at_warp_barrier); }

unsigned lane() { return block.now->thread % kWarp; }

const Given* exchange(const Given& given) {
  const size_t threads = block.values.size() / 2;
  const size_t first = (block.now->exchanges++ % 2) * threads + block.now->thread / kWarp * kWarp;
  block.values[first + lane()] = given;
  warp_barrier();
  return block.values.data() + first;
}

void multiply_tiles(float* d, const uint32_t* a, const uint32_t* b) {
  const Given* of_warp = exchange({a[0], a[1], a[2], a[3], b[0], b[1]});
  const auto half = [](uint32_t word, size_t i) { return std::bit_cast<float>(i == 0 ? word << 16 : word & 0xffff0000U); };
  for (size_t i = 0; i < 4; ++i) {
    const size_t row = i / 2, col = 2 * (lane() % 4) + i % 2;  // row: of the two that the thread has, 8 apart
    for (size_t k = 0; k < 16; ++k) {
      const size_t other = k % 8 / 2, upper = k / 8;
      d[i] = std::fma(half(of_warp[lane() / 4 * 4 + other][row + 2 * upper], k % 2), half(of_warp[col * 4 + other][4 + upper], k % 2), d[i]);
    }
  }
}

}  // namespace moegen::emulated
