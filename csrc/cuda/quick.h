#pragma once
// The value type of cells in kernels over all steps: float whose activations take two instructions of the special
// function unit each. Their absolute error is a few 2^-24; unlike the library's, tanh is not relatively exact near zero.

#include "cell/macros.h"
#include "cell/variants.h"
#include "cuda/primitives.h"

namespace fused_lstm::cuda {

struct Quick {
  float value = 0;

  Quick() = default;
  FUSED_LSTM_HD Quick(float x) : value(x) {}
};

FUSED_LSTM_HD Quick operator+(Quick a, Quick b) { return a.value + b.value; }
FUSED_LSTM_HD Quick operator-(Quick a, Quick b) { return a.value - b.value; }
FUSED_LSTM_HD Quick operator*(Quick a, Quick b) { return a.value * b.value; }
FUSED_LSTM_HD bool operator<(Quick a, Quick b) { return a.value < b.value; }
FUSED_LSTM_HD bool operator>(Quick a, Quick b) { return a.value > b.value; }

// exp(x) = 2^(x log2 e); of large arguments 2^inf and 1 / inf give the right limits.
FUSED_LSTM_DEVICE Quick sigmoid_of(Quick x) { return quick_reciprocal(1.0f + quick_exp2(x.value * -1.44269504f)); }
FUSED_LSTM_DEVICE Quick tanh_of(Quick x) {
  return 1.0f - 2.0f * quick_reciprocal(1.0f + quick_exp2(x.value * 2.88539008f));
}

// The vanilla cell in such values.
FUSED_LSTM_DEVICE CellState<float> quick_forward(const Gates<float>& a, float c_prev) {
  const Gates<Quick> gates{a.i, a.f, a.g, a.o};
  const CellState<Quick> s = Vanilla::forward(gates, Quick(c_prev), Extra<Quick>{});
  return {{s.gates.i.value, s.gates.f.value, s.gates.g.value, s.gates.o.value}, s.c.value, s.h.value};
}

struct QuickGrad {
  Gates<float> gates;
  float c_prev;
};
FUSED_LSTM_DEVICE QuickGrad quick_backward(const Gates<float>& a, float c_prev, float c, float dh, float dc) {
  const Gates<Quick> gates{a.i, a.f, a.g, a.o};
  const CellGrad<Quick> d = Vanilla::backward(gates, Quick(c_prev), Quick(c), Quick(dh), Quick(dc), Extra<Quick>{});
  return {{d.gates.i.value, d.gates.f.value, d.gates.g.value, d.gates.o.value}, d.c_prev.value};
}

}  // namespace fused_lstm::cuda
