#pragma once
// One call of a CUDA operator: its tensors by role, where its rows lie, memory of its own, and who shall serve it.

#include <vector>

#include "binding/checks.h"
#include "cuda/elementwise.h"
#include "cuda/gather.h"
#include "cuda/plan.h"
#include "cuda/recurrence.h"

#ifndef FUSED_LSTM_EMULATE_CUDA
#include <torch/csrc/stable/accelerator.h>
#endif

namespace fused_lstm {

void check_launch(const char* error);

// Makes x's device the current one for as long as it lives.
#ifdef FUSED_LSTM_EMULATE_CUDA
class OnDevice {
 public:
  explicit OnDevice(const Tensor&) {}
  int index() const { return 0; }
  cuda::Stream stream() const { return nullptr; }
};
#else
class OnDevice {
 public:
  explicit OnDevice(const Tensor& x) : index_(x.get_device_index()), guard_(index_) {}
  int index() const { return index_; }
  cuda::Stream stream() const;

 private:
  int32_t index_;
  torch::stable::accelerator::DeviceGuard guard_;
};
#endif

class CudaCall {
 public:
  explicit CudaCall(LayerCall checked);

  const Problem& problem() const { return call_.problem; }
  const LayerCall& checked() const { return call_; }
  cuda::Stream stream() const { return device_.stream(); }
  int64_t all_rows() const { return call_.rows->capacity(); }
  int directions() const { return problem().directions(); }

  // --- who serves ----------------------------------------------------------------------------------------------------
  cuda::Choice choose(cuda::Pass pass) const;
  // A launch was refused: says so once, and lets stepwise serve what would take the same kernel from now on.
  void give_up(cuda::Pass pass, const cuda::Choice& choice, const char* why) const;
  // Who served, for served_calls.
  static void count(cuda::Pass pass, cuda::Family family);

  // --- tensors -------------------------------------------------------------------------------------------------------
  const Tensor& x() const { return x_; }  // [all rows, I]
  Tensor weight(int d, int k) const { return call_.tensors.weights[d * weights_each() + k]; }
  Tensor w_ih(int d) const { return weight(d, 0); }
  Tensor w_hh(int d) const { return weight(d, 1); }
  Tensor w_hr(int d) const { return weight(d, problem().bias ? 4 : 2); }

  Tensor stored(const std::vector<int64_t>& shape) const;    // of x's type
  Tensor computed(const std::vector<int64_t>& shape) const;  // of the type of sums
  Tensor zeroed(const std::vector<int64_t>& shape) const;    // likewise, zeros
  Tensor zero_bytes(int64_t n) const;

  // Parts of the reserve: gates [all rows, 4H] (with recompute none), then cells [all rows, H], for each direction.
  Tensor gates_in(const Tensor& reserve, int d) const;
  Tensor cells_in(const Tensor& reserve, int d) const;

  // --- rows and steps ------------------------------------------------------------------------------------------------
  // As kernels over all steps see them; packed rows bring two small uploads.
  const cuda::RecurrenceRows& rows() const;
  int64_t row_stride() const { return call_.batch_first ? problem().steps : 1; }
  const unsigned char* resets() const;
  // h as it entered each step of direction d, scaled: [all rows, P].
  cuda::StatesLayout states(int d) const;
  Tensor entering_states(int d, const Tensor& y) const;

 private:
  LayerCall call_;
  OnDevice device_;
  ScalarType storage_, compute_;
  Tensor x_;
  OptionalTensor resets_;
  mutable OptionalTensor packed_;  // lengths [B], offsets [T]
  mutable cuda::RecurrenceRows rows_{};
  mutable bool has_rows_ = false;

  size_t weights_each() const { return call_.tensors.weights.size() / directions(); }
  cuda::Question question() const;
  void upload_packed() const;
};

// Calls served since loading: by stepwise, cluster, grid; forward, then backward.
std::vector<int64_t> served_calls();

inline const void* data(const OptionalTensor& t) { return t ? t->const_data_ptr() : nullptr; }
inline void* mutable_data(OptionalTensor& t) { return t ? t->mutable_data_ptr() : nullptr; }
// Row d of a tensor over directions.
inline void* of_direction(const OptionalTensor& t, int d) {
  return t ? torch::stable::select(*t, 0, d).mutable_data_ptr() : nullptr;
}

}  // namespace fused_lstm
