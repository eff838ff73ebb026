#pragma once
// The family `stepwise`: one of torch's products and one launch a step; for cells that need a whole row, two of each.

#include "binding/cuda_call.h"

namespace fused_lstm {

struct ForwardTensors {
  Tensor y;               // (t, b) x [D * P]
  Tensor h_n, c_n;        // [D, B, P], [D, B, H]
  Tensor gates[2];        // (t, b) x [4H], by units: x * W_ih in, activated gates out
  OptionalTensor cells[2];  // (t, b) x [H]; absent when backward will not come
};

struct BackwardTensors {
  IncomingGradients in;
  Tensor gates[2], cells[2];  // as forward left them
  Tensor dgates[2];           // (t, b) x [4H], by units
  OptionalTensor dprojected[2];  // (t, b) x [P], with projection
  OptionalTensor dh0, dc0, dscale, dparams;
  OptionalTensor dbias[2];  // [4H]
  // By rowwise steps alone, where they differ from what gates, cells and dgates tell:
  OptionalTensor dgates_h[2];     // (t, b) x [4H], by units: behind the norm of W_hh h
  OptionalTensor new_cells[2];    // (t, b) x [H]: what W_ho met
  OptionalTensor unprojected[2];  // (t, b) x [H]: what W_hr met
};

void forward_stepwise(const CudaCall& call, int d, ForwardTensors& tensors);
// Fills all that is there of `tensors`.
void backward_stepwise(const CudaCall& call, int d, BackwardTensors& tensors);

// The same for cells that are not elementwise; see cuda/rowwise.h.
void forward_rowwise(const CudaCall& call, int d, ForwardTensors& tensors);
void backward_rowwise(const CudaCall& call, int d, BackwardTensors& tensors);

}  // namespace fused_lstm
