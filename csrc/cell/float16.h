#pragma once
// 16-bit floating point by integer arithmetic alone: the same bits on every machine, compiler and device.
// Rounding is to nearest, ties to even.

#include <cstdint>
#include <cstring>

#include "cell/macros.h"

namespace fused_lstm {

struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

FUSED_LSTM_HD uint32_t bits_of(float x) {
  uint32_t u;
  memcpy(&u, &x, sizeof u);
  return u;
}
FUSED_LSTM_HD float float_of(uint32_t u) {
  float x;
  memcpy(&x, &u, sizeof x);
  return x;
}

FUSED_LSTM_HD float widened(BFloat16 h) { return float_of(uint32_t{h.bits} << 16); }
FUSED_LSTM_HD float widened(Float16 h) {
  const uint32_t magnitude = h.bits & 0x7fffu, sign = uint32_t{h.bits} >> 15 << 31;
  // exponents of half lie 112 below those of float; the product is exact, denormals included
  const float value = float_of(magnitude << 13) * 5.192296858534828e33f;  // 2^112
  const uint32_t special = 0x7f800000u | (magnitude & 0x3ffu) << 13;
  return float_of((magnitude >= 0x7c00u ? special : bits_of(value)) | sign);
}
FUSED_LSTM_HD float widened(float x) { return x; }
FUSED_LSTM_HD double widened(double x) { return x; }

FUSED_LSTM_HD void narrowed(float x, BFloat16& to) {
  const uint32_t u = bits_of(x);
  const uint32_t rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
  to.bits = static_cast<uint16_t>(x != x ? 0x7fc0 | (u >> 31 << 15) : rounded);
}
FUSED_LSTM_HD void narrowed(float x, Float16& to) {
  const uint32_t u = bits_of(x);
  const uint32_t magnitude = u & 0x7fffffffu, sign = u >> 31 << 15;
  const uint32_t normal = (magnitude - (112u << 23) + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  // below 2^-14 the last place is 2^-24: adding 1/2 leaves the rounded result in the low bits
  const uint32_t tiny = bits_of(float_of(magnitude) + 0.5f) - 0x3f000000u;
  uint32_t h = magnitude < 0x38800000u ? tiny : normal;
  if (magnitude >= 0x477ff000u) h = 0x7c00u;  // 65520 and more round to infinity
  if (magnitude > 0x7f800000u) h = 0x7e00u;
  to.bits = static_cast<uint16_t>(h | sign);
}
FUSED_LSTM_HD void narrowed(float x, float& to) { to = x; }
FUSED_LSTM_HD void narrowed(double x, double& to) { to = x; }

// x as the nearest value of S.
template <class S>
FUSED_LSTM_HD float rounded(float x) {
  S s;
  narrowed(x, s);
  return widened(s);
}

// The type that sums and the cell state have when tensors hold S.
template <class S>
struct ComputeOf {
  using Type = float;
};
template <>
struct ComputeOf<double> {
  using Type = double;
};
template <class S>
using Compute = typename ComputeOf<S>::Type;

}  // namespace fused_lstm
