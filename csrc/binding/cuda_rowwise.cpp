// The stepwise family for cells that need a whole row; see cuda/rowwise.h.

#include "cuda/rowwise.h"

#include "binding/cuda_steps.h"
#include "binding/cuda_stepwise.h"
#include "binding/products.h"
#include "cell/variants.h"
#include "cuda/gather.h"

namespace fused_lstm {
namespace {

using cuda::RowwiseBackward;
using cuda::RowwiseForward;
using cuda::StepBackward;
using cuda::StepForward;
using cuda::StepPlace;
using cuda::StepwiseLayer;

// W_ho, the last H rows of W_hh, in the type of sums: it meets c, which is kept in that.
Tensor output_weight(const CudaCall& call, int d) {
  const int64_t H = call.problem().hidden;
  Tensor w_hh = call.w_hh(d);
  return torch::stable::to(torch::stable::narrow(w_hh, 0, 3 * H, H), reserve_dtype(call.checked()));
}

// W_hh by units, for the way back to h: without the rows that met c.
Tensor recurrent_weight(const CudaCall& call, int d) {
  const Problem& p = call.problem();
  Tensor w_hh = unit_by_unit(call.w_hh(d));
  if (!kCellShapes[p.cell].output_cell) return w_hh;
  w_hh = torch::stable::clone(w_hh);  // a single unit has the same order in both: then it is the caller's own memory
  Tensor rows = torch::stable::select(torch::stable::view(w_hh, {p.hidden, 4, p.output()}), 1, 3);
  torch::stable::fill_(rows, 0.0);
  return w_hh;
}

}  // namespace

void forward_rowwise(const CudaCall& call, int d, ForwardTensors& tensors) {
  const Problem& p = call.problem();
  const int64_t H = p.hidden, P = p.output();
  const bool output_cell = kCellShapes[p.cell].output_cell;
  const Steps steps(call, d);
  const StepwiseLayer& l = steps();
  Tensor recurrent = call.computed({p.batch, 4 * H}), c_state = call.computed({p.batch, H}),
         c_new = call.computed({p.batch, H}), from_c = call.computed({p.batch, H}), h_state = call.stored({p.batch, P});
  Tensor h_input = l.scale ? call.stored({p.batch, P}) : h_state;
  OptionalTensor unprojected, projected, w_ho;
  if (p.projection) unprojected = call.stored({p.batch, H}), projected = call.computed({p.batch, P});
  if (output_cell) w_ho = transposed(output_weight(call, d));
  const StepForward f{tensors.gates[d].mutable_data_ptr(), recurrent.const_data_ptr(),    c_state.mutable_data_ptr(),
                      h_state.mutable_data_ptr(),          h_input.mutable_data_ptr(),    mutable_data(unprojected),
                      tensors.y.mutable_data_ptr(),        mutable_data(tensors.cells[d])};
  const RowwiseForward w{c_new.mutable_data_ptr(), from_c.const_data_ptr()};
  const Tensor w_hh = transposed(unit_by_unit(call.w_hh(d)));
  check_launch(cuda::start_forward(l, f));
  for (int64_t k = 0; k < p.steps; ++k) {
    const int64_t t = steps.time(k);
    const StepPlace at = steps.place(t);
    Tensor product = steps.first_rows(recurrent, t);
    multiply(product, steps.first_rows(h_input, t), w_hh);
    check_launch(cuda::rowwise_gates(l, at, f, w));
    if (output_cell) {
      Tensor seen = steps.first_rows(from_c, t);
      multiply(seen, steps.first_rows(c_new, t), *w_ho);
    }
    check_launch(cuda::rowwise_output(l, at, f, w));
    if (!p.projection) continue;
    Tensor h = steps.first_rows(*projected, t);
    multiply(h, steps.first_rows(*unprojected, t), transposed(call.w_hr(d)));
    check_launch(cuda::project_forward(l, at, f, projected->const_data_ptr()));
  }
  check_launch(cuda::finish_forward(l, f, of_direction(tensors.h_n, d), of_direction(tensors.c_n, d)));
}

void backward_rowwise(const CudaCall& call, int d, BackwardTensors& tensors) {
  const Problem& p = call.problem();
  const CellShape& shape = kCellShapes[p.cell];
  const int64_t H = p.hidden, P = p.output(), B = p.batch;
  const Steps steps(call, d);
  const StepwiseLayer& l = steps();
  Tensor& dgates = tensors.dgates[d];
  Tensor recurrent = call.computed({B, P}), first = call.computed({B, P}), dc = call.computed({B, H}),
         bypass = call.computed({B, H}), bias_sum = call.zeroed({B, 4 * H}),
         param_sum = call.zeroed({B, shape.params * H});
  Tensor dc_new = call.computed({B, H}), past_c = call.computed({B, H}), da_o = call.computed({B, H}),
         through_output = call.computed({B, H}), room = call.computed({B, 4 * H});
  OptionalTensor dunprojected, dscale, x_product, h_product, w_ho;
  tensors.new_cells[d] = call.computed({call.all_rows(), H});
  if (p.projection) dunprojected = call.computed({B, H}), tensors.unprojected[d] = call.stored({call.all_rows(), H});
  if (tensors.dscale) dscale = call.zeroed({B, P});
  if (shape.output_cell) w_ho = output_weight(call, d);
  if (shape.layer_norm) {
    tensors.dgates_h[d] = call.stored({call.all_rows(), 4 * H});
    x_product = call.computed({call.all_rows(), 4 * H}), h_product = call.computed({call.all_rows(), 4 * H});
    multiply(*x_product, call.x(), transposed(unit_by_unit(call.w_ih(d))));
    multiply(*h_product, call.entering_states(d, tensors.in.y), transposed(unit_by_unit(call.w_hh(d))));
  }
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
  const RowwiseBackward w{data(x_product),
                          data(h_product),
                          tensors.new_cells[d]->mutable_data_ptr(),
                          dc_new.mutable_data_ptr(),
                          past_c.mutable_data_ptr(),
                          da_o.mutable_data_ptr(),
                          through_output.const_data_ptr(),
                          room.mutable_data_ptr(),
                          mutable_data(tensors.dgates_h[d]),
                          mutable_data(tensors.unprojected[d])};
  const Tensor w_hh = recurrent_weight(call, d);
  for (int64_t k = p.steps - 1; k >= 0; --k) {
    const int64_t t = steps.time(k);
    const StepPlace at = steps.place(t);
    if (p.projection) {
      check_launch(cuda::project_backward(l, at, g));
      Tensor out = steps.first_rows(*dunprojected, t);
      multiply(out, steps.rows_of(*tensors.dprojected[d], t), call.w_hr(d));
    }
    check_launch(cuda::rowwise_output_backward(l, at, g, w));
    if (shape.output_cell) {
      Tensor out = steps.first_rows(through_output, t);
      multiply(out, steps.first_rows(da_o, t), *w_ho);
    }
    check_launch(cuda::rowwise_gates_backward(l, at, g, w));
    Tensor out = steps.first_rows(recurrent, t);
    multiply(out, steps.rows_of(shape.layer_norm ? *tensors.dgates_h[d] : dgates, t), w_hh);
  }
  if (tensors.dh0 || tensors.dc0 || dscale)
    check_launch(cuda::finish_backward(l, g, of_direction(tensors.dh0, d), of_direction(tensors.dc0, d)));
  const auto sum = [&](const Tensor& from, int64_t rows, int64_t columns, void* to) {
    check_launch(cuda::sum_rows(p.dtype, from.const_data_ptr(), rows, columns, to, call.stream()));
  };
  if (tensors.dbias[d]) sum(bias_sum, B, 4 * H, tensors.dbias[d]->mutable_data_ptr());
  if (tensors.dparams) sum(param_sum, B, shape.params * H, of_direction(tensors.dparams, d));
  if (dscale) sum(*dscale, 1, B * P, of_direction(tensors.dscale, d));
}

}  // namespace fused_lstm
