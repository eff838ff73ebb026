// The operators on CUDA tensors: the products over all steps are torch's, what runs from step to step is a family's
// (see cuda/plan.h). Never run on hardware so far.
//
// Compiled with FUSED_LSTM_EMULATE_CUDA it registers the same code for CPU tensors as torch.ops.fused_lstm_emulated.*,
// with launches run as loops or under the emulator: that is how tests execute all of it without a GPU.

#include <tuple>

#include "binding/cuda_persistent.h"
#include "binding/cuda_stepwise.h"
#include "binding/products.h"
#include "cell/variants.h"
#include "cuda/gather.h"

namespace fused_lstm {
namespace {

class Forward {
 public:
  ForwardTensors tensors;
  Tensor reserve;

  explicit Forward(const CudaCall& call)
      : tensors{call.stored(sequence_shape(call.checked(), call.directions() * call.problem().output())),
                call.stored({call.directions(), call.problem().batch, call.problem().output()}),
                call.stored({call.directions(), call.problem().batch, call.problem().hidden}),
                {},
                {}},
        // zeros: what padding leaves unwritten must not be whatever memory held
        reserve(
            call.zeroed(call.problem().save_for_backward ? reserve_shape(call.checked()) : std::vector<int64_t>{0})) {
    for (int d = 0; d < call.directions(); ++d) project(call, d);
    if (forward_persistent(call, tensors)) return;
    const bool elementwise = kCellShapes[call.problem().cell].elementwise();
    for (int d = 0; d < call.directions(); ++d)
      elementwise ? forward_stepwise(call, d, tensors) : forward_rowwise(call, d, tensors);
  }

 private:
  // x of all steps into the gates, and where those lie.
  void project(const CudaCall& call, int d) {
    const Problem& p = call.problem();
    tensors.gates[d] = p.keeps_gates() ? call.gates_in(reserve, d) : call.computed({call.all_rows(), 4 * p.hidden});
    if (p.save_for_backward) tensors.cells[d] = call.cells_in(reserve, d);
    multiply(tensors.gates[d], call.x(), transposed(unit_by_unit(call.w_ih(d))));
  }
};

class Backward {
 public:
  Backward(const CudaCall& call, IncomingGradients in, int64_t needs) : call_(call), p_(call.problem()), needs_(needs) {
    // launches take these as they lie in memory
    in.y = torch::stable::contiguous(in.y);
    if (in.dy) in.dy = torch::stable::contiguous(*in.dy);
    t_.in = std::move(in);
    allocate();
    const bool elementwise = kCellShapes[p_.cell].elementwise(), persistent = backward_persistent(call, t_);
    for (int d = 0; d < call.directions(); ++d) {
      if (persistent)
        sum_biases(d);
      else
        elementwise ? backward_stepwise(call, d, t_) : backward_rowwise(call, d, t_);
    }
    for (int d = 0; d < call.directions(); ++d) over_all_steps(d);
  }

  std::vector<Tensor> gradients() const {
    std::vector<Tensor> all;
    const auto append = [&](const OptionalTensor& t) {
      if (t) all.push_back(*t);
    };
    if (dx_) all.push_back(torch::stable::view(*dx_, sequence_shape(call_.checked(), p_.input)));
    append(t_.dh0), append(t_.dc0);
    for (const OptionalTensor(*each)[2] : {&dw_ih_, &dw_hh_, &t_.dbias, &dw_hr_})
      for (int d = 0; d < p_.directions(); ++d) append((*each)[d]);
    append(t_.dscale), append(t_.dparams);
    return all;
  }

 private:
  const CudaCall& call_;
  const Problem& p_;
  const int64_t needs_;
  BackwardTensors t_;
  OptionalTensor alive_x_, dx_, dw_ih_[2], dw_hh_[2], dw_hr_[2];

  OptionalTensor wanted(int64_t bit, const std::vector<int64_t>& shape) const {
    return needs_ & bit ? OptionalTensor(call_.stored(shape)) : std::nullopt;
  }

