// The stepwise family for cells that need a whole row; see cuda/rowwise.h.

#include "cuda/rowwise.h"

#include "binding/cuda_runs.h"

namespace fused_lstm {
namespace {

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
  Tensor c_new = call.computed({p.batch, p.hidden}), from_c = call.computed({p.batch, p.hidden});
  OptionalTensor w_ho;
  if (kCellShapes[p.cell].output_cell) w_ho = transposed(output_weight(call, d));
  const ForwardRun run(call, d, tensors);
  const cuda::RowwiseForward w{c_new.mutable_data_ptr(), from_c.const_data_ptr()};
  run.run([&](int64_t t, const cuda::StepPlace& at) {
    check_launch(cuda::rowwise_gates(run.layer(), at, run.pointers(), w));
    if (w_ho) {
      Tensor seen = run.steps().first_rows(from_c, t);
      multiply(seen, run.steps().first_rows(c_new, t), *w_ho);
    }
    check_launch(cuda::rowwise_output(run.layer(), at, run.pointers(), w));
  });
}

void backward_rowwise(const CudaCall& call, int d, BackwardTensors& tensors) {
  const Problem& p = call.problem();
  const CellShape& shape = kCellShapes[p.cell];
  const int64_t H = p.hidden, B = p.batch;
  Tensor dc_new = call.computed({B, H}), past_c = call.computed({B, H}), da_o = call.computed({B, H}),
         through_output = call.computed({B, H}), room = call.computed({B, 4 * H});
  OptionalTensor x_product, h_product, w_ho;
  tensors.new_cells[d] = call.computed({call.all_rows(), H});
  if (p.projection) tensors.unprojected[d] = call.stored({call.all_rows(), H});
  if (shape.output_cell) w_ho = output_weight(call, d);
  if (shape.layer_norm) {
    tensors.dgates_h[d] = call.stored({call.all_rows(), 4 * H});
    x_product = call.computed({call.all_rows(), 4 * H}), h_product = call.computed({call.all_rows(), 4 * H});
    multiply(*x_product, call.x(), transposed(unit_by_unit(call.w_ih(d))));
    multiply(*h_product, call.entering_states(d, tensors.in.y), transposed(unit_by_unit(call.w_hh(d))));
  }
  const BackwardRun run(call, d, tensors);
  const cuda::RowwiseBackward w{data(x_product),
                                data(h_product),
                                tensors.new_cells[d]->mutable_data_ptr(),
                                dc_new.mutable_data_ptr(),
                                past_c.mutable_data_ptr(),
                                da_o.mutable_data_ptr(),
                                through_output.const_data_ptr(),
                                room.mutable_data_ptr(),
                                mutable_data(tensors.dgates_h[d]),
                                mutable_data(tensors.unprojected[d])};
  const Tensor& to_state = shape.layer_norm ? *tensors.dgates_h[d] : tensors.dgates[d];
  run.run(to_state, recurrent_weight(call, d), [&](int64_t t, const cuda::StepPlace& at) {
    check_launch(cuda::rowwise_output_backward(run.layer(), at, run.pointers(), w));
    if (w_ho) {
      Tensor out = run.steps().first_rows(through_output, t);
      multiply(out, run.steps().first_rows(da_o, t), *w_ho);
    }
    check_launch(cuda::rowwise_gates_backward(run.layer(), at, run.pointers(), w));
  });
}

}  // namespace fused_lstm
