#pragma once
// One direction of a call as the launches of single steps see it.

#include "binding/cuda_call.h"
#include "cuda/stepwise.h"

namespace fused_lstm {

class Steps {
 public:
  Steps(const CudaCall& call, int d) : call_(call), p_(call.problem()), d_(d), layer_(layer()) {}

  const cuda::StepwiseLayer& operator()() const { return layer_; }
  int64_t time(int64_t k) const { return p_.reversed(d_) ? p_.steps - 1 - k : k; }

  cuda::StepPlace place(int64_t t) const {
    const int64_t back = p_.reversed(d_) ? 1 : -1;
    return {t, count(t), base(t), base(t + back), base(t - back), count(t + back), count(t - back)};
  }
  // Rows of step t of a tensor [all rows, columns].
  Tensor rows_of(const Tensor& t, int64_t step) const {
    if (!call_.checked().batch_first) {
      Tensor copy = t;
      return torch::stable::narrow(copy, 0, base(step), count(step));
    }
    return torch::stable::select(torch::stable::view(t, {p_.batch, p_.steps, t.size(1)}), 1, step);
  }
  Tensor first_rows(const Tensor& t, int64_t step) const {
    Tensor copy = t;
    return torch::stable::narrow(copy, 0, 0, count(step));
  }

 private:
  const CudaCall& call_;
  const Problem& p_;
  int d_;
  cuda::StepwiseLayer layer_;

  bool within(int64_t t) const { return t >= 0 && t < p_.steps; }
  int64_t count(int64_t t) const { return within(t) ? call_.checked().rows->count(t) : 0; }
  int64_t base(int64_t t) const {
    if (call_.checked().packed) return within(t) ? call_.checked().rows->compact(t, 0) : 0;
    return call_.checked().batch_first ? t : t * p_.batch;
  }

  cuda::StepwiseLayer layer() const {
    const LayerInputs& in = call_.checked().inputs;
    const LayerTensors& t = call_.checked().tensors;
    return {p_.steps,
            p_.batch,
            p_.hidden,
            p_.output(),
            p_.directions() * p_.output(),
            d_ * p_.output(),
            call_.row_stride(),
            p_.reversed(d_),
            p_.projection > 0,
            p_.bias,
            p_.cell,
            p_.cell_clip,
            p_.proj_clip,
            p_.dtype,
            call_.checked().lengths,
            call_.resets(),
            in.weights[d_].b_ih,
            in.weights[d_].b_hh,
            of_direction(t.recurrent_scale, d_),
            of_direction(t.cell_params, d_),
            of_direction(t.cell_inputs, d_),
            of_direction(t.h0, d_),
            of_direction(t.c0, d_),
            call_.stream()};
  }
};

}  // namespace fused_lstm
