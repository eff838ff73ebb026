#pragma once
// The cells: the maths of one hidden unit at one step, forward and backward, once for every backend.
// V is a value: float or double on CUDA and in tests, a wrapped SIMD vector on the CPU (its own sigmoid_of and
// tanh_of are found beside its type). A struct and a line in
// FUSED_LSTM_FOR_EACH_CELL add a cell everywhere; fused_lstm/cells.py holds the same list in the same order.

#include "cell/activation.h"
#include "cell/macros.h"

namespace fused_lstm {

template <class V>
struct Gates {
  V i, f, g, o;
};

// What a cell may read besides gates and state. Drivers, schemas and checks only know the counts.
constexpr int kMaxParams = 3, kMaxInputs = 2;

template <class V>
struct Extra {
  V param[kMaxParams];  // learned, per hidden unit
  V input[kMaxInputs];  // given, per step, row and unit; no gradient
  V h_prev;             // set only for cells with kReadsHPrev
};

template <class V>
struct CellState {
  Gates<V> gates;  // activated: what backward needs back
  V c, h;
};

template <class V>
struct CellGrad {
  Gates<V> gates;        // with respect to the pre-activations
  V c_prev;              // to the previous cell state
  V h_prev;              // to the previous output, by ways other than the gates
  V param[kMaxParams];   // to the learned parameters
};

template <class V>
FUSED_LSTM_HD V one() {
  return V(1);
}

// i, f, o = sigmoid, g = tanh; c = f c' + i g; h = o tanh(c).  Gers, Schmidhuber & Cummins (2000).
struct Vanilla {
  static constexpr const char* kName = "vanilla";
  static constexpr int kParams = 0, kInputs = 0;
  static constexpr bool kReadsHPrev = false;

  template <class V>
  FUSED_LSTM_HD static CellState<V> forward(const Gates<V>& a, V c_prev, const Extra<V>&) {
    Gates<V> s{sigmoid_of(a.i), sigmoid_of(a.f), tanh_of(a.g), sigmoid_of(a.o)};
    V c = s.f * c_prev + s.i * s.g;
    return {s, c, s.o * tanh_of(c)};
  }

  // s: activated gates; dh, dc: gradients arriving at h and c
  template <class V>
  FUSED_LSTM_HD static CellGrad<V> backward(const Gates<V>& s, V c_prev, V c, V dh, V dc, const Extra<V>&) {
    const V u = one<V>(), tc = tanh_of(c);
    const V d = dc + dh * s.o * (u - tc * tc);
    return {{d * s.g * (s.i * (u - s.i)), d * c_prev * (s.f * (u - s.f)), d * s.i * (u - s.g * s.g),
             dh * tc * (s.o * (u - s.o))},
            d * s.f,
            V{},
            {}};
  }
};

// Diagonal peepholes: i and f see c', o sees c.  Gers & Schmidhuber (2000).
struct Peephole {
  static constexpr const char* kName = "peephole";
  static constexpr int kParams = 3, kInputs = 0;
  static constexpr bool kReadsHPrev = false;

  template <class V>
  FUSED_LSTM_HD static CellState<V> forward(const Gates<V>& a, V c_prev, const Extra<V>& x) {
    Gates<V> s{sigmoid_of(V(a.i + x.param[0] * c_prev)), sigmoid_of(V(a.f + x.param[1] * c_prev)), tanh_of(a.g), a.o};
    V c = s.f * c_prev + s.i * s.g;
    s.o = sigmoid_of(V(a.o + x.param[2] * c));
    return {s, c, s.o * tanh_of(c)};
  }

  template <class V>
  FUSED_LSTM_HD static CellGrad<V> backward(const Gates<V>& s, V c_prev, V c, V dh, V dc, const Extra<V>& x) {
    const V u = one<V>(), tc = tanh_of(c);
    const V ao = dh * tc * (s.o * (u - s.o));
    const V d = dc + dh * s.o * (u - tc * tc) + ao * x.param[2];
    const V ai = d * s.g * (s.i * (u - s.i));
    const V af = d * c_prev * (s.f * (u - s.f));
    return {{ai, af, d * s.i * (u - s.g * s.g), ao},
            d * s.f + ai * x.param[0] + af * x.param[1],
            V{},
            {ai * c_prev, af * c_prev, ao * c}};
  }
};

// Coupled gates: what is not kept is written, i = 1 - f; a.i is ignored.  Greff et al. (2017), CIFG.
struct Coupled {
  static constexpr const char* kName = "coupled";
  static constexpr int kParams = 0, kInputs = 0;
  static constexpr bool kReadsHPrev = false;

  template <class V>
  FUSED_LSTM_HD static CellState<V> forward(const Gates<V>& a, V c_prev, const Extra<V>&) {
    const V f = sigmoid_of(a.f);
    Gates<V> s{one<V>() - f, f, tanh_of(a.g), sigmoid_of(a.o)};
    V c = s.f * c_prev + s.i * s.g;
    return {s, c, s.o * tanh_of(c)};
  }

  template <class V>
  FUSED_LSTM_HD static CellGrad<V> backward(const Gates<V>& s, V c_prev, V c, V dh, V dc, const Extra<V>&) {
    const V u = one<V>(), tc = tanh_of(c);
    const V d = dc + dh * s.o * (u - tc * tc);
    return {{V{}, d * (c_prev - s.g) * (s.f * (u - s.f)), d * s.i * (u - s.g * s.g), dh * tc * (s.o * (u - s.o))},
            d * s.f,
            V{},
            {}};
  }
};

// Zoneout of both states: h = h' + k_h (h~ - h'), c = c' + k_c (c~ - c'), h~ = o tanh(c~).  Krueger et al. (2016).
struct Zoneout {
  static constexpr const char* kName = "zoneout";
  static constexpr int kParams = 0, kInputs = 2;
  static constexpr bool kReadsHPrev = true;

  template <class V>
  FUSED_LSTM_HD static CellState<V> forward(const Gates<V>& a, V c_prev, const Extra<V>& x) {
    CellState<V> out = Vanilla::forward(a, c_prev, x);
    out.h = x.h_prev + x.input[0] * (out.h - x.h_prev);
    out.c = c_prev + x.input[1] * (out.c - c_prev);
    return out;
  }

  template <class V>
  FUSED_LSTM_HD static CellGrad<V> backward(const Gates<V>& s, V c_prev, V, V dh, V dc, const Extra<V>& x) {
    const V c_new = s.f * c_prev + s.i * s.g;
    CellGrad<V> d = Vanilla::backward(s, c_prev, c_new, V(dh * x.input[0]), V(dc * x.input[1]), x);
    d.h_prev = dh - dh * x.input[0];
    d.c_prev = d.c_prev + dc - dc * x.input[1];
    return d;
  }
};

#define FUSED_LSTM_FOR_EACH_CELL(X) X(Vanilla) X(Peephole) X(Coupled) X(Zoneout)

struct CellShape {
  const char* name;
  int params, inputs;
  bool reads_h_prev;
};
#define FUSED_LSTM_CELL_SHAPE(C) {C::kName, C::kParams, C::kInputs, C::kReadsHPrev},
constexpr CellShape kCellShapes[] = {FUSED_LSTM_FOR_EACH_CELL(FUSED_LSTM_CELL_SHAPE)};
#undef FUSED_LSTM_CELL_SHAPE
constexpr int kCellCount = sizeof(kCellShapes) / sizeof(kCellShapes[0]);
constexpr int kVanilla = 0;  // the one cell that the CPU kernels fuse into the recurrent product

}  // namespace fused_lstm
