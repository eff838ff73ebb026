#pragma once
// The cells: the maths of one hidden unit at one step, forward and backward, once for every backend.
// V is a value: float or double on CUDA and in tests, a wrapped SIMD vector on the CPU (its own sigmoid_of, tanh_of,
// limited_to and where_below are found beside its type). fused_lstm/cells.py holds the same list in the same order.

#include "cell/activation.h"
#include "cell/macros.h"

namespace fused_lstm {

template <class V>
struct Gates {
  V i, f, g, o;
};

// What an elementwise cell may read besides gates and state. Drivers, schemas and checks only know the counts.
constexpr int kMaxParams = 3, kMaxInputs = 2;

template <class V>
struct Extra {
  V param[kMaxParams];  // learned, per hidden unit
  V input[kMaxInputs];  // given, per step, row and unit; no gradient
  V h_prev;             // set only for cells with kReadsHPrev
  V clip;               // the new c stays within [-clip, clip]
  bool clips = false;   // or anywhere
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

// The bound where x exceeds it; NaN passes through.
template <class V>
FUSED_LSTM_HD V limited_to(V bound, V x) {
  return x > bound ? bound : x < V(0) - bound ? V(0) - bound : x;
}
// Gradient of the above: d where x is strictly within.
template <class V>
FUSED_LSTM_HD V where_below(V bound, V x, V d) {
  return x < bound && x > V(0) - bound ? d : V(0);
}

// Parts of a cell; any of them together.
constexpr int kPeepholes = 1, kCoupled = 2, kZoneout = 4;

// i, f, o = sigmoid, g = tanh; c = f c' + i g; h = o tanh(c).  Gers, Schmidhuber & Cummins (2000). With
//   kPeepholes  i and f see p_i c', p_f c', o sees p_o c.  Gers & Schmidhuber (2000), diagonal.
//   kCoupled    what is not kept is written, i = 1 - f; a.i and p_i are ignored.  Greff et al. (2017), CIFG.
//   kZoneout    h = h' + k_h (h~ - h'), c = c' + k_c (c~ - c'), h~ = o tanh(c~).  Krueger et al. (2017).
template <int kParts>
struct CellOf {
  static constexpr bool kHasPeepholes = kParts & kPeepholes, kIsCoupled = kParts & kCoupled;
  static constexpr bool kReadsHPrev = kParts & kZoneout;
  static constexpr int kParams = kHasPeepholes ? 3 : 0, kInputs = kReadsHPrev ? 2 : 0;

  template <class V>
  FUSED_LSTM_HD static CellState<V> forward(const Gates<V>& a, V c_prev, const Extra<V>& x) {
    Gates<V> s;
    if constexpr (kHasPeepholes) {
      s.f = sigmoid_of(V(a.f + x.param[1] * c_prev));
      s.i = kIsCoupled ? one<V>() - s.f : sigmoid_of(V(a.i + x.param[0] * c_prev));
    } else {
      s.f = sigmoid_of(a.f);
      s.i = kIsCoupled ? one<V>() - s.f : sigmoid_of(a.i);
    }
    s.g = tanh_of(a.g);
    V c = new_cell(s, c_prev, x);
    s.o = kHasPeepholes ? sigmoid_of(V(a.o + x.param[2] * c)) : sigmoid_of(a.o);
    V h = s.o * tanh_of(c);
    if constexpr (kReadsHPrev) {
      h = x.h_prev + x.input[0] * (h - x.h_prev);
      c = c_prev + x.input[1] * (c - c_prev);
    }
    return {s, c, h};
  }

  // s: activated gates; c: as forward returned it; dh, dc: gradients arriving at h and c
  template <class V>
  FUSED_LSTM_HD static CellGrad<V> backward(const Gates<V>& s, V c_prev, V c, V dh, V dc, const Extra<V>& x) {
    const V u = one<V>();
    if constexpr (kReadsHPrev) {
      const V past_h = dh - dh * x.input[0], past_c = dc - dc * x.input[1];
      CellGrad<V> d = CellOf<kParts & ~kZoneout>::backward(s, c_prev, new_cell(s, c_prev, x), V(dh * x.input[0]),
                                                           V(dc * x.input[1]), x);
      d.h_prev = past_h;
      d.c_prev = d.c_prev + past_c;
      return d;
    }
    const V tc = tanh_of(c);
    const V ao = dh * tc * (s.o * (u - s.o));
    V d = dc + dh * s.o * (u - tc * tc);
    if constexpr (kHasPeepholes) d = d + ao * x.param[2];
    if (x.clips) d = where_below(x.clip, c, d);
    const V ag = d * s.i * (u - s.g * s.g);
    const V ai = kIsCoupled ? V{} : V(d * s.g * (s.i * (u - s.i)));
    const V af = (kIsCoupled ? d * (c_prev - s.g) : d * c_prev) * (s.f * (u - s.f));
    CellGrad<V> out{{ai, af, ag, ao}, d * s.f, V{}, {}};
    if constexpr (kHasPeepholes) {
      out.c_prev = kIsCoupled ? out.c_prev + af * x.param[1] : out.c_prev + ai * x.param[0] + af * x.param[1];
      out.param[0] = ai * c_prev, out.param[1] = af * c_prev, out.param[2] = ao * c;
    }
    return out;
  }

