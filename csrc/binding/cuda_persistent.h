#pragma once
// The families whose kernels run over all steps by themselves.

#include "binding/cuda_stepwise.h"

namespace fused_lstm {

// Both directions. False: nothing was launched, and `tensors` are as they were.
bool forward_persistent(const CudaCall& call, ForwardTensors& tensors);
// Fills dgates, dh0 and dc0; not dbias.
bool backward_persistent(const CudaCall& call, BackwardTensors& tensors);

}  // namespace fused_lstm
