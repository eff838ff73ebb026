#pragma once
// Cells that need a whole row: layer normalisation, and an output gate that reads the new cell state. The maths of one
// row at one step, between the products; gates lie one after the other, [4][H] in the order i f g o.

#include <cmath>
#include <cstring>

#include "cell/variants.h"
#include "core/problem.h"
#include "cpu/kernels.h"
#include "cpu/memory.h"

namespace fused_lstm::cpu {

// In a fixed order that a compiler can vectorise.
template <class T, class Term>
T sum_of(int64_t n, const Term& term) {
  constexpr int kLanes = 16;
  T lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int k = 0; k < kLanes; ++k) lanes[k] += term(i + k);
  T sum = 0;
  for (; i < n; ++i) sum += term(i);
  for (T lane : lanes) sum += lane;
  return sum;
}

// x to (x - mean) / deviation; returns 1 / deviation.
template <class T>
T normalise(T* x, int64_t n) {
  const T mean = sum_of<T>(n, [&](int64_t i) { return x[i]; }) / T(n);
  for (int64_t i = 0; i < n; ++i) x[i] -= mean;
  const T variance = sum_of<T>(n, [&](int64_t i) { return x[i] * x[i]; }) / T(n);
  const T scale = T(1) / std::sqrt(variance + T(kLayerNormEps));
  for (int64_t i = 0; i < n; ++i) x[i] *= scale;
  return scale;
}

// Gradient through the above: d with respect to its results, replaced by that with respect to what came in.
template <class T>
void normalise_backward(const T* normalised, T scale, T* d, int64_t n) {
  const T mean = sum_of<T>(n, [&](int64_t i) { return d[i]; }) / T(n);
  const T slope = sum_of<T>(n, [&](int64_t i) { return d[i] * normalised[i]; }) / T(n);
  for (int64_t i = 0; i < n; ++i) d[i] = scale * (d[i] - mean - normalised[i] * slope);
}

// The learned parameters of a direction by name, and where their gradients are summed.
template <class T>
struct RowParams {
  const T *p_i = nullptr, *p_f = nullptr, *p_o = nullptr;
  const T *gamma_ih = nullptr, *gamma_hh = nullptr, *gamma_c = nullptr, *beta_c = nullptr;

  RowParams() = default;
  RowParams(const CellShape& shape, const T* all, int64_t H) {
    if (shape.parts & kPeepholes) p_i = all, p_f = all + H, p_o = all + 2 * H;
    if (!shape.layer_norm) return;
    gamma_ih = all + (shape.params - 10) * H, gamma_hh = gamma_ih + 4 * H;
    gamma_c = gamma_hh + 4 * H, beta_c = gamma_c + H;
  }
};

// What a row has at a step. Forward turns `gates` from W_ih x into activated gates.
template <class T>
struct Row {
  T* gates;             // [4H]
  T* recurrent;         // [4H]: W_hh h; of an output gate that reads c nothing
  const T* c_prev;
  const T* h_prev;      // read by zoneout
  const T* inputs;      // [2][H]: keep masks of zoneout
  T* c_new;             // before zoneout
};

template <class T>
class RowMaths {
 public:
  RowMaths(const Problem& p, const Kernels<T>& kernels)
      : p_(p), H(p.hidden), shape_(kCellShapes[p.cell]), kernels_(kernels) {}

  // --- forward -------------------------------------------------------------------------------------------------------