  void allocate() {
    const int64_t D = p_.directions();
    t_.dh0 = wanted(kH0, {D, p_.batch, p_.output()});
    t_.dc0 = wanted(kC0, {D, p_.batch, p_.hidden});
    t_.dscale = wanted(kRecurrentScale, {D, p_.batch, p_.output()});
    t_.dparams = wanted(kCellParams, {D, kCellShapes[p_.cell].params, p_.hidden});
    for (int d = 0; d < D; ++d) {
      t_.cells[d] = call_.cells_in(t_.in.reserve, d);
      t_.gates[d] = p_.recompute ? gates_again(d) : call_.gates_in(t_.in.reserve, d);
      t_.dgates[d] = call_.stored({call_.all_rows(), 4 * p_.hidden});
      t_.dbias[d] = wanted(kBias, {4 * p_.hidden});
      if (p_.projection) t_.dprojected[d] = call_.stored({call_.all_rows(), p_.projection});
    }
  }

  // The kernels over all steps leave sums to a product with ones, whose order is fixed.
  void sum_biases(int d) {
    if (!t_.dbias[d]) return;
    Tensor ones = call_.stored({1, call_.all_rows()});
    torch::stable::fill_(ones, 1.0);
    Tensor sum = call_.stored({1, 4 * p_.hidden});
    multiply(sum, ones, t_.dgates[d]);
    t_.dbias[d] = torch::stable::view(gate_by_gate(torch::stable::view(sum, {4 * p_.hidden, 1})), {4 * p_.hidden});
  }

  // What forward did not keep: every state is known, so no step waits for another.
  Tensor gates_again(int d) const {
    const LayerInputs& in = call_.checked().inputs;
    const LayerTensors& t = call_.checked().tensors;
    Tensor gates = call_.computed({call_.all_rows(), 4 * p_.hidden});
    Tensor recurrent = call_.computed({call_.all_rows(), 4 * p_.hidden});
    multiply(gates, call_.x(), transposed(unit_by_unit(call_.w_ih(d))));
    multiply(recurrent, call_.entering_states(d, t_.in.y), transposed(unit_by_unit(call_.w_hh(d))));
    const cuda::CellLayout cell{p_.cell,
                                p_.cell_clip,
                                in.weights[d].b_ih,
                                in.weights[d].b_hh,
                                of_direction(t.cell_params, d),
                                of_direction(t.cell_inputs, d),
                                of_direction(t.c0, d)};
    check_launch(cuda::activate_gates(call_.states(d), cell, t_.cells[d].const_data_ptr(), recurrent.const_data_ptr(),
                                      gates.mutable_data_ptr(), call_.stream()));
    return gates;
  }

  // A product with the gates' gradients, in the order of nn.LSTM's weights.
  Tensor times(const Tensor& dgates, const Tensor& other) const {
    Tensor product = call_.stored({4 * p_.hidden, other.size(1)});
    multiply(product, transposed(dgates), other);
    return gate_by_gate(product);
  }

  // The last H rows of dW_hh, where those met c instead of h.
  void replace_output_rows(int d) {
    const Tensor all = torch::stable::view(t_.dgates[d], {call_.all_rows(), p_.hidden, 4});
    const ScalarType wide = t_.new_cells[d]->scalar_type();
    const Tensor da_o = torch::stable::to(torch::stable::contiguous(torch::stable::select(all, 2, 3)), wide);
    Tensor product = call_.computed({p_.hidden, p_.hidden});
    multiply(product, transposed(da_o), *t_.new_cells[d]);
    Tensor rows = torch::stable::narrow(*dw_hh_[d], 0, 3 * p_.hidden, p_.hidden);
    torch::stable::copy_(rows, product);
  }

  // x without what its padding holds, which may be anything, NaN too.
  const Tensor& alive_x() {
    if (!call_.checked().lengths) return call_.x();
    if (!alive_x_) {
      alive_x_ = call_.stored({call_.all_rows(), p_.input});
      check_launch(cuda::gather_alive(call_.states(0), call_.x().const_data_ptr(), p_.input,
                                      alive_x_->mutable_data_ptr(), call_.stream()));
    }
    return *alive_x_;
  }

