#pragma once
// One direction step by step: the tensors that every cell's steps share, and the products around a step. What a cell
// launches in between is the caller's.

#include "binding/cuda_steps.h"
#include "binding/cuda_stepwise.h"
#include "binding/products.h"
#include "cell/variants.h"

namespace fused_lstm {

class ForwardRun {
 public:
  ForwardRun(const CudaCall& call, int d, ForwardTensors& tensors);

  const Steps& steps() const { return steps_; }
  const cuda::StepwiseLayer& layer() const { return steps_(); }
  const cuda::StepForward& pointers() const { return f_; }

  // cell(t, at): between W_hh h and the projection.
  template <class Cell>
  void run(const Cell& cell) const {
    start();
    for (int64_t k = 0; k < p_.steps; ++k) {
      const int64_t t = steps_.time(k);
      const cuda::StepPlace at = steps_.place(t);
      multiply_state(t);
      cell(t, at);
      if (p_.projection) project(t, at);
    }
    finish();
  }

 private:
  const CudaCall& call_;
  const Problem& p_;
  const int d_;
  ForwardTensors& tensors_;
  const Steps steps_;
  Tensor recurrent_, c_state_, h_state_, h_input_, w_hh_;
  OptionalTensor unprojected_, projected_;
  cuda::StepForward f_;

  void start() const;
  void multiply_state(int64_t t) const;
  void project(int64_t t, const cuda::StepPlace& at) const;
  void finish() const;
};

class BackwardRun {
 public:
  BackwardRun(const CudaCall& call, int d, BackwardTensors& tensors);

  const Steps& steps() const { return steps_; }
  const cuda::StepwiseLayer& layer() const { return steps_(); }
  const cuda::StepBackward& pointers() const { return g_; }

  // cell(t, at): between the projection and the way through W_hh, which `to_state` (t, b) x [4H] takes with `w_hh`.
  template <class Cell>
  void run(const Tensor& to_state, const Tensor& w_hh, const Cell& cell) const {
    for (int64_t k = p_.steps - 1; k >= 0; --k) {
      const int64_t t = steps_.time(k);
      const cuda::StepPlace at = steps_.place(t);
      if (p_.projection) unproject(t, at);
      cell(t, at);
      Tensor out = steps_.first_rows(recurrent_, t);
      multiply(out, steps_.rows_of(to_state, t), w_hh);
    }
    finish();
  }

 private:
  const CudaCall& call_;
  const Problem& p_;
  const int d_;
  BackwardTensors& tensors_;
  const Steps steps_;
  Tensor recurrent_, first_, dc_, bypass_, bias_sum_, param_sum_;
  OptionalTensor dunprojected_, dscale_;
  cuda::StepBackward g_;

  int64_t params() const { return kCellShapes[p_.cell].params; }
  void unproject(int64_t t, const cuda::StepPlace& at) const;
  void finish() const;
};

}  // namespace fused_lstm
