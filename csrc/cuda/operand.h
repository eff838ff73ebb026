#pragma once
// Types as operands of the tensor cores.

#include "cell/float16.h"

namespace fused_lstm::cuda {

// How a type meets mma: values in a register, depth of one product.
template <class T>
struct Operand {
  static constexpr int kPerWord = 2, kDepth = 16;
};
template <>
struct Operand<float> {
  static constexpr int kPerWord = 1, kDepth = 8;
};

// What gradients of gates are multiplied as: float16, whose range is too small for gradients, becomes TF32, in which
// its weights are exact.
template <class T>
struct GradientOperand {
  using Type = float;
};
template <>
struct GradientOperand<BFloat16> {
  using Type = BFloat16;
};

}  // namespace fused_lstm::cuda
