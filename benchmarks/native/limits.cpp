// What one thread of this machine can do at most: multiply-adds from registers, and reading or copying memory.
// Compiled for the machine at hand (-march=native) by benchmarks/limits.py and called through ctypes.

#include <cstdint>
#include <cstring>

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif

#if defined(__AVX512F__)
#define REGISTER "+v"
#elif defined(__x86_64__)
#define REGISTER "+x"
#else
#define REGISTER "+w"
#endif
#define HOLD(a, b, c, d, e, f) \
  asm volatile("" : REGISTER(a), REGISTER(b), REGISTER(c), REGISTER(d), REGISTER(e), REGISTER(f))

template <class T>
struct Simd {
  typedef T V __attribute__((vector_size(kBytes)));
};
template <class T>
using Vec = typename Simd<T>::V;

// Twelve independent sums hide the latency of a multiply-add on two pipes of up to six cycles; fewer would not.
// The empty asm keeps every sum in a register and every round from being computed in advance.
template <class T>
double multiply_add(int64_t rounds) {
  Vec<T> s0{}, s1{}, s2{}, s3{}, s4{}, s5{}, s6{}, s7{}, s8{}, s9{}, s10{}, s11{};
  Vec<T> a = Vec<T>{} + T(0.999), b = Vec<T>{} + T(0.001);
  for (int64_t i = 0; i < rounds; ++i) {
    s0 = s0 * a + b, s1 = s1 * a + b, s2 = s2 * a + b, s3 = s3 * a + b, s4 = s4 * a + b, s5 = s5 * a + b;
    s6 = s6 * a + b, s7 = s7 * a + b, s8 = s8 * a + b, s9 = s9 * a + b, s10 = s10 * a + b, s11 = s11 * a + b;
    HOLD(s0, s1, s2, s3, s4, s5);
    HOLD(s6, s7, s8, s9, s10, s11);
  }
  const Vec<T> sum = s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8 + s9 + s10 + s11;
  return static_cast<double>(sum[0]);
}

}  // namespace

extern "C" {

// Floating-point operations that one round of each takes; 0 where the CPU has no such instruction.
double float32_flops() { return 12 * 2.0 * kBytes / 4; }
double float64_flops() { return 12 * 2.0 * kBytes / 8; }
#if defined(__AVX512BF16__)
double bfloat16_flops() { return 12 * 2.0 * kBytes / 2; }
#else
double bfloat16_flops() { return 0; }
#endif

double float32_rounds(int64_t rounds) { return multiply_add<float>(rounds); }
double float64_rounds(int64_t rounds) { return multiply_add<double>(rounds); }

double bfloat16_rounds(int64_t rounds) {
#if defined(__AVX512BF16__)
  typedef float V __attribute__((vector_size(64)));
  V s0{}, s1{}, s2{}, s3{}, s4{}, s5{}, s6{}, s7{}, s8{}, s9{}, s10{}, s11{};
  const __m512bh a = (__m512bh)_mm512_set1_epi16(0x3f7f), b = (__m512bh)_mm512_set1_epi16(0x3a83);
  for (int64_t i = 0; i < rounds; ++i) {
#define DOT(s) s = (V)_mm512_dpbf16_ps((__m512)s, a, b)
    DOT(s0), DOT(s1), DOT(s2), DOT(s3), DOT(s4), DOT(s5), DOT(s6), DOT(s7), DOT(s8), DOT(s9), DOT(s10), DOT(s11);
#undef DOT
    HOLD(s0, s1, s2, s3, s4, s5);
    HOLD(s6, s7, s8, s9, s10, s11);
  }
  const V sum = s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8 + s9 + s10 + s11;
  return sum[0];
#else
  return static_cast<double>(rounds) * 0;
#endif
}

// Reads `bytes` (a multiple of 512) once, in order.
double read_once(const void* data, int64_t bytes) {
  typedef int64_t V __attribute__((vector_size(kBytes), aligned(8), may_alias));
  const V* p = static_cast<const V*>(data);
  V s0{}, s1{}, s2{}, s3{}, s4{}, s5{}, s6{}, s7{};
  for (int64_t i = 0; i + 8 <= bytes / kBytes; i += 8) {
    s0 ^= p[i], s1 ^= p[i + 1], s2 ^= p[i + 2], s3 ^= p[i + 3];
    s4 ^= p[i + 4], s5 ^= p[i + 5], s6 ^= p[i + 6], s7 ^= p[i + 7];
  }
  const V all = s0 ^ s1 ^ s2 ^ s3 ^ s4 ^ s5 ^ s6 ^ s7;
  return static_cast<double>(all[0]);
}

void copy_once(void* to, const void* from, int64_t bytes) { std::memcpy(to, from, static_cast<size_t>(bytes)); }

}  // extern "C"
