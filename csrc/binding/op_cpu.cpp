// The operators on CPU tensors: allocate, fill in the arguments, call the layer.

#include <atomic>
#include <cstring>
#include <tuple>

#include "binding/checks.h"
#include "cpu/kernels.h"
#include "cpu/layer.h"
#include "cpu/memory.h"

namespace fused_lstm {
namespace {

std::atomic<int> g_thread_limit{1 << 20};

cpu::Parallel parallel() {
  const int allowed = static_cast<int>(torch::stable::get_num_threads());
  return {std::max(1, std::min(allowed, g_thread_limit.load(std::memory_order_relaxed))),
          [](int64_t n, void (*body)(int64_t, int64_t, void*), void* context) {
            torch::stable::parallel_for(0, n, 1, [&](int64_t begin, int64_t end) { body(begin, end, context); });
          }};
}

// Results are torch's own memory, so that they can be resized like any other activation.
Tensor new_result(const LayerCall& call, const std::vector<int64_t>& shape) {
  Tensor t = torch::stable::new_empty(call.tensors.x, shape);
  cpu::prefer_huge_pages(t.mutable_data_ptr(), t.numel() * t.element_size());
  return t;
}

// The reserve and gradients come from the pool: a training loop gets the pages of its last step back, already
// mapped. Small ones do not: what malloc keeps for itself is as warm.
Tensor new_pooled(const LayerCall& call, const std::vector<int64_t>& shape, ScalarType dtype, bool zeroed = false) {
  constexpr int64_t kPooledFrom = 1 << 16;
  const Tensor& x = call.tensors.x;
  int64_t count = 1;
  for (int64_t size : shape) count *= size;
  const int64_t bytes = count * (dtype == ScalarType::Double ? 8 : dtype == ScalarType::Float ? 4 : 2);
  if (bytes < kPooledFrom)
    return zeroed ? torch::stable::new_zeros(x, shape, dtype) : torch::stable::new_empty(x, shape, dtype);
  std::vector<int64_t> strides(shape.size(), 1);
  for (size_t i = shape.size() - 1; i > 0; --i) strides[i - 1] = strides[i] * shape[i];
  void* block = cpu::acquire(bytes);
  if (zeroed) std::memset(block, 0, bytes);
  return torch::stable::from_blob(block, shape, strides, x.device(), dtype, &cpu::release);
}
Tensor new_gradient(const LayerCall& call, const std::vector<int64_t>& shape, bool zeroed = false) {
  return new_pooled(call, shape, call.tensors.x.scalar_type(), zeroed);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> lstm_layer(Tensor x, OptionalTensor h0, OptionalTensor c0,
                                                      std::vector<Tensor> weights, OptionalTensor batch_sizes,
                                                      OptionalTensor lengths, OptionalTensor resets,
                                                      OptionalTensor recurrent_scale, OptionalTensor cell_params,
                                                      OptionalTensor cell_inputs, int64_t cell, int64_t direction,
                                                      bool batch_first, bool save, bool allow_tf32, double cell_clip,
                                                      double proj_clip, bool recompute) {
  const LayerCall call =
      check_layer({x, h0, c0, std::move(weights), batch_sizes, lengths, resets, recurrent_scale, cell_params,
                   cell_inputs, cell, direction, batch_first, allow_tf32, cell_clip, proj_clip, recompute},
                  save, Lengths::kReadable);
  const Problem& p = call.problem;
  Tensor y = new_result(call, sequence_shape(call, p.directions() * p.output()));
  Tensor h_n = new_result(call, {p.directions(), p.batch, p.output()});
  Tensor c_n = new_result(call, {p.directions(), p.batch, p.hidden});
  Tensor reserve = new_pooled(call, save ? reserve_shape(call) : std::vector<int64_t>{0}, reserve_dtype(call));
  cpu::forward(
      p, *call.rows, call.inputs,
      {sheet_of(call, y), h_n.mutable_data_ptr(), c_n.mutable_data_ptr(), save ? reserve.mutable_data_ptr() : nullptr},
      parallel());
  return {y, h_n, c_n, reserve};
}

// One tensor a direction, appended to `all`.
void each_direction(const LayerCall& call, const std::vector<int64_t>& shape, void* (&to)[2],
                    std::vector<Tensor>& all) {
  for (int d = 0; d < call.problem.directions(); ++d) {
    all.push_back(new_gradient(call, shape));
    to[d] = all.back().mutable_data_ptr();
  }
}

BackwardOutputs new_gradients(const LayerCall& call, int64_t needs, std::vector<Tensor>& all) {
  const Problem& p = call.problem;
  const auto one = [&](const std::vector<int64_t>& shape) {
    all.push_back(new_gradient(call, shape));
    return all.back().mutable_data_ptr();
  };
  BackwardOutputs out;
  if (needs & kX) {
    all.push_back(new_gradient(call, sequence_shape(call, p.input), !call.rows->is_rectangle()));
    out.dx = sheet_of(call, all.back());
  }
  if (needs & kH0) out.dh0 = one({p.directions(), p.batch, p.output()});
  if (needs & kC0) out.dc0 = one({p.directions(), p.batch, p.hidden});
  if (needs & kWih) each_direction(call, {4 * p.hidden, p.input}, out.dw_ih, all);
  if (needs & kWhh) each_direction(call, {4 * p.hidden, p.output()}, out.dw_hh, all);
  if (needs & kBias) each_direction(call, {4 * p.hidden}, out.dbias, all);
  if (needs & kWhr) each_direction(call, {p.projection, p.hidden}, out.dw_hr, all);
  if (needs & kRecurrentScale) out.drecurrent_scale = one({p.directions(), p.batch, p.output()});
  if (needs & kCellParams) out.dcell_params = one({p.directions(), call.tensors.cell_params->size(1), p.hidden});
  return out;
}

std::vector<Tensor> lstm_layer_backward(OptionalTensor dy, OptionalTensor dh_n, OptionalTensor dc_n, Tensor x,
                                        OptionalTensor h0, OptionalTensor c0, std::vector<Tensor> weights,
                                        OptionalTensor batch_sizes, OptionalTensor lengths, OptionalTensor resets,
                                        OptionalTensor recurrent_scale, OptionalTensor cell_params,
                                        OptionalTensor cell_inputs, Tensor y, Tensor reserve, int64_t cell,
                                        int64_t direction, bool batch_first, int64_t needs, bool allow_tf32,
                                        double cell_clip, double proj_clip, bool recompute) {
  const LayerCall call =
      check_layer({x, h0, c0, std::move(weights), batch_sizes, lengths, resets, recurrent_scale, cell_params,
                   cell_inputs, cell, direction, batch_first, allow_tf32, cell_clip, proj_clip, recompute},
                  true, Lengths::kReadable);
  const Problem& p = call.problem;
  const IncomingGradients in = check_backward(call, dy, dh_n, dc_n, y, reserve, needs);
  std::vector<Tensor> gradients;
  const BackwardOutputs out = new_gradients(call, needs, gradients);
  cpu::backward(p, *call.rows, call.inputs,
                {in.dy ? sheet_of(call, *in.dy) : Sheet{}, in.dh_n ? in.dh_n->const_data_ptr() : nullptr,
                 in.dc_n ? in.dc_n->const_data_ptr() : nullptr, sheet_of(call, in.y), in.reserve.const_data_ptr()},
                out, parallel());
  return gradients;
}

std::string cpu_isa() { return cpu::isa().name; }

std::string cpu_isas() {
  std::string names;
  for (const cpu::Isa* const* isa = cpu::supported_isas(); *isa; ++isa)
    names.append(names.empty() ? "" : ",").append((*isa)->name);
  return names;
}

void limit_threads(int64_t n) {
  FUSED_LSTM_CHECK(n >= 1, "fused_lstm: limit_threads takes at least 1 thread, but got ", n);
  g_thread_limit.store(static_cast<int>(std::min<int64_t>(n, 1 << 20)));
}
int64_t trim_memory() { return static_cast<int64_t>(cpu::trim_pool()); }
void poison_memory(bool on) { cpu::poison_pool(on); }

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fused_lstm, CPU, m) {
  m.impl("lstm_layer", TORCH_BOX(&lstm_layer));
  m.impl("lstm_layer_backward", TORCH_BOX(&lstm_layer_backward));
}

STABLE_TORCH_LIBRARY_IMPL(fused_lstm, CompositeExplicitAutograd, m) {
  m.impl("cpu_isa", TORCH_BOX(&cpu_isa));
  m.impl("cpu_isas", TORCH_BOX(&cpu_isas));
  m.impl("limit_threads", TORCH_BOX(&limit_threads));
  m.impl("trim_memory", TORCH_BOX(&trim_memory));
  m.impl("poison_memory", TORCH_BOX(&poison_memory));
}

}  // namespace fused_lstm
