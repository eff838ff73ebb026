#include "cpu/round.h"

#include <cstring>

namespace fused_lstm::cpu {
namespace {

inline uint32_t bits_of(float x) {
  uint32_t u;
  std::memcpy(&u, &x, sizeof u);
  return u;
}
inline float float_of(uint32_t u) {
  float x;
  std::memcpy(&x, &u, sizeof x);
  return x;
}

inline float from_bfloat16(uint16_t h) { return float_of(uint32_t{h} << 16); }
inline uint16_t to_bfloat16(float x) {
  const uint32_t u = bits_of(x);
  const uint32_t rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
  return static_cast<uint16_t>(x != x ? 0x7fc0 | (u >> 31 << 15) : rounded);
}

inline float from_float16(uint16_t h) {
  const uint32_t magnitude = h & 0x7fffu, sign = uint32_t{h} >> 15 << 31;
  // exponents of half lie 112 below those of float; the product is exact, denormals included
  const float value = float_of(magnitude << 13) * 5.192296858534828e33f;  // 2^112
  const uint32_t special = 0x7f800000u | (magnitude & 0x3ffu) << 13;
  return float_of((magnitude >= 0x7c00u ? special : bits_of(value)) | sign);
}
inline uint16_t to_float16(float x) {
  const uint32_t u = bits_of(x), magnitude = u & 0x7fffffffu, sign = u >> 31 << 15;
  const uint32_t normal = (magnitude - (112u << 23) + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  // below 2^-14 the last place is 2^-24: adding 1/2 leaves the rounded result in the low bits
  const uint32_t tiny = bits_of(float_of(magnitude) + 0.5f) - 0x3f000000u;
  uint32_t h = magnitude < 0x38800000u ? tiny : normal;
  if (magnitude >= 0x477ff000u) h = 0x7c00u;  // 65520 and more round to infinity
  if (magnitude > 0x7f800000u) h = 0x7e00u;
  return static_cast<uint16_t>(h | sign);
}

}  // namespace

void round_to(DType dtype, float* x, int64_t n) {
  if (dtype == DType::kBFloat16)
    for (int64_t i = 0; i < n; ++i) x[i] = from_bfloat16(to_bfloat16(x[i]));
  else if (dtype == DType::kFloat16)
    for (int64_t i = 0; i < n; ++i) x[i] = from_float16(to_float16(x[i]));
}

void widen(DType dtype, const void* from, float* to, int64_t n) {
  const uint16_t* h = static_cast<const uint16_t*>(from);
  if (dtype == DType::kBFloat16)
    for (int64_t i = 0; i < n; ++i) to[i] = from_bfloat16(h[i]);
  else
    for (int64_t i = 0; i < n; ++i) to[i] = from_float16(h[i]);
}

void narrow(DType dtype, const float* from, void* to, int64_t n) {
  uint16_t* h = static_cast<uint16_t*>(to);
  if (dtype == DType::kBFloat16)
    for (int64_t i = 0; i < n; ++i) h[i] = to_bfloat16(from[i]);
  else
    for (int64_t i = 0; i < n; ++i) h[i] = to_float16(from[i]);
}

}  // namespace fused_lstm::cpu
