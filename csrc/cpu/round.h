#pragma once
// Arrays of 16-bit floating point numbers to float and back; the arithmetic is in cell/float16.h.

#include <cstdint>

#include "core/problem.h"

namespace fused_lstm::cpu {

// Rounds to nearest even in place, to the values that a 16-bit dtype can hold; does nothing for the others.
void round_to(DType dtype, float* x, int64_t n);
inline void round_to(DType, double*, int64_t) {}

// dtype: kBFloat16 or kFloat16
void widen(DType dtype, const void* from, float* to, int64_t n);
void narrow(DType dtype, const float* from, void* to, int64_t n);

}  // namespace fused_lstm::cpu
