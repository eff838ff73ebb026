#include "cpu/round.h"

#include "cell/float16.h"

namespace fused_lstm::cpu {
namespace {

template <class S>
void round_all(float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    S h;
    narrowed(x[i], h);
    x[i] = widened(h);
  }
}
template <class S>
void widen_all(const void* from, float* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = widened(static_cast<const S*>(from)[i]);
}
template <class S>
void narrow_all(const float* from, void* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) narrowed(from[i], static_cast<S*>(to)[i]);
}

}  // namespace

void round_to(DType dtype, float* x, int64_t n) {
  if (dtype == DType::kBFloat16) round_all<BFloat16>(x, n);
  if (dtype == DType::kFloat16) round_all<Float16>(x, n);
}

void widen(DType dtype, const void* from, float* to, int64_t n) {
  dtype == DType::kBFloat16 ? widen_all<BFloat16>(from, to, n) : widen_all<Float16>(from, to, n);
}

void narrow(DType dtype, const float* from, void* to, int64_t n) {
  dtype == DType::kBFloat16 ? narrow_all<BFloat16>(from, to, n) : narrow_all<Float16>(from, to, n);
}

}  // namespace fused_lstm::cpu
