#pragma once
// Fibers for the emulator: a stack, and a switch from one to the next. No exception may leave a fiber.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>

#if !defined(__x86_64__) || defined(FUSED_LSTM_PORTABLE_FIBERS)
#define FUSED_LSTM_UCONTEXT 1
#include <ucontext.h>
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace fused_lstm::cuda::emulator {

#ifdef FUSED_LSTM_UCONTEXT

struct Registers {
  ucontext_t saved;
};

inline void switch_registers(Registers& from, Registers& to) { swapcontext(&from.saved, &to.saved); }

inline void start_registers(Registers& c, char* stack, size_t bytes, void (*entry)()) {
  getcontext(&c.saved);
  c.saved.uc_stack.ss_sp = stack;
  c.saved.uc_stack.ss_size = bytes;
  c.saved.uc_link = nullptr;
  makecontext(&c.saved, entry, 0);
}

#else  // ucontext asks the kernel for the signal mask at every switch; this is ten times as fast

struct Registers {
  void* stack_pointer;
};

__attribute__((naked, noipa)) static void switch_stack(void**, void*) {
  asm("pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
      "movq %rsp, (%rdi)\n movq %rsi, %rsp\n"
      "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret");
}

inline void switch_registers(Registers& from, Registers& to) { switch_stack(&from.stack_pointer, to.stack_pointer); }

inline void start_registers(Registers& c, char* stack, size_t bytes, void (*entry)()) {
  constexpr int kSavedRegisters = 6;
  auto** top = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(stack + bytes) & ~uintptr_t{15});
  *--top = nullptr;  // where entry would return to; also aligns the stack as a call would
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < kSavedRegisters; ++i) *--top = nullptr;
  c.stack_pointer = top;
}

#endif

#ifdef __SANITIZE_ADDRESS__  // which has to be told of every switch, or takes one stack for another

struct Context : Registers {
  const void* stack = nullptr;
  size_t bytes = 0;
  void* frames = nullptr;  // the sanitizer's own
  void (*entry)() = nullptr;
};
inline Context *g_left = nullptr, *g_entered = nullptr;

inline void switch_context(Context& from, Context& to) {
  g_left = &from, g_entered = &to;
  __sanitizer_start_switch_fiber(&from.frames, to.stack, to.bytes);
  switch_registers(from, to);
  __sanitizer_finish_switch_fiber(from.frames, nullptr, nullptr);
}

// Whoever enters a new fiber is left on a stack that only the sanitizer knows.
inline void first_entry() {
  __sanitizer_finish_switch_fiber(nullptr, &g_left->stack, &g_left->bytes);
  g_entered->entry();
}

inline void start_context(Context& c, char* stack, size_t bytes, void (*entry)()) {
  __asan_unpoison_memory_region(stack, bytes);  // frames that the last fiber never left
  c.stack = stack, c.bytes = bytes, c.frames = nullptr, c.entry = entry;
  start_registers(c, stack, bytes, first_entry);
}

#else

using Context = Registers;
inline void switch_context(Context& from, Context& to) { switch_registers(from, to); }
inline void start_context(Context& c, char* stack, size_t bytes, void (*entry)()) {
  start_registers(c, stack, bytes, entry);
}

#endif

// Stacks for many fibers, kept between launches. A mark at the far end of each tells whether it was enough.
class Stacks {
 public:
  static constexpr size_t kBytes = 64 * 1024;

  char* get(size_t i, size_t count) {
    if (count_ < count) memory_.reset(new char[count * kBytes]), count_ = count;
    char* stack = memory_.get() + i * kBytes;
    std::memcpy(stack, &kMark, sizeof(kMark));
    return stack;
  }
  bool intact(size_t i) const { return std::memcmp(memory_.get() + i * kBytes, &kMark, sizeof(kMark)) == 0; }

 private:
  static constexpr uint64_t kMark = 0x5afe5afe5afe5afe;
  std::unique_ptr<char[]> memory_;
  size_t count_ = 0;
};

}  // namespace fused_lstm::cuda::emulator
