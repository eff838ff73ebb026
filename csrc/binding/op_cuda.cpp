// The operators on CUDA tensors, stepwise: torch's products, our launches between them. Never run on hardware so far.
//
// Compiled with FUSED_LSTM_EMULATE_CUDA it registers the same code for CPU tensors as torch.ops.fused_lstm_emulated.*,
// with the launches run as loops: that is how tests execute all of it without a GPU.

#include <array>
#include <tuple>

#include "binding/checks.h"
#include "cell/variants.h"
#include "cuda/stepwise.h"

#ifndef FUSED_LSTM_EMULATE_CUDA
#include <torch/csrc/stable/accelerator.h>
extern "C" AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device_index, void** stream);
#endif

namespace fused_lstm {
namespace {

namespace sd = torch::stable::detail;
using cuda::StepBackward;
using cuda::StepForward;
using cuda::StepPlace;
using cuda::StepwiseLayer;

void check(const char* error) { FUSED_LSTM_CHECK(!error, "fused_lstm: a CUDA launch failed: ", error ? error : ""); }

#ifdef FUSED_LSTM_EMULATE_CUDA
struct OnDevice {
  explicit OnDevice(const Tensor&) {}
  cuda::Stream stream() const { return nullptr; }
};
#else
class OnDevice {
 public:
  explicit OnDevice(const Tensor& x) : index_(x.get_device_index()), guard_(index_) {}
  cuda::Stream stream() const {
    void* stream = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(index_, &stream));
    return static_cast<cuda::Stream>(stream);
  }

 private:
  int32_t index_;
  torch::stable::accelerator::DeviceGuard guard_;
};
#endif

// out = a * b. Where out is wider than a and b, the product is kept in float all the way.
void multiply(Tensor& out, const Tensor& a, const Tensor& b) {
  if (out.scalar_type() == a.scalar_type()) {
    std::array<StableIValue, 3> stack{sd::from(a), sd::from(b), sd::from(out)};
    TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::mm", "out", stack.data(), TORCH_ABI_VERSION));
    (void)sd::to<Tensor>(stack[0]);
    return;
  }
#ifdef FUSED_LSTM_EMULATE_CUDA  // torch has this overload for CUDA only
  multiply(out, torch::stable::to(a, out.scalar_type()), torch::stable::to(b, out.scalar_type()));
#else
  std::array<StableIValue, 4> stack{sd::from(a), sd::from(b), sd::from(out.scalar_type()), sd::from(out)};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::mm", "dtype_out", stack.data(), TORCH_ABI_VERSION));
  (void)sd::to<Tensor>(stack[0]);
#endif
}

Tensor transposed(const Tensor& t) { return torch::stable::transpose(t, 0, 1); }
const void* data(const OptionalTensor& t) { return t ? t->const_data_ptr() : nullptr; }
void* mutable_data(OptionalTensor& t) { return t ? t->mutable_data_ptr() : nullptr; }
// Row d of a tensor over directions.
const void* of_direction(const OptionalTensor& t, int d) {
  return t ? torch::stable::select(*t, 0, d).const_data_ptr() : nullptr;
}

// One call: what forward and backward have in common.
class Stepwise {
 public:
  explicit Stepwise(const LayerCall& call)
      : call_(call),
        p_(call.problem),
        device_(call.tensors.x),
        storage_(call.tensors.x.scalar_type()),
        compute_(reserve_dtype(call)),
        x_(torch::stable::view(torch::stable::contiguous(call.tensors.x), {call.rows->capacity(), p_.input})) {}

  const Tensor& x() const { return x_; }
  int64_t all_rows() const { return call_.rows->capacity(); }

  Tensor stored(const std::vector<int64_t>& shape) const { return torch::stable::new_empty(x_, shape, storage_); }
  Tensor computed(const std::vector<int64_t>& shape) const { return torch::stable::new_empty(x_, shape, compute_); }
  Tensor zeroed(const std::vector<int64_t>& shape) const { return torch::stable::new_zeros(x_, shape, compute_); }

  const Tensor& weight(int d, int k) const {
    return call_.tensors.weights[d * call_.tensors.weights.size() / p_.directions() + k];
  }
  const Tensor& w_hr(int d) const { return weight(d, p_.bias ? 4 : 2); }

