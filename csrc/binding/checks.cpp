#include "binding/checks.h"

#include <cmath>
#include <sstream>

#include "cell/float16.h"
#include "cell/variants.h"

namespace fused_lstm {
namespace {

std::string text(const std::vector<int64_t>& shape) {
  std::ostringstream os;
  os << "[";
  for (size_t i = 0; i < shape.size(); ++i) os << (i ? ", " : "") << shape[i];
  os << "]";
  return os.str();
}

std::vector<int64_t> shape_of(const Tensor& t) {
  const auto sizes = t.sizes();
  return {sizes.begin(), sizes.end()};
}

const char* dtype_name(ScalarType t) {
  switch (t) {
    case ScalarType::Float: return "float32";
    case ScalarType::Double: return "float64";
    case ScalarType::BFloat16: return "bfloat16";
    case ScalarType::Half: return "float16";
    case ScalarType::Long: return "int64";
    case ScalarType::Int: return "int32";
    case ScalarType::Bool: return "bool";
    default: return "another dtype";
  }
}

DType dtype_of(const Tensor& x) {
  switch (x.scalar_type()) {
    case ScalarType::Float: return DType::kFloat32;
    case ScalarType::Double: return DType::kFloat64;
    case ScalarType::BFloat16: return DType::kBFloat16;
    case ScalarType::Half: return DType::kFloat16;
    default: break;
  }
  refuse("fused_lstm: x must be float32, float64, bfloat16 or float16, but is ", dtype_name(x.scalar_type()));
}

void check_device(const LayerTensors& t, const Tensor& other, const char* name) {
  FUSED_LSTM_CHECK(other.is_cpu() == t.x.is_cpu() && other.is_cuda() == t.x.is_cuda() &&
                       (t.x.is_cpu() || other.get_device_index() == t.x.get_device_index()),
                   "fused_lstm: ", name, " must be on the device of x");
}

Rows packed_rows(const LayerTensors& t) {
  const Tensor sizes = torch::stable::contiguous(*t.batch_sizes);
  FUSED_LSTM_CHECK(sizes.is_cpu() && sizes.dim() == 1 && sizes.scalar_type() == ScalarType::Long,
                   "fused_lstm: batch_sizes must be a 1-D int64 tensor on the CPU, as a PackedSequence has it");
  FUSED_LSTM_CHECK(!t.lengths,
                   "fused_lstm: batch_sizes and lengths exclude each other; a packed x has its lengths already");
  const int64_t steps = sizes.size(0);
  // a copy: what was checked must not change before it is used, whoever else holds that memory
  const int64_t* data = static_cast<const int64_t*>(sizes.const_data_ptr());
  const std::vector<int64_t> n(data, data + steps);
  int64_t sum = 0;
  for (int64_t i = 0; i < steps; ++i) {
    FUSED_LSTM_CHECK(n[i] > 0 && (i == 0 || n[i] <= n[i - 1]),
                     "fused_lstm: batch_sizes must be positive and never grow, but batch_sizes[", i, "] is ", n[i]);
    sum += n[i];
  }
  FUSED_LSTM_CHECK(sum == t.x.size(0), "fused_lstm: batch_sizes add up to ", sum, " rows, but x has ", t.x.size(0));
  return Rows::packed(n.data(), steps);
}

const int64_t* check_lengths(const LayerTensors& t, int64_t batch) {
  const Tensor& lengths = *t.lengths;
  check_device(t, lengths, "lengths");
  FUSED_LSTM_CHECK(lengths.scalar_type() == ScalarType::Long, "fused_lstm: lengths must be int64, but is ",
                   dtype_name(lengths.scalar_type()));
  check_shape(lengths, "lengths", {batch});
  return static_cast<const int64_t*>(lengths.const_data_ptr());
}

Rows ragged_rows(const int64_t* lengths, int64_t steps, int64_t batch) {
  const std::vector<int64_t> n(lengths, lengths + batch);  // a copy, as above
  for (int64_t i = 0; i < batch; ++i)
    FUSED_LSTM_CHECK(n[i] >= 0 && n[i] <= steps, "fused_lstm: lengths[", i, "] must be from 0 to ", steps, ", but is ",
                     n[i]);
  return Rows::ragged(steps, n.data(), batch);
}

void check_axes(LayerCall& call, Lengths where) {
  const Tensor& x = call.tensors.x;
  Problem& p = call.problem;
  call.packed = call.tensors.batch_sizes.has_value();
  call.batch_first = call.tensors.batch_first && !call.packed;
  const int64_t dims = call.packed ? 2 : 3;
  FUSED_LSTM_CHECK(x.dim() == dims, "fused_lstm: x must be ", dims, "-D, ",
                   call.packed ? "(rows, input)" : "(T, B, input)", ", but is ", x.dim(), "-D");
  p.dtype = dtype_of(x);
  p.input = x.size(dims - 1);
  if (call.packed) {
    call.rows = std::make_unique<Rows>(packed_rows(call.tensors));
  } else {
    const int64_t steps = x.size(call.batch_first ? 1 : 0), batch = x.size(call.batch_first ? 0 : 1);
    if (call.tensors.lengths) {
      call.tensors.lengths = torch::stable::contiguous(*call.tensors.lengths);
      call.lengths = check_lengths(call.tensors, batch);
    }
    const bool ragged = call.lengths && where == Lengths::kReadable;
    call.rows =
        std::make_unique<Rows>(ragged ? ragged_rows(call.lengths, steps, batch) : Rows::rectangle(steps, batch));
  }
  p.steps = call.rows->steps();
  p.batch = call.rows->batch();
  p.total = call.rows->total();
  FUSED_LSTM_CHECK(call.tensors.direction >= 0 && call.tensors.direction <= 2,
                   "fused_lstm: direction must be 0 (forward), 1 (reverse) or 2 (both), but is ",
                   call.tensors.direction);
  p.direction = static_cast<Direction>(call.tensors.direction);
  FUSED_LSTM_CHECK(call.tensors.cell >= 0 && call.tensors.cell < kShapeCount, "fused_lstm: there is no cell number ",
                   call.tensors.cell);
  p.cell = static_cast<int>(call.tensors.cell);
}

// Contiguous, of x's dtype and device.
const void* take(LayerCall& call, Tensor& t, const char* name, const std::vector<int64_t>& shape) {
  check_device(call.tensors, t, name);
  t = torch::stable::contiguous(check_like_x(call, t, name, shape));
  return t.const_data_ptr();
}
const void* take(LayerCall& call, OptionalTensor& t, const char* name, const std::vector<int64_t>& shape) {
  return t ? take(call, *t, name, shape) : nullptr;
}

void check_weights(LayerCall& call) {
  Problem& p = call.problem;
  std::vector<Tensor>& w = call.tensors.weights;
  const size_t directions = p.directions(), each = w.size() / directions;
  FUSED_LSTM_CHECK(each * directions == w.size() && each >= 2 && each <= 5, "fused_lstm: ", directions,
                   " direction(s) take 2 to 5 weights each (w_ih, w_hh, [b_ih, b_hh], [w_hr]), but ", w.size(),
                   " came");
  p.bias = each >= 4;
  const bool projected = each % 2 == 1;
  FUSED_LSTM_CHECK(w[1].dim() == 2 && w[1].size(0) > 0 && w[1].size(0) % 4 == 0 && w[1].size(1) > 0,
                   "fused_lstm: w_hh must have shape [4*hidden, output] with sizes above 0, but has ",
                   text(shape_of(w[1])));
  p.hidden = w[1].size(0) / 4;
  p.projection = projected ? w[1].size(1) : 0;
  for (size_t d = 0; d < directions; ++d) {
    Tensor* of = &w[d * each];
    DirectionWeights& to = call.inputs.weights[d];
    to.w_ih = take(call, of[0], "w_ih", {4 * p.hidden, p.input});
    to.w_hh = take(call, of[1], "w_hh", {4 * p.hidden, p.output()});
    if (p.bias) to.b_ih = take(call, of[2], "b_ih", {4 * p.hidden});
    if (p.bias) to.b_hh = take(call, of[3], "b_hh", {4 * p.hidden});
    if (projected) to.w_hr = take(call, of[each - 1], "w_hr", {p.projection, p.hidden});
  }
}

double check_clip(double clip, const char* name) {
  FUSED_LSTM_CHECK(std::isfinite(clip) && clip >= 0, "fused_lstm: ", name,
                   " must be finite and above 0, or 0 for none, but is ", clip);
  return clip;
}

void check_clips(LayerCall& call) {
  Problem& p = call.problem;
  p.cell_clip = check_clip(call.tensors.cell_clip, "cell_clip");
  p.proj_clip = check_clip(call.tensors.proj_clip, "proj_clip");
  FUSED_LSTM_CHECK(p.proj_clip == 0 || p.projection,
                   "fused_lstm: proj_clip bounds the projected h, but nothing is projected; use cell_clip");
  // as h itself: what was rounded is compared with it
  const float narrow = static_cast<float>(p.proj_clip);
  if (p.dtype == DType::kBFloat16) p.proj_clip = rounded<BFloat16>(narrow);
  if (p.dtype == DType::kFloat16) p.proj_clip = rounded<Float16>(narrow);
  FUSED_LSTM_CHECK((call.tensors.proj_clip == 0) == (p.proj_clip == 0), "fused_lstm: proj_clip of ",
                   call.tensors.proj_clip, " is 0 in ", name_of(p.dtype));
}

void check_cell(LayerCall& call) {
  const Problem& p = call.problem;
  const CellShape& shape = kCellShapes[p.cell];
  FUSED_LSTM_CHECK(!(shape.reads_h_prev && p.projection), "fused_lstm: the ", shape.name,
                   " cell mixes h with its previous value and cannot be projected; drop proj_size");
  FUSED_LSTM_CHECK(!(shape.output_cell && p.projection), "fused_lstm: the ", shape.name,
                   " cell reads c through W_hh, which must be square, and cannot be projected; drop proj_size");
  FUSED_LSTM_CHECK(shape.elementwise() || !p.recompute, "fused_lstm: the ", shape.name,
                   " cell needs whole rows, and its gates cannot be made again for all steps at once; drop recompute");
  FUSED_LSTM_CHECK(call.tensors.cell_params.has_value() == (shape.params > 0), "fused_lstm: the ", shape.name,
                   " cell takes ", shape.params, " rows of cell_params", shape.params ? ", but none came" : "");
  FUSED_LSTM_CHECK(call.tensors.cell_inputs.has_value() == (shape.inputs > 0), "fused_lstm: the ", shape.name,
                   " cell takes ", shape.inputs, " cell_inputs a step", shape.inputs ? ", but none came" : "");
  call.inputs.cell_params =
      take(call, call.tensors.cell_params, "cell_params", {p.directions(), shape.params, p.hidden});
  if (!shape.inputs) return;
  std::vector<int64_t> expected = sequence_shape(call, shape.inputs);
  expected.insert(expected.begin(), p.directions());
  expected.push_back(p.hidden);
  const char* data = static_cast<const char*>(take(call, call.tensors.cell_inputs, "cell_inputs", expected));
  const int64_t width = shape.inputs * p.hidden;
  for (int d = 0; d < p.directions(); ++d) {
    Sheet& s = call.inputs.cell_inputs[d];
    s.data = const_cast<char*>(data) + d * call.rows->capacity() * width * call.tensors.x.element_size();
    s.step_stride = call.batch_first ? width : p.batch * width;
    s.row_stride = call.batch_first ? p.steps * width : width;
  }
}

}  // namespace

void check_shape(const Tensor& t, const char* name, const std::vector<int64_t>& expected) {
  FUSED_LSTM_CHECK(shape_of(t) == expected, "fused_lstm: ", name, " must have shape ", text(expected), " but has ",
                   text(shape_of(t)));
}

void check_dtype(const Tensor& t, const char* name, ScalarType expected) {
  FUSED_LSTM_CHECK(t.scalar_type() == expected, "fused_lstm: ", name, " must be ", dtype_name(expected), " but is ",
                   dtype_name(t.scalar_type()));
}

Tensor check_like_x(const LayerCall& call, const Tensor& t, const char* name, const std::vector<int64_t>& shape) {
  check_shape(t, name, shape);
  check_dtype(t, name, call.tensors.x.scalar_type());
  check_device(call.tensors, t, name);
  return t;
}

Tensor unit_last_stride(const Tensor& t) {
  return t.size(t.dim() - 1) > 1 && t.stride(t.dim() - 1) != 1 ? torch::stable::contiguous(t) : t;
}

std::vector<int64_t> sequence_shape(const LayerCall& call, int64_t features) {
  const Problem& p = call.problem;
  if (call.packed) return {p.total, features};
  if (call.batch_first) return {p.batch, p.steps, features};
  return {p.steps, p.batch, features};
}

std::vector<int64_t> reserve_shape(const LayerCall& call) {
  const Problem& p = call.problem;
  return {p.directions(), call.rows->capacity(), p.reserve_width()};
}

ScalarType reserve_dtype(const LayerCall& call) {
  return call.problem.dtype == DType::kFloat64 ? ScalarType::Double : ScalarType::Float;
}

Sheet sheet_of(const LayerCall& call, const Tensor& t) {
  Sheet s;
  s.data = const_cast<void*>(t.const_data_ptr());
  s.step_stride = call.packed ? 0 : t.stride(call.batch_first ? 1 : 0);
  s.row_stride = t.stride(call.packed || call.batch_first ? 0 : 1);
  return s;
}

LayerCall check_layer(LayerTensors tensors, bool save_for_backward, Lengths lengths) {
  LayerCall call;
  call.tensors = std::move(tensors);
  check_axes(call, lengths);
  check_weights(call);
  Problem& p = call.problem;
  p.save_for_backward = save_for_backward;
  p.recompute = call.tensors.recompute;
  call.tensors.x = unit_last_stride(call.tensors.x);
  call.inputs.x = sheet_of(call, call.tensors.x);
  call.inputs.h0 = take(call, call.tensors.h0, "h0", {p.directions(), p.batch, p.output()});
  call.inputs.c0 = take(call, call.tensors.c0, "c0", {p.directions(), p.batch, p.hidden});
  call.inputs.recurrent_scale =
      take(call, call.tensors.recurrent_scale, "recurrent_scale", {p.directions(), p.batch, p.output()});
  check_cell(call);
  check_clips(call);
  if (OptionalTensor& resets = call.tensors.resets) {
    std::vector<int64_t> expected = sequence_shape(call, 1);
    expected.pop_back();
    check_shape(*resets, "resets", expected);
    check_dtype(*resets, "resets", ScalarType::Bool);
    check_device(call.tensors, *resets, "resets");
    call.inputs.resets = sheet_of(call, *resets);
  }
  return call;
}

IncomingGradients check_backward(const LayerCall& call, OptionalTensor dy, OptionalTensor dh_n, OptionalTensor dc_n,
                                 Tensor y, Tensor reserve, int64_t needs) {
  const Problem& p = call.problem;
  const LayerTensors& given = call.tensors;  // not pointers: those of empty tensors are null
  FUSED_LSTM_CHECK((given.h0 || !(needs & kH0)) && (given.c0 || !(needs & kC0)) && (p.bias || !(needs & kBias)) &&
                       (p.projection || !(needs & kWhr)) && (given.recurrent_scale || !(needs & kRecurrentScale)) &&
                       (given.cell_params || !(needs & kCellParams)),
                   "fused_lstm: needs = ", needs, " asks for the gradient of an argument that was not given");
  FUSED_LSTM_CHECK(reserve.numel() > 0 || call.rows->capacity() == 0,
                   "fused_lstm: the forward call kept nothing for backward; call it with save=True");
  check_shape(reserve, "reserve", reserve_shape(call));
  check_dtype(reserve, "reserve", reserve_dtype(call));
  check_device(call.tensors, reserve, "reserve");
  FUSED_LSTM_CHECK(reserve.is_contiguous(), "fused_lstm: reserve must be what forward returned");
  const std::vector<int64_t> y_shape = sequence_shape(call, p.directions() * p.output());
  const auto state = [&](const OptionalTensor& t, const char* name, int64_t width) -> OptionalTensor {
    if (!t) return t;
    return torch::stable::contiguous(check_like_x(call, *t, name, {p.directions(), p.batch, width}));
  };
  if (dy) dy = unit_last_stride(check_like_x(call, *dy, "dy", y_shape));
  return {dy, state(dh_n, "dh_n", p.output()), state(dc_n, "dc_n", p.hidden),
          unit_last_stride(check_like_x(call, y, "y", y_shape)), reserve};
}

}  // namespace fused_lstm
