#pragma once
// 16-bit floating point, by integer arithmetic alone: the same bits on every machine and compiler.

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