  StepwiseLayer layer(int d) const {
    const LayerInputs& in = call_.inputs;
    const LayerTensors& t = call_.tensors;
    return {p_.steps,
            p_.batch,
            p_.hidden,
            p_.output(),
            p_.directions() * p_.output(),
            d * p_.output(),
            call_.batch_first ? p_.steps : 1,
            p_.reversed(d),
            p_.projection > 0,
            p_.bias,
            p_.cell,
            p_.dtype,
            call_.lengths,
            static_cast<const unsigned char*>(data(resets_)),
            in.weights[d].b_ih,
            in.weights[d].b_hh,
            of_direction(t.recurrent_scale, d),
            of_direction(t.cell_params, d),
            of_direction(t.cell_inputs, d),
            of_direction(t.h0, d),
            of_direction(t.c0, d),
            device_.stream()};
  }

  int64_t rows_at(int64_t t) const { return t < 0 || t >= p_.steps ? 0 : call_.rows->count(t); }
  int64_t base(int64_t t) const {
    if (call_.packed) return t < 0 || t >= p_.steps ? 0 : call_.rows->compact(t, 0);
    return call_.batch_first ? t : t * p_.batch;
  }
  StepPlace place(int d, int64_t t) const {
    const int64_t back = p_.reversed(d) ? 1 : -1;
    return {t, rows_at(t), base(t), base(t + back), base(t - back), rows_at(t + back), rows_at(t - back)};
  }
  int64_t step(int d, int64_t k) const { return p_.reversed(d) ? p_.steps - 1 - k : k; }

  // Rows of step t of a tensor [all rows, columns].
  Tensor rows_of(const Tensor& t, int64_t step) const {
    const int64_t columns = t.size(1);
    if (!call_.batch_first) {
      Tensor copy = t;
      return torch::stable::narrow(copy, 0, base(step), rows_at(step));
    }
    return torch::stable::select(torch::stable::view(t, {p_.batch, p_.steps, columns}), 1, step);
  }
  Tensor first_rows(const Tensor& t, int64_t step) const {
    Tensor copy = t;
    return torch::stable::narrow(copy, 0, 0, rows_at(step));
  }

  // Parts of the reserve: gates [all rows, 4H], then cells [all rows, H], for each direction.
  Tensor reserved(const Tensor& reserve, int d, bool cells) const {
    const int64_t gates = all_rows() * 4 * p_.hidden, states = all_rows() * p_.hidden;
    Tensor flat = torch::stable::view(reserve, {reserve.numel()});
    const int64_t begin = cells ? p_.directions() * gates + d * states : d * gates;
    return torch::stable::view(torch::stable::narrow(flat, 0, begin, cells ? states : gates),
                               {all_rows(), (cells ? 1 : 4) * p_.hidden});
  }

 protected:
  const LayerCall& call_;
  const Problem& p_;
  OnDevice device_;
  ScalarType storage_, compute_;
  Tensor x_;
  OptionalTensor resets_ =
      call_.tensors.resets ? OptionalTensor(torch::stable::contiguous(*call_.tensors.resets)) : std::nullopt;
};

class Forward : public Stepwise {
 public:
  Tensor y, h_n, c_n, reserve;

  explicit Forward(const LayerCall& call)
      : Stepwise(call),
        y(stored(sequence_shape(call, p_.directions() * p_.output()))),
        h_n(stored({p_.directions(), p_.batch, p_.output()})),
        c_n(stored({p_.directions(), p_.batch, p_.hidden})),
        // zeros: what padding leaves unwritten must not be whatever memory held
        reserve(zeroed(p_.save_for_backward ? reserve_shape(call) : std::vector<int64_t>{0})) {
    for (int d = 0; d < p_.directions(); ++d) run(d);
  }

