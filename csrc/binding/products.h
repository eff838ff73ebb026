#pragma once
// Torch's products for the CUDA operators, and the order of gates. Kernels want the gates of a unit side by side, [H,
// 4, .], where nn.LSTM's weights have them one after the other, [4, H, .].

#include "binding/compat.h"

namespace fused_lstm {

// out = a * b. Where out is wider than a and b, the product is kept in float all the way.
void multiply(Tensor& out, const Tensor& a, const Tensor& b);

Tensor transposed(const Tensor& t);

Tensor unit_by_unit(const Tensor& weight);  // [4H, K]: rows of gates to rows of units
Tensor gate_by_gate(const Tensor& gradient);  // the way back

}  // namespace fused_lstm
