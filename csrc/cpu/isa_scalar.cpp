// The baseline of the compiler's target: 16-byte vectors, which is SSE2 on x86-64 and NEON on aarch64.
#define FUSED_LSTM_VECTOR_BYTES 16
#define FUSED_LSTM_ROW_TILE 5
#define FUSED_LSTM_PASS_VECTORS 2
#include "cpu/kernels-inl.h"

namespace fused_lstm::cpu {
extern const Kernels<float> kScalarFloat;
extern const Kernels<double> kScalarDouble;
const Kernels<float> kScalarFloat = kKernels<float>;
const Kernels<double> kScalarDouble = kKernels<double>;
}  // namespace fused_lstm::cpu