 private:
  void run(int d) {
    const int64_t H = p_.hidden, P = p_.output();
    const StepwiseLayer l = layer(d);
    const bool save = p_.save_for_backward;
    Tensor gates = save ? reserved(reserve, d, false) : computed({all_rows(), 4 * H});
    Tensor recurrent = computed({p_.batch, 4 * H}), c_state = computed({p_.batch, H}), h_state = stored({p_.batch, P});
    Tensor h_input = l.scale ? stored({p_.batch, P}) : h_state;
    OptionalTensor unprojected, projected, cells;
    if (p_.projection) unprojected = stored({p_.batch, H}), projected = computed({p_.batch, P});
    if (save) cells = reserved(reserve, d, true);
    const StepForward f{gates.mutable_data_ptr(),   recurrent.const_data_ptr(), c_state.mutable_data_ptr(),
                        h_state.mutable_data_ptr(), h_input.mutable_data_ptr(), mutable_data(unprojected),
                        y.mutable_data_ptr(),       mutable_data(cells)};
    multiply(gates, x(), transposed(weight(d, 0)));
    check(cuda::start_forward(l, f));
    for (int64_t k = 0; k < p_.steps; ++k) {
      const int64_t t = step(d, k);
      const StepPlace at = place(d, t);
      Tensor product = first_rows(recurrent, t);
      multiply(product, first_rows(h_input, t), transposed(weight(d, 1)));
      check(cuda::step_forward(l, at, f));
      if (!p_.projection) continue;
      Tensor h = first_rows(*projected, t);
      multiply(h, first_rows(*unprojected, t), transposed(w_hr(d)));
      check(cuda::project_forward(l, at, f, projected->const_data_ptr()));
    }
    check(cuda::finish_forward(l, f, torch::stable::select(h_n, 0, d).mutable_data_ptr(),
                               torch::stable::select(c_n, 0, d).mutable_data_ptr()));
  }
};

class Backward : public Stepwise {
 public:
  Backward(const LayerCall& call, IncomingGradients in, int64_t needs) : Stepwise(call), in_(std::move(in)) {
    // launches take these as they lie in memory
    in_.y = torch::stable::contiguous(in_.y);
    if (in_.dy) in_.dy = torch::stable::contiguous(*in_.dy);
    const auto wanted = [&](int64_t bit, const std::vector<int64_t>& shape) {
      return needs & bit ? OptionalTensor(stored(shape)) : std::nullopt;
    };
    const int64_t D = p_.directions();
    dx_ = wanted(kX, {all_rows(), p_.input});
    dh0_ = wanted(kH0, {D, p_.batch, p_.output()});
    dc0_ = wanted(kC0, {D, p_.batch, p_.hidden});
    dscale_ = wanted(kRecurrentScale, {D, p_.batch, p_.output()});
    dparams_ = wanted(kCellParams, {D, kCellShapes[p_.cell].params, p_.hidden});
    for (int d = 0; d < D; ++d) {
      dw_ih_[d] = wanted(kWih, {4 * p_.hidden, p_.input});
      dw_hh_[d] = wanted(kWhh, {4 * p_.hidden, p_.output()});
      dbias_[d] = wanted(kBias, {4 * p_.hidden});
      dw_hr_[d] = wanted(kWhr, {p_.projection, p_.hidden});
      run(d);
    }
  }

  std::vector<Tensor> gradients() const {
    std::vector<Tensor> all;
    const auto append = [&](const OptionalTensor& t) {
      if (t) all.push_back(*t);
    };
    if (dx_) all.push_back(torch::stable::view(*dx_, sequence_shape(call_, p_.input)));
    append(dh0_), append(dc0_);
    for (const OptionalTensor(*each)[2] : {&dw_ih_, &dw_hh_, &dbias_, &dw_hr_})
      for (int d = 0; d < p_.directions(); ++d) append((*each)[d]);
    append(dscale_), append(dparams_);
    return all;
  }

 private:
  IncomingGradients in_;
  OptionalTensor dx_, dh0_, dc0_, dscale_, dparams_, dw_ih_[2], dw_hh_[2], dbias_[2], dw_hr_[2];

  void run(int d) {
    const int64_t H = p_.hidden, P = p_.output(), B = p_.batch, params = kCellShapes[p_.cell].params;
    const StepwiseLayer l = layer(d);
    Tensor gates = reserved(in_.reserve, d, false), cells = reserved(in_.reserve, d, true);
    Tensor dgates = stored({all_rows(), 4 * H}), recurrent = computed({B, P}), first = computed({B, P});
    Tensor dc = computed({B, H}), bypass = computed({B, H}), bias_sum = zeroed({B, 4 * H}),
           param_sum = zeroed({B, params * H});
    OptionalTensor dprojected, dunprojected, dscale;
    if (p_.projection) dprojected = stored({all_rows(), P}), dunprojected = computed({B, H});
    if (dscale_) dscale = zeroed({B, P});
    const StepBackward g{gates.const_data_ptr(),      cells.const_data_ptr(),
                         in_.y.const_data_ptr(),      data(in_.dy),
                         of_direction(in_.dh_n, d),   of_direction(in_.dc_n, d),
                         recurrent.const_data_ptr(),  data(dunprojected),
                         mutable_data(dprojected),    dgates.mutable_data_ptr(),
                         dc.mutable_data_ptr(),       bypass.mutable_data_ptr(),
                         bias_sum.mutable_data_ptr(), param_sum.mutable_data_ptr(),
                         mutable_data(dscale),        first.mutable_data_ptr()};
    for (int64_t k = p_.steps - 1; k >= 0; --k) {
      const int64_t t = step(d, k);
      const StepPlace at = place(d, t);
      if (p_.projection) {
        check(cuda::project_backward(l, at, g));
        Tensor out = first_rows(*dunprojected, t);
        multiply(out, rows_of(*dprojected, t), w_hr(d));
      }
      check(cuda::step_backward(l, at, g));
      Tensor out = first_rows(recurrent, t);
      multiply(out, rows_of(dgates, t), weight(d, 1));
    }
    if (dh0_ || dc0_ || dscale)
      check(cuda::finish_backward(l, g, dh0_ ? torch::stable::select(*dh0_, 0, d).mutable_data_ptr() : nullptr,
                                  dc0_ ? torch::stable::select(*dc0_, 0, d).mutable_data_ptr() : nullptr));
    if (dbias_[d]) check(cuda::sum_rows(l, bias_sum.const_data_ptr(), B, 4 * H, dbias_[d]->mutable_data_ptr()));
    if (dparams_)
      check(cuda::sum_rows(l, param_sum.const_data_ptr(), B, params * H,
                           torch::stable::select(*dparams_, 0, d).mutable_data_ptr()));
    if (dscale)
      check(cuda::sum_rows(l, dscale->const_data_ptr(), 1, B * P,
                           torch::stable::select(*dscale_, 0, d).mutable_data_ptr()));
    over_all_steps(l, d, dgates, dprojected, gates, cells);
  }