  void over_all_steps(int d) {
    if (needs_ & kWih) dw_ih_[d] = times(t_.dgates[d], alive_x());
    if (needs_ & kWhh) {
      dw_hh_[d] = times(t_.dgates_h[d] ? *t_.dgates_h[d] : t_.dgates[d], call_.entering_states(d, t_.in.y));
      if (kCellShapes[p_.cell].output_cell) replace_output_rows(d);
    }
    if (needs_ & kWhr) {
      const Tensor m = unprojected(d);
      dw_hr_[d] = call_.stored({p_.projection, p_.hidden});
      multiply(*dw_hr_[d], transposed(*t_.dprojected[d]), m);
    }
    if (needs_ & kX) add_dx(d);
  }

  Tensor unprojected(int d) const {
    if (t_.unprojected[d]) return *t_.unprojected[d];
    Tensor m = call_.stored({call_.all_rows(), p_.hidden});
    check_launch(cuda::gather_unprojected(call_.states(d), t_.gates[d].const_data_ptr(), t_.cells[d].const_data_ptr(),
                                          m.mutable_data_ptr(), call_.stream()));
    return m;
  }

  void add_dx(int d) {
    Tensor part = call_.stored({call_.all_rows(), p_.input});
    multiply(part, t_.dgates[d], unit_by_unit(call_.w_ih(d)));
    if (d == 0)
      dx_ = part;
    else
      check_launch(cuda::add(p_.dtype, part.const_data_ptr(), dx_->mutable_data_ptr(), call_.all_rows() * p_.input,
                             call_.stream()));
  }
};

std::tuple<Tensor, Tensor, Tensor, Tensor> lstm_layer(Tensor x, OptionalTensor h0, OptionalTensor c0,
                                                      std::vector<Tensor> weights, OptionalTensor batch_sizes,
                                                      OptionalTensor lengths, OptionalTensor resets,
                                                      OptionalTensor recurrent_scale, OptionalTensor cell_params,
                                                      OptionalTensor cell_inputs, int64_t cell, int64_t direction,
                                                      bool batch_first, bool save, bool allow_tf32, double cell_clip,
                                                      double proj_clip, bool recompute) {
  const CudaCall call(
      check_layer({x, h0, c0, std::move(weights), batch_sizes, lengths, resets, recurrent_scale, cell_params,
                   cell_inputs, cell, direction, batch_first, allow_tf32, cell_clip, proj_clip, recompute},
                  save, Lengths::kOnDevice));
  const Forward forward(call);
  return {forward.tensors.y, forward.tensors.h_n, forward.tensors.c_n, forward.reserve};
}

std::vector<Tensor> lstm_layer_backward(OptionalTensor dy, OptionalTensor dh_n, OptionalTensor dc_n, Tensor x,
                                        OptionalTensor h0, OptionalTensor c0, std::vector<Tensor> weights,
                                        OptionalTensor batch_sizes, OptionalTensor lengths, OptionalTensor resets,
                                        OptionalTensor recurrent_scale, OptionalTensor cell_params,
                                        OptionalTensor cell_inputs, Tensor y, Tensor reserve, int64_t cell,
                                        int64_t direction, bool batch_first, int64_t needs, bool allow_tf32,
                                        double cell_clip, double proj_clip, bool recompute) {
  const CudaCall call(
      check_layer({x, h0, c0, std::move(weights), batch_sizes, lengths, resets, recurrent_scale, cell_params,
                   cell_inputs, cell, direction, batch_first, allow_tf32, cell_clip, proj_clip, recompute},
                  true, Lengths::kOnDevice));
  return Backward(call, check_backward(call.checked(), dy, dh_n, dc_n, y, reserve, needs), needs).gradients();
}

}  // namespace

#ifdef FUSED_LSTM_EMULATE_CUDA
STABLE_TORCH_LIBRARY_IMPL(fused_lstm_emulated, CPU, m) {
#else
STABLE_TORCH_LIBRARY_IMPL(fused_lstm, CUDA, m) {
#endif
  m.impl("lstm_layer", TORCH_BOX(&lstm_layer));
  m.impl("lstm_layer_backward", TORCH_BOX(&lstm_layer_backward));
}

#ifdef FUSED_LSTM_EMULATE_CUDA
STABLE_TORCH_LIBRARY_IMPL(fused_lstm_emulated, CompositeExplicitAutograd, m) {
#else
STABLE_TORCH_LIBRARY_IMPL(fused_lstm, CompositeExplicitAutograd, m) {
#endif
  m.impl("cuda_served", TORCH_BOX(&served_calls));
}

}  // namespace fused_lstm