  // Everything up to the new c. The output gate's pre-activation stays one: it may still want W_ho c.
  void gates_and_cell(const Row<T>& r, const RowParams<T>& w, const T* bias) const {
    if (shape_.layer_norm) {
      normalise(r.gates, 4 * H), normalise(r.recurrent, 4 * H);
      for (int64_t j = 0; j < 4 * H; ++j)
        r.gates[j] = w.gamma_ih[j] * r.gates[j] + w.gamma_hh[j] * r.recurrent[j] + bias[j];
    } else {
      const int64_t recurrent = shape_.output_cell ? 3 * H : 4 * H;
      for (int64_t j = 0; j < recurrent; ++j) r.gates[j] += r.recurrent[j] + bias[j];
      for (int64_t j = recurrent; j < 4 * H; ++j) r.gates[j] += bias[j];
    }
    T *i = r.gates, *f = i + H, *g = f + H;
    if (w.p_i)
      for (int64_t u = 0; u < H; ++u) i[u] += w.p_i[u] * r.c_prev[u], f[u] += w.p_f[u] * r.c_prev[u];
    kernels_.sigmoid(i, i, 2 * H);
    kernels_.tanh(g, g, H);
    if (shape_.parts & kCoupled)
      for (int64_t u = 0; u < H; ++u) i[u] = T(1) - f[u];
    new_cell(r);
  }

  void new_cell(const Row<T>& r) const {
    const T *i = r.gates, *f = i + H, *g = f + H;
    for (int64_t u = 0; u < H; ++u) r.c_new[u] = f[u] * r.c_prev[u] + i[u] * g[u];
    if (p_.cell_clip > 0)
      for (int64_t u = 0; u < H; ++u) r.c_new[u] = limited_to(T(p_.cell_clip), r.c_new[u]);
  }

  // The output gate, h and c. `shown`: room for H values.
  void output(const Row<T>& r, const RowParams<T>& w, T* shown, T* h, T* c) const {
    T* o = r.gates + 3 * H;
    if (w.p_o)
      for (int64_t u = 0; u < H; ++u) o[u] += w.p_o[u] * r.c_new[u];
    kernels_.sigmoid(o, o, H);
    show(r.c_new, w, shown);
    for (int64_t u = 0; u < H; ++u) h[u] = o[u] * shown[u];
    if (!(shape_.parts & kZoneout)) {
      std::memcpy(c, r.c_new, H * sizeof(T));
      return;
    }
    for (int64_t u = 0; u < H; ++u) {
      h[u] = r.h_prev[u] + r.inputs[u] * (h[u] - r.h_prev[u]);
      c[u] = r.c_prev[u] + r.inputs[H + u] * (r.c_new[u] - r.c_prev[u]);
    }
  }

  // --- backward ------------------------------------------------------------------------------------------------------

  struct Sums {
    T *bias, *params;  // [4H], [params][H]
  };
  // Room for one row.
  struct Room {
    T *normalised, *shown, *ds;  // [H]
  };

  // From dh and dc to da of the output gate and dc of the new c, as far as it comes from h; what zoneout lets pass is
  // left in past_h and past_c. `unprojected`: o tanh(...) once more, or null.
  void output_backward(const Row<T>& r, const RowParams<T>& w, T* dh, T* dc, T* past_h, T* past_c, T* da,
                       T* unprojected, const Room& room, const Sums& sums) const {
    if (shape_.parts & kZoneout)
      for (int64_t u = 0; u < H; ++u) {
        past_h[u] = dh[u] - dh[u] * r.inputs[u], past_c[u] = dc[u] - dc[u] * r.inputs[H + u];
        dh[u] *= r.inputs[u], dc[u] *= r.inputs[H + u];
      }
    const T* o = r.gates + 3 * H;
    T* ao = da + 3 * H;
    T* ds = room.ds;
    T scale = 0;
    if (shape_.layer_norm) {
      std::memcpy(room.normalised, r.c_new, H * sizeof(T));
      scale = normalise(room.normalised, H);
    }
    show(r.c_new, w, room.shown);
    for (int64_t u = 0; u < H; ++u) {
      const T t = room.shown[u];
      ao[u] = dh[u] * t * (o[u] * (T(1) - o[u]));
      ds[u] = dh[u] * o[u] * (T(1) - t * t);
    }
    if (unprojected)
      for (int64_t u = 0; u < H; ++u) unprojected[u] = o[u] * room.shown[u];
    if (shape_.layer_norm) {
      T *dgamma = sums.params + (shape_.params - 2) * H, *dbeta = dgamma + H;
      for (int64_t u = 0; u < H; ++u) dgamma[u] += ds[u] * room.normalised[u], dbeta[u] += ds[u], ds[u] *= w.gamma_c[u];
      normalise_backward(room.normalised, scale, ds, H);
    }
    for (int64_t u = 0; u < H; ++u) dc[u] += ds[u];
    if (!w.p_o) return;
    T* dp_o = sums.params + 2 * H;
    for (int64_t u = 0; u < H; ++u) dc[u] += ao[u] * w.p_o[u], dp_o[u] += ao[u] * r.c_new[u];
  }

