#pragma once
// The vanilla layer in bfloat16 on a CPU that multiplies bfloat16: tensors are read as they lie, products have bfloat16
// operands and float sums, states, gates and biases' gradients are float. What is not served here goes the way of all
// 16-bit tensors, which become float (layer.cpp).

#include "cpu/kernels.h"
#include "cpu/layer.h"

namespace fused_lstm::cpu {

// Which calls. The reserve is the same on both roads, so that forward and backward may take different ones.
inline bool serves_bf16(const Problem& p, const LayerInputs& in) {
  return p.dtype == DType::kBFloat16 && isa().bf16 && p.cell == kVanilla && p.projection == 0 && !in.recurrent_scale;
}
inline bool serves_bf16_backward(const Problem& p, const LayerInputs& in) { return serves_bf16(p, in) && !p.recompute; }

void bf16_forward(const Problem&, const Rows&, const LayerInputs&, const ForwardOutputs&, const Parallel&);
void bf16_backward(const Problem&, const Rows&, const LayerInputs&, const BackwardInputs&, const BackwardOutputs&,
                   const Parallel&);

}  // namespace fused_lstm::cpu
