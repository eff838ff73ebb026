#pragma once
// The two activations for plain scalars. A SIMD type brings overloads of the same two names.

#include <cmath>

#include "cell/macros.h"

namespace fused_lstm {

FUSED_LSTM_HD float tanh_of(float x) { return ::tanhf(x); }
FUSED_LSTM_HD double tanh_of(double x) { return ::tanh(x); }
FUSED_LSTM_HD float sigmoid_of(float x) { return 1.0f / (1.0f + ::expf(-x)); }
FUSED_LSTM_HD double sigmoid_of(double x) { return 1.0 / (1.0 + ::exp(-x)); }

}  // namespace fused_lstm