  void over_all_steps(const StepwiseLayer& l, int d, const Tensor& dgates, const OptionalTensor& dprojected,
                      const Tensor& gates, const Tensor& cells) {
    if (dw_ih_[d]) multiply(*dw_ih_[d], transposed(dgates), x());
    if (dw_hh_[d]) {
      Tensor h = stored({all_rows(), p_.output()});
      for (int64_t t = 0; t < p_.steps; ++t)
        check(cuda::gather_h_input(l, place(d, t), in_.y.const_data_ptr(), h.mutable_data_ptr()));
      multiply(*dw_hh_[d], transposed(dgates), h);
    }
    if (dw_hr_[d]) {
      Tensor m = stored({all_rows(), p_.hidden});
      for (int64_t t = 0; t < p_.steps; ++t)
        check(cuda::gather_unprojected(l, place(d, t), gates.const_data_ptr(), cells.const_data_ptr(),
                                       m.mutable_data_ptr()));
      multiply(*dw_hr_[d], transposed(*dprojected), m);
    }
    if (!dx_) return;
    if (d == 0) return multiply(*dx_, dgates, weight(d, 0));
    Tensor other = stored({all_rows(), p_.input});
    multiply(other, dgates, weight(d, 0));
    check(cuda::add(l, other.const_data_ptr(), dx_->mutable_data_ptr(), all_rows() * p_.input));
  }
};

std::tuple<Tensor, Tensor, Tensor, Tensor> lstm_layer(Tensor x, OptionalTensor h0, OptionalTensor c0,
                                                      std::vector<Tensor> weights, OptionalTensor batch_sizes,
                                                      OptionalTensor lengths, OptionalTensor resets,
                                                      OptionalTensor recurrent_scale, OptionalTensor cell_params,
                                                      OptionalTensor cell_inputs, int64_t cell, int64_t direction,
                                                      bool batch_first, bool save) {
  const LayerCall call = check_layer({x, h0, c0, std::move(weights), batch_sizes, lengths, resets, recurrent_scale,
                                      cell_params, cell_inputs, cell, direction, batch_first},
                                     save, Lengths::kOnDevice);
  const Forward forward(call);
  return {forward.y, forward.h_n, forward.c_n, forward.reserve};
}

std::vector<Tensor> lstm_layer_backward(OptionalTensor dy, OptionalTensor dh_n, OptionalTensor dc_n, Tensor x,
                                        OptionalTensor h0, OptionalTensor c0, std::vector<Tensor> weights,
                                        OptionalTensor batch_sizes, OptionalTensor lengths, OptionalTensor resets,
                                        OptionalTensor recurrent_scale, OptionalTensor cell_params,
                                        OptionalTensor cell_inputs, Tensor y, Tensor reserve, int64_t cell,
                                        int64_t direction, bool batch_first, int64_t needs) {
  const LayerCall call = check_layer({x, h0, c0, std::move(weights), batch_sizes, lengths, resets, recurrent_scale,
                                      cell_params, cell_inputs, cell, direction, batch_first},
                                     true, Lengths::kOnDevice);
  return Backward(call, check_backward(call, dy, dh_n, dc_n, y, reserve, needs), needs).gradients();
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

}  // namespace fused_lstm
