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
  bool batch_first;
};

// A checked call: sizes, rows, and pointers into `tensors`, which it keeps alive (made contiguous where needed).
struct LayerCall {
  LayerTensors tensors;
  Problem problem;
  std::unique_ptr<Rows> rows;
  LayerInputs inputs;
  bool batch_first = false;
  bool packed = false;
};

LayerCall check_layer(LayerTensors tensors, bool save_for_backward);

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
