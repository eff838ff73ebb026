#pragma once
// The only place that turns tensors into a Problem: every backend gets its arguments checked here, before any
// kernel runs. What is refused is a std::runtime_error that names the thing, what was expected and what came.

#include <memory>
#include <optional>
#include <vector>

#include "binding/compat.h"
#include "core/problem.h"
#include "core/rows.h"

namespace fused_lstm {

using OptionalTensor = std::optional<Tensor>;

// The arguments that forward and backward share, as they come from the operator.
struct LayerTensors {
  Tensor x;
  OptionalTensor h0, c0;
  std::vector<Tensor> weights;
  OptionalTensor batch_sizes, lengths, resets, recurrent_scale, cell_params, cell_inputs;
  int64_t cell, direction;
  bool batch_first, allow_tf32;  // the latter matters on CUDA alone
  double cell_clip = 0, proj_clip = 0;
  bool recompute = false;
};

// A checked call: sizes, rows, and pointers into `tensors`, which it keeps alive (made contiguous where needed).
struct LayerCall {
  LayerTensors tensors;
  Problem problem;
  std::unique_ptr<Rows> rows;
  LayerInputs inputs;
  const int64_t* lengths = nullptr;  // where they stay: only with Lengths::kOnDevice
  bool batch_first = false;
  bool packed = false;
};

// Whether `lengths` may be read here and now. On a device that would make the host wait: `rows` is the
// rectangle then, and kernels look at the lengths themselves.
enum class Lengths { kReadable, kOnDevice };

LayerCall check_layer(LayerTensors tensors, bool save_for_backward, Lengths lengths);

// What backward gets besides the call: checked, contiguous (dy and y at least in their last axis).
struct IncomingGradients {
  OptionalTensor dy, dh_n, dc_n;
  Tensor y, reserve;
};
IncomingGradients check_backward(const LayerCall& call, OptionalTensor dy, OptionalTensor dh_n, OptionalTensor dc_n,
                                 Tensor y, Tensor reserve, int64_t needs);

// Bits of backward's argument `needs`, and the order of what it returns.
enum Needs {
  kX = 1,
  kH0 = 2,
  kC0 = 4,
  kWih = 8,
  kWhh = 16,
  kBias = 32,
  kWhr = 64,
  kRecurrentScale = 128,
  kCellParams = 256
};

// Shape of a tensor over this call's steps and rows, in the caller's order of axes.
std::vector<int64_t> sequence_shape(const LayerCall& call, int64_t features);
std::vector<int64_t> reserve_shape(const LayerCall& call);
ScalarType reserve_dtype(const LayerCall& call);
// The view of a tensor of sequence_shape.
Sheet sheet_of(const LayerCall& call, const Tensor& t);

void check_shape(const Tensor& t, const char* name, const std::vector<int64_t>& expected);
void check_dtype(const Tensor& t, const char* name, ScalarType expected);
// Shape and dtype of x; contiguous, or only in its last axis.
Tensor check_like_x(const LayerCall& call, const Tensor& t, const char* name, const std::vector<int64_t>& shape);
Tensor unit_last_stride(const Tensor& t);

}  // namespace fused_lstm