  // From dc of the new c to da of the other gates, and dc of the state before. Adds up what all rows share.
  void gates_backward(const Row<T>& r, const RowParams<T>& w, T* dc, const T* past_c, T* da, const Sums& sums) const {
    const T *i = r.gates, *f = i + H, *g = f + H;
    T *ai = da, *af = da + H, *ag = da + 2 * H;
    if (p_.cell_clip > 0)
      for (int64_t u = 0; u < H; ++u) dc[u] = where_below(T(p_.cell_clip), r.c_new[u], dc[u]);
    const bool coupled = shape_.parts & kCoupled;
    for (int64_t u = 0; u < H; ++u) {
      const T d = dc[u];
      ag[u] = d * i[u] * (T(1) - g[u] * g[u]);
      ai[u] = coupled ? T(0) : d * g[u] * (i[u] * (T(1) - i[u]));
      af[u] = (coupled ? d * (r.c_prev[u] - g[u]) : d * r.c_prev[u]) * (f[u] * (T(1) - f[u]));
      dc[u] = d * f[u];
    }
    if (w.p_i) {
      T *dp_i = sums.params, *dp_f = dp_i + H;
      for (int64_t u = 0; u < H; ++u) {
        dc[u] += ai[u] * w.p_i[u] + af[u] * w.p_f[u];
        dp_i[u] += ai[u] * r.c_prev[u], dp_f[u] += af[u] * r.c_prev[u];
      }
    }
    if (shape_.parts & kZoneout)
      for (int64_t u = 0; u < H; ++u) dc[u] += past_c[u];
    for (int64_t j = 0; j < 4 * H; ++j) sums.bias[j] += da[j];
  }

  // da to the gradient of one of the two products, which `product` holds anew. dgamma: [4H], added to.
  void product_backward(T* product, const T* gamma, const T* da, T* d, T* dgamma) const {
    const T scale = normalise(product, 4 * H);
    for (int64_t j = 0; j < 4 * H; ++j) dgamma[j] += da[j] * product[j], d[j] = da[j] * gamma[j];
    normalise_backward(product, scale, d, 4 * H);
  }

 private:
  const Problem& p_;
  const int64_t H;
  const CellShape& shape_;
  const Kernels<T>& kernels_;

  // tanh of what h shows of the cell
  void show(const T* c_new, const RowParams<T>& w, T* shown) const {
    std::memcpy(shown, c_new, H * sizeof(T));
    if (shape_.layer_norm) {
      normalise(shown, H);
      for (int64_t u = 0; u < H; ++u) shown[u] = w.gamma_c[u] * shown[u] + w.beta_c[u];
    }
    kernels_.tanh(shown, shown, H);
  }
};

// Rows of `width` values, one after the other, and pointers to them.
template <class T>
struct RowBuffer {
  Buffer<T> data;
  std::vector<T*> rows;

  RowBuffer() = default;
  RowBuffer(int64_t n, int64_t width) : data(n * width), rows(n) {
    for (int64_t i = 0; i < n; ++i) rows[i] = data.get() + i * width;
  }
  T* operator[](int64_t i) const { return rows[i]; }
};

}  // namespace fused_lstm::cpu
