#pragma once
// Numbers for each hidden unit as backward wants them, padded: biases and cell parameters, and sums of their gradients.

#include <cstring>

#include "cell/variants.h"
#include "core/problem.h"
#include "cpu/panels.h"

namespace fused_lstm::cpu {

// b_ih + b_hh in the order of gate columns, with zeros up to whole vectors
template <class T>
Buffer<T> gate_bias(const Problem& p, const GateLayout<T>& layout, const DirectionWeights& w) {
  Buffer<T> bias(p.gate_width());
  std::memset(bias.get(), 0, p.gate_width() * sizeof(T));
  for (int64_t j = 0; p.bias && j < layout.columns(); ++j) {
    const int64_t row = layout.weight_row(j);
    bias[j] = static_cast<const T*>(w.b_ih)[row] + static_cast<const T*>(w.b_hh)[row];
  }
  return bias;
}

// h before its projection, from what forward kept: o * tanh(c)
template <class T>
void unproject(const Kernels<T>& kernels, const GateLayout<T>& layout, const T* gates, const T* c, T* to) {
  kernels.tanh(c, to, layout.hidden);
  for (int64_t unit = 0; unit < layout.hidden; ++unit) to[unit] *= gates[layout.column(3, unit)];
}

// [params][Hp]
template <class T>
Buffer<T> padded_params(const Problem& p, const LayerInputs& in, int d) {
  const int64_t params = kCellShapes[p.cell].params, width = p.padded_hidden();
  Buffer<T> padded(params * width);
  for (int64_t i = 0; i < params * width; ++i) {
    const int64_t k = i / width, unit = i % width;
    const T* from = static_cast<const T*>(in.cell_params) + (d * params + k) * p.hidden;
    padded[i] = unit < p.hidden ? from[unit] : T(0);
  }
  return padded;
}

// Gradients of biases and cell parameters of one direction, summed by each member for itself.
template <class T>
class UnitSums {
 public:
  UnitSums() = default;
  UnitSums(const Problem& p, int members) : p_(&p), members_(members) {
    bias_ = Buffer<T>(members * p.gate_width());
    std::memset(bias_.get(), 0, members * p.gate_width() * sizeof(T));
    param_ = Buffer<T>(members * params_width());
    if (params_width()) std::memset(param_.get(), 0, members * params_width() * sizeof(T));
  }

  T* bias(int64_t member) const { return bias_.get() + member * p_->gate_width(); }
  T* param(int64_t member) const { return param_.get() + member * params_width(); }

  // In the order of members: the same bits whenever their number is the same. Null: not asked for.
  void reduce_bias(const GateLayout<T>& layout, T* dbias) const {
    for (int64_t j = 0; dbias && j < layout.columns(); ++j) {
      if (layout.weight_row(j) < 0) continue;
      T sum = 0;
      for (int i = 0; i < members_; ++i) sum += bias(i)[j];
      dbias[layout.weight_row(j)] = sum;
    }
  }
  void reduce_param(T* dparams) const {
    for (int64_t k = 0; dparams && k < kCellShapes[p_->cell].params; ++k)
      for (int64_t unit = 0; unit < p_->hidden; ++unit) {
        T sum = 0;
        for (int i = 0; i < members_; ++i) sum += param(i)[k * p_->padded_hidden() + unit];
        dparams[k * p_->hidden + unit] = sum;
      }
  }

 private:
  const Problem* p_ = nullptr;
  int members_ = 0;
  Buffer<T> bias_, param_;  // [members][4*Hp], [members][params][Hp]

  int64_t params_width() const { return kCellShapes[p_->cell].params * p_->padded_hidden(); }
};

}  // namespace fused_lstm::cpu
