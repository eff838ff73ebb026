#ifndef FUSED_LSTM_ONLY_SCALAR
#include <cpuid.h>
#endif

#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "cpu/amx.h"
#include "cpu/kernels.h"

namespace fused_lstm::cpu {

extern const Kernels<float> kScalarFloat;
extern const Kernels<double> kScalarDouble;
#ifndef FUSED_LSTM_ONLY_SCALAR
extern const Kernels<float> kAvx2Float, kAvx512Float;
extern const Kernels<double> kAvx2Double, kAvx512Double;
#ifndef FUSED_LSTM_NO_AVX512_BF16
extern const Bf16Kernels kAvx512Bf16, kAmxBf16;
#endif
#endif

namespace {

bool always() { return true; }
constexpr Isa kScalar{"scalar", always, &kScalarFloat, &kScalarDouble, nullptr};
#ifndef FUSED_LSTM_ONLY_SCALAR
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && has_avx2();
}
constexpr Isa kAvx2{"avx2", has_avx2, &kAvx2Float, &kAvx2Double, nullptr};
constexpr Isa kAvx512{"avx512", has_avx512, &kAvx512Float, &kAvx512Double, nullptr};
#ifndef FUSED_LSTM_NO_AVX512_BF16
bool has_avx512_bf16() {  // by hand: old compilers know the instructions but not their name
  unsigned a = 0, b = 0, c = 0, d = 0;
  return has_avx512() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1);
}
constexpr Isa kAvx512AndBf16{"avx512_bf16", has_avx512_bf16, &kAvx512Float, &kAvx512Double, &kAvx512Bf16};
bool has_amx_bf16() { return has_avx512_bf16() && amx_usable(); }
constexpr Isa kAmx{"amx_bf16", has_amx_bf16, &kAvx512Float, &kAvx512Double, &kAmxBf16};
#endif
constexpr const Isa* kBestFirst[] = {
#ifndef FUSED_LSTM_NO_AVX512_BF16
    &kAmx, &kAvx512AndBf16,
#endif
    &kAvx512, &kAvx2, &kScalar};
#else
constexpr const Isa* kBestFirst[] = {&kScalar};
#endif

constexpr int kIsaCount = sizeof(kBestFirst) / sizeof(kBestFirst[0]);

struct Supported {
  const Isa* list[kIsaCount + 1] = {};
  Supported() {
    int n = 0;
    for (const Isa* isa : kBestFirst)
      if (isa->supported()) list[n++] = isa;
  }
};

const Isa& choose() {
  const char* wanted = std::getenv("FUSED_LSTM_CPU_ISA");
  const Isa* const* supported = supported_isas();
  if (!wanted || !*wanted) return **supported;
  std::string names;
  for (; *supported; ++supported) {
    if (std::strcmp((*supported)->name, wanted) == 0) return **supported;
    names.append(names.empty() ? "" : ", ").append((*supported)->name);
  }
  throw std::invalid_argument("fused_lstm: FUSED_LSTM_CPU_ISA=" + std::string(wanted) +
                              " cannot run on this machine; unset it or use one of: " + names);
}

}  // namespace

const Isa* const* supported_isas() {
  static const Supported supported;
  return supported.list;
}

const Isa& isa() {
  static const Isa& chosen = choose();
  return chosen;
}

}  // namespace fused_lstm::cpu
