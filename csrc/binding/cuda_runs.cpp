#include "binding/cuda_runs.h"

#include "cuda/gather.h"
#include "cuda/stepwise.h"

namespace fused_lstm {

ForwardRun::ForwardRun(const CudaCall& call, int d, ForwardTensors& tensors)
    : call_(call),
      p_(call.problem()),
      d_(d),
      tensors_(tensors),
      steps_(call, d),
      recurrent_(call.computed({p_.batch, 4 * p_.hidden})),
      c_state_(call.computed({p_.batch, p_.hidden})),
      h_state_(call.stored({p_.batch, p_.output()})),
      h_input_(layer().scale ? call.stored({p_.batch, p_.output()}) : h_state_),
      w_hh_(transposed(unit_by_unit(call.w_hh(d)))) {
  if (p_.projection)
    unprojected_ = call.stored({p_.batch, p_.hidden}), projected_ = call.computed({p_.batch, p_.output()});
  f_ = {tensors.gates[d].mutable_data_ptr(), recurrent_.const_data_ptr(),   c_state_.mutable_data_ptr(),
        h_state_.mutable_data_ptr(),         h_input_.mutable_data_ptr(),   mutable_data(unprojected_),
        tensors.y.mutable_data_ptr(),        mutable_data(tensors.cells[d])};
}

void ForwardRun::start() const { check_launch(cuda::start_forward(layer(), f_)); }

void ForwardRun::multiply_state(int64_t t) const {
  Tensor product = steps_.first_rows(recurrent_, t);
  multiply(product, steps_.first_rows(h_input_, t), w_hh_);
}

void ForwardRun::project(int64_t t, const cuda::StepPlace& at) const {
  Tensor h = steps_.first_rows(*projected_, t);
  multiply(h, steps_.first_rows(*unprojected_, t), transposed(call_.w_hr(d_)));
  check_launch(cuda::project_forward(layer(), at, f_, projected_->const_data_ptr()));
}

void ForwardRun::finish() const {
  check_launch(cuda::finish_forward(layer(), f_, of_direction(tensors_.h_n, d_), of_direction(tensors_.c_n, d_)));
}

BackwardRun::BackwardRun(const CudaCall& call, int d, BackwardTensors& tensors)
    : call_(call),
      p_(call.problem()),
      d_(d),
      tensors_(tensors),
      steps_(call, d),
      recurrent_(call.computed({p_.batch, p_.output()})),
      first_(call.computed({p_.batch, p_.output()})),
      dc_(call.computed({p_.batch, p_.hidden})),
      bypass_(call.computed({p_.batch, p_.hidden})),
      bias_sum_(call.zeroed({p_.batch, 4 * p_.hidden})),
      param_sum_(call.zeroed({p_.batch, params() * p_.hidden})) {
  if (p_.projection) dunprojected_ = call.computed({p_.batch, p_.hidden});
  if (tensors.dscale) dscale_ = call.zeroed({p_.batch, p_.output()});
  g_ = {tensors.gates[d].const_data_ptr(),
        tensors.cells[d].const_data_ptr(),
        tensors.in.y.const_data_ptr(),
        data(tensors.in.dy),
        of_direction(tensors.in.dh_n, d),
        of_direction(tensors.in.dc_n, d),
        recurrent_.const_data_ptr(),
        data(dunprojected_),
        mutable_data(tensors.dprojected[d]),
        tensors.dgates[d].mutable_data_ptr(),
        dc_.mutable_data_ptr(),
        bypass_.mutable_data_ptr(),
        bias_sum_.mutable_data_ptr(),
        param_sum_.mutable_data_ptr(),
        mutable_data(dscale_),
        first_.mutable_data_ptr()};
}

void BackwardRun::unproject(int64_t t, const cuda::StepPlace& at) const {
  check_launch(cuda::project_backward(layer(), at, g_));
  Tensor out = steps_.first_rows(*dunprojected_, t);
  multiply(out, steps_.rows_of(*tensors_.dprojected[d_], t), call_.w_hr(d_));
}

void BackwardRun::finish() const {
  if (tensors_.dh0 || tensors_.dc0 || dscale_)
    check_launch(cuda::finish_backward(layer(), g_, of_direction(tensors_.dh0, d_), of_direction(tensors_.dc0, d_)));
  const auto sum = [&](const Tensor& from, int64_t rows, int64_t columns, void* to) {
    check_launch(cuda::sum_rows(p_.dtype, from.const_data_ptr(), rows, columns, to, call_.stream()));
  };
  if (tensors_.dbias[d_]) sum(bias_sum_, p_.batch, 4 * p_.hidden, tensors_.dbias[d_]->mutable_data_ptr());
  if (tensors_.dparams) sum(param_sum_, p_.batch, params() * p_.hidden, of_direction(tensors_.dparams, d_));
  if (dscale_) sum(*dscale_, 1, p_.batch * p_.output(), of_direction(tensors_.dscale, d_));
}

}  // namespace fused_lstm
