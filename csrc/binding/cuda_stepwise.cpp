#include "binding/cuda_stepwise.h"

#include "binding/cuda_runs.h"

namespace fused_lstm {

void forward_stepwise(const CudaCall& call, int d, ForwardTensors& tensors) {
  const ForwardRun run(call, d, tensors);
  run.run(
      [&](int64_t, const cuda::StepPlace& at) { check_launch(cuda::step_forward(run.layer(), at, run.pointers())); });
}

void backward_stepwise(const CudaCall& call, int d, BackwardTensors& tensors) {
  const BackwardRun run(call, d, tensors);
  run.run(tensors.dgates[d], unit_by_unit(call.w_hh(d)), [&](int64_t, const cuda::StepPlace& at) {
    check_launch(cuda::step_backward(run.layer(), at, run.pointers()));
  });
}

}  // namespace fused_lstm
