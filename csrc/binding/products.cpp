#include "binding/products.h"

#include <array>

namespace fused_lstm {

namespace sd = torch::stable::detail;

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

namespace {

Tensor regrouped(const Tensor& t, int64_t outer, int64_t inner) {
  const int64_t K = t.size(1);
  Tensor copy = torch::stable::contiguous(torch::stable::transpose(torch::stable::view(t, {outer, inner, K}), 0, 1));
  return torch::stable::view(copy, {outer * inner, K});
}

}  // namespace

Tensor unit_by_unit(const Tensor& weight) { return regrouped(weight, 4, weight.size(0) / 4); }
Tensor gate_by_gate(const Tensor& gradient) { return regrouped(gradient, gradient.size(0) / 4, 4); }

}  // namespace fused_lstm
