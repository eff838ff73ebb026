#pragma once
// Elements of tensors whose type is known at run time only: S is the tensors' type, Compute<S> the type of sums.

#include "cell/float16.h"
#include "core/problem.h"
#include "cuda/elementwise.h"

namespace fused_lstm::cuda {

template <class S>
FUSED_LSTM_HD Compute<S> read(const void* p, int64_t i) {
  return widened(static_cast<const S*>(p)[i]);
}
template <class S>
FUSED_LSTM_HD void write(void* p, int64_t i, Compute<S> x) {
  narrowed(x, static_cast<S*>(p)[i]);
}
template <class S>
FUSED_LSTM_HD Compute<S>& sum_at(void* p, int64_t i) {
  return static_cast<Compute<S>*>(p)[i];
}
template <class S>
FUSED_LSTM_HD Compute<S> value_at(const void* p, int64_t i) {
  return static_cast<const Compute<S>*>(p)[i];
}

template <class Body>
const char* by_dtype(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::kFloat32: return body(float{});
    case DType::kFloat64: return body(double{});
    case DType::kBFloat16: return body(BFloat16{});
    default: return body(Float16{});
  }
}

}  // namespace fused_lstm::cuda