 private:
  template <class V>
  FUSED_LSTM_HD static V new_cell(const Gates<V>& s, V c_prev, const Extra<V>& x) {
    const V c = s.f * c_prev + s.i * s.g;
    return x.clips ? limited_to(x.clip, c) : c;
  }
};

using Vanilla = CellOf<0>;
using Peephole = CellOf<kPeepholes>;
using Coupled = CellOf<kCoupled>;
using Zoneout = CellOf<kZoneout>;
using CoupledPeephole = CellOf<kCoupled | kPeepholes>;
using PeepholeZoneout = CellOf<kPeepholes | kZoneout>;
using CoupledZoneout = CellOf<kCoupled | kZoneout>;
using CoupledPeepholeZoneout = CellOf<kCoupled | kPeepholes | kZoneout>;

#define FUSED_LSTM_FOR_EACH_CELL(X) \
  X(Vanilla)                        \
  X(Peephole) X(Coupled) X(Zoneout) X(CoupledPeephole) X(PeepholeZoneout) X(CoupledZoneout) X(CoupledPeepholeZoneout)
#define FUSED_LSTM_COUNT_CELL(C) +1
constexpr int kCellCount = FUSED_LSTM_FOR_EACH_CELL(FUSED_LSTM_COUNT_CELL);
#undef FUSED_LSTM_COUNT_CELL
constexpr int kVanilla = 0;  // the one cell that the CPU kernels fuse into the recurrent product

// Everything that the operators know by number. The first kCellCount are the elementwise ones above; those after
// wrap one of them into something that needs a whole row: sums over it, or one more product.
struct CellShape {
  const char* name;
  int parts;
  bool layer_norm;   // of both gate contributions, and of the cell on its way into h.  Ba, Kiros & Hinton (2016)
  bool output_cell;  // the output gate reads the new c, through the last H rows of W_hh, and not h'
  int params, inputs;
  bool reads_h_prev;

  constexpr CellShape(const char* of_name, int of_parts, bool normalised = false, bool output_reads_cell = false)
      : name(of_name),
        parts(of_parts),
        layer_norm(normalised),
        output_cell(output_reads_cell),
        // p_i p_f p_o, gamma_ih (4), gamma_hh (4), gamma_c, beta_c
        params((of_parts & kPeepholes ? 3 : 0) + (normalised ? 10 : 0)),
        inputs(of_parts & kZoneout ? 2 : 0),
        reads_h_prev((of_parts & kZoneout) != 0) {}
  constexpr bool elementwise() const { return !layer_norm && !output_cell; }
};
constexpr CellShape kCellShapes[] = {
    {"vanilla", 0},
    {"peephole", kPeepholes},
    {"coupled", kCoupled},
    {"zoneout", kZoneout},
    {"coupled+peephole", kCoupled | kPeepholes},
    {"peephole+zoneout", kPeepholes | kZoneout},
    {"coupled+zoneout", kCoupled | kZoneout},
    {"coupled+peephole+zoneout", kCoupled | kPeepholes | kZoneout},
    {"layer_norm", 0, true},
    {"peephole+layer_norm", kPeepholes, true},
    {"coupled+layer_norm", kCoupled, true},
    {"zoneout+layer_norm", kZoneout, true},
    {"coupled+peephole+layer_norm", kCoupled | kPeepholes, true},
    {"peephole+zoneout+layer_norm", kPeepholes | kZoneout, true},
    {"coupled+zoneout+layer_norm", kCoupled | kZoneout, true},
    {"coupled+peephole+zoneout+layer_norm", kCoupled | kPeepholes | kZoneout, true},
    {"output_cell", 0, false, true},
    {"coupled+output_cell", kCoupled, false, true},
    {"zoneout+output_cell", kZoneout, false, true},
    {"coupled+zoneout+output_cell", kCoupled | kZoneout, false, true},
};
constexpr int kShapeCount = sizeof(kCellShapes) / sizeof(kCellShapes[0]);
constexpr double kLayerNormEps = 1e-5;

}  // namespace fused_lstm
