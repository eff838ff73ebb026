#include "binding/cuda_stepwise.h"

#include "binding/cuda_steps.h"
#include "binding/products.h"
#include "cell/variants.h"
#include "cuda/gather.h"
#include "cuda/stepwise.h"

namespace fused_lstm {

using cuda::StepBackward;
using cuda::StepForward;
using cuda::StepPlace;
using cuda::StepwiseLayer;

void forward_stepwise(const CudaCall& call, int d, ForwardTensors& tensors) {
  const Problem& p = call.problem();
  const int64_t H = p.hidden, P = p.output();
  const Steps steps(call, d);
  const StepwiseLayer& l = steps();
  Tensor recurrent = call.computed({p.batch, 4 * H}), c_state = call.computed({p.batch, H}),
         h_state = call.stored({p.batch, P});
  Tensor h_input = l.scale ? call.stored({p.batch, P}) : h_state;
  OptionalTensor unprojected, projected;
  if (p.projection) unprojected = call.stored({p.batch, H}), projected = call.computed({p.batch, P});
  const StepForward f{tensors.gates[d].mutable_data_ptr(), recurrent.const_data_ptr(),    c_state.mutable_data_ptr(),
                      h_state.mutable_data_ptr(),          h_input.mutable_data_ptr(),    mutable_data(unprojected),
                      tensors.y.mutable_data_ptr(),        mutable_data(tensors.cells[d])};
  const Tensor w_hh = transposed(unit_by_unit(call.w_hh(d)));
  check_launch(cuda::start_forward(l, f));
  for (int64_t k = 0; k < p.steps; ++k) {
    const int64_t t = steps.time(k);
    const StepPlace at = steps.place(t);
    Tensor product = steps.first_rows(recurrent, t);
    multiply(product, steps.first_rows(h_input, t), w_hh);
    check_launch(cuda::step_forward(l, at, f));
    if (!p.projection) continue;
    Tensor h = steps.first_rows(*projected, t);
    multiply(h, steps.first_rows(*unprojected, t), transposed(call.w_hr(d)));
    check_launch(cuda::project_forward(l, at, f, projected->const_data_ptr()));
  }
  check_launch(cuda::finish_forward(l, f, of_direction(tensors.h_n, d), of_direction(tensors.c_n, d)));
}

void backward_stepwise(const CudaCall& call, int d, BackwardTensors& tensors) {
  const Problem& p = call.problem();
  const int64_t H = p.hidden, P = p.output(), B = p.batch, params = kCellShapes[p.cell].params;
  const Steps steps(call, d);
  const StepwiseLayer& l = steps();
  Tensor& dgates = tensors.dgates[d];
  Tensor recurrent = call.computed({B, P}), first = call.computed({B, P});
  Tensor dc = call.computed({B, H}), bypass = call.computed({B, H}), bias_sum = call.zeroed({B, 4 * H}),
         param_sum = call.zeroed({B, params * H});
  OptionalTensor dunprojected, dscale;
  if (p.projection) dunprojected = call.computed({B, H});
  if (tensors.dscale) dscale = call.zeroed({B, P});
  const StepBackward g{tensors.gates[d].const_data_ptr(),
                       tensors.cells[d].const_data_ptr(),
                       tensors.in.y.const_data_ptr(),
                       data(tensors.in.dy),
                       of_direction(tensors.in.dh_n, d),
                       of_direction(tensors.in.dc_n, d),
                       recurrent.const_data_ptr(),
                       data(dunprojected),
                       mutable_data(tensors.dprojected[d]),
                       dgates.mutable_data_ptr(),
                       dc.mutable_data_ptr(),
                       bypass.mutable_data_ptr(),
                       bias_sum.mutable_data_ptr(),
                       param_sum.mutable_data_ptr(),
                       mutable_data(dscale),
                       first.mutable_data_ptr()};
  const Tensor w_hh = unit_by_unit(call.w_hh(d));
  for (int64_t k = p.steps - 1; k >= 0; --k) {
    const int64_t t = steps.time(k);
    const StepPlace at = steps.place(t);
    if (p.projection) {
      check_launch(cuda::project_backward(l, at, g));
      Tensor out = steps.first_rows(*dunprojected, t);
      multiply(out, steps.rows_of(*tensors.dprojected[d], t), call.w_hr(d));
    }
    check_launch(cuda::step_backward(l, at, g));
    Tensor out = steps.first_rows(recurrent, t);
    multiply(out, steps.rows_of(dgates, t), w_hh);
  }
  if (tensors.dh0 || tensors.dc0 || dscale)
    check_launch(cuda::finish_backward(l, g, of_direction(tensors.dh0, d), of_direction(tensors.dc0, d)));
  const auto sum = [&](const Tensor& from, int64_t rows, int64_t columns, void* to) {
    check_launch(cuda::sum_rows(p.dtype, from.const_data_ptr(), rows, columns, to, call.stream()));
  };
  if (tensors.dbias[d]) sum(bias_sum, B, 4 * H, tensors.dbias[d]->mutable_data_ptr());
  if (tensors.dparams) sum(param_sum, B, params * H, of_direction(tensors.dparams, d));
  if (dscale) sum(*dscale, 1, B * P, of_direction(tensors.dscale, d));
}

}  // namespace fused_lstm
