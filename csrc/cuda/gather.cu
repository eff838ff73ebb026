#include "cuda/gather.h"

#include "cell/activation.h"
#include "cell/variants.h"
#include "cuda/elements.h"

namespace fused_lstm::cuda {
namespace {

// A step of a row, and the one before it in this direction.
struct Step {
  int t, b;
  bool alive, starts, cut;
};

FUSED_LSTM_HD Step step_at(const StatesLayout& l, int64_t i) {
  const RecurrenceRows& r = l.rows;
  Step s;
  s.t = static_cast<int>(i / r.batch), s.b = static_cast<int>(i % r.batch);
  const int length = r.length_of(s.b);
  s.alive = s.t < length;
  s.starts = l.reverse ? s.t + 1 == length : s.t == 0;
  s.cut = s.alive && r.cut(l.reverse, s.b, length, l.reverse ? length - 1 - s.t : s.t);
  return s;
}
// Packed rows hold what is alive and nothing else.
FUSED_LSTM_HD bool has_place(const StatesLayout& l, const Step& s) { return s.alive || !l.rows.offsets; }

template <class S>
struct StatesBody {
  StatesLayout l;
  const void* y;
  void* to;

  FUSED_LSTM_HD void operator()(int64_t i) const {
    const int64_t P = l.output, j = i % P;
    const Step s = step_at(l, i / P);
    if (!has_place(l, s)) return;
    Compute<S> h = Compute<S>(0);
    if (s.alive && !s.cut) {
      const int before = s.t + (l.reverse ? 1 : -1);
      if (!s.starts)
        h = read<S>(y, l.rows.at(before, s.b) * l.y_stride + j);
      else if (l.h0)
        h = read<S>(l.h0, s.b * P + j);
      if (l.scale) h *= read<S>(l.scale, s.b * P + j);
    }
    write<S>(to, l.rows.at(s.t, s.b) * P + j, h);
  }
};

template <class S, class Cell>
struct ActivateBody {
  using C = Compute<S>;
  StatesLayout l;
  CellLayout cell;
  const void* cells;
  const void* recurrent;
  void* gates;

  FUSED_LSTM_HD void operator()(int64_t i) const {
    const int64_t H = l.rows.hidden, u = i % H;
    const Step s = step_at(l, i / H);
    if (!has_place(l, s)) return;
    const int64_t row = l.rows.at(s.t, s.b);
    C* g = static_cast<C*>(gates) + (row * H + u) * 4;
    if (!s.alive) {
      for (int q = 0; q < 4; ++q) g[q] = C(0);
      return;
    }
    C a[4];
    for (int q = 0; q < 4; ++q) {
      a[q] = g[q] + value_at<S>(recurrent, (row * H + u) * 4 + q);
      if (cell.b_ih) a[q] += read<S>(cell.b_ih, q * H + u) + read<S>(cell.b_hh, q * H + u);
    }
    const C c_prev = before(s, u);
    const Gates<C> out = Cell::forward(Gates<C>{a[0], a[1], a[2], a[3]}, c_prev, extra(row, u)).gates;
    g[0] = out.i, g[1] = out.f, g[2] = out.g, g[3] = out.o;
  }

 private:
  FUSED_LSTM_HD C before(const Step& s, int64_t u) const {
    if (s.cut) return C(0);
    if (!s.starts) return value_at<S>(cells, l.rows.at(s.t + (l.reverse ? 1 : -1), s.b) * l.rows.hidden + u);
    return cell.c0 ? read<S>(cell.c0, s.b * l.rows.hidden + u) : C(0);
  }
  // No gate depends on h_prev, which stays zero.
  FUSED_LSTM_HD Extra<C> extra(int64_t row, int64_t u) const {
    Extra<C> x{};
    x.clips = cell.clip > 0, x.clip = C(cell.clip);
    for (int k = 0; k < Cell::kParams; ++k) x.param[k] = read<S>(cell.cell_params, k * l.rows.hidden + u);
    for (int k = 0; k < Cell::kInputs; ++k)
      x.input[k] = read<S>(cell.cell_inputs, (row * Cell::kInputs + k) * l.rows.hidden + u);
    return x;
  }
};

template <class S>
struct UnprojectedBody {
  StatesLayout l;
  const void* gates;
  const void* cells;
  void* to;

  FUSED_LSTM_HD void operator()(int64_t i) const {
    const int64_t H = l.rows.hidden, u = i % H;
    const Step s = step_at(l, i / H);
    if (!has_place(l, s)) return;
    const int64_t at = l.rows.at(s.t, s.b) * H + u;
    write<S>(to, at, s.alive ? value_at<S>(gates, at * 4 + 3) * tanh_of(value_at<S>(cells, at)) : Compute<S>(0));
  }
};

template <class S>
struct AliveBody {
  StatesLayout l;
  const void* from;
  int64_t columns;
  void* to;

  FUSED_LSTM_HD void operator()(int64_t i) const {
    const Step s = step_at(l, i / columns);
    if (!has_place(l, s)) return;
    const int64_t at = l.rows.at(s.t, s.b) * columns + i % columns;
    write<S>(to, at, s.alive ? read<S>(from, at) : Compute<S>(0));
  }
};

template <class S>
struct SumRowsBody {
  const void* from;
  int64_t rows, columns;
  void* to;

  FUSED_LSTM_HD void operator()(int64_t j) const {
    Compute<S> sum = Compute<S>(0);
    for (int64_t b = 0; b < rows; ++b) sum += value_at<S>(from, b * columns + j);
    write<S>(to, j, sum);
  }
};

template <class S>
struct AddBody {
  const void* term;
  void* sum;

  FUSED_LSTM_HD void operator()(int64_t i) const { write<S>(sum, i, read<S>(sum, i) + read<S>(term, i)); }
};

struct UploadBody {
  static constexpr int kMost = 480;  // arguments of a launch have 4 KiB
  int64_t values[kMost];
  int64_t* to;

  FUSED_LSTM_HD void operator()(int64_t i) const { to[i] = values[i]; }
};

int64_t pairs(const RecurrenceRows& r) { return int64_t{r.steps} * r.batch; }

}  // namespace

const char* gather_states(const StatesLayout& l, const void* y, void* to, Stream stream) {
  return by_dtype(
      l.dtype, [&](auto tag) { return launch(pairs(l.rows) * l.output, stream, StatesBody<decltype(tag)>{l, y, to}); });
}

const char* activate_gates(const StatesLayout& l, const CellLayout& cell, const void* cells, const void* recurrent,
                           void* gates, Stream stream) {
  return by_dtype(l.dtype, [&](auto tag) -> const char* {
    using S = decltype(tag);
    const int64_t n = pairs(l.rows) * l.rows.hidden;
    int index = 0;
#define FUSED_LSTM_LAUNCH(Cell) \
  if (index++ == cell.cell) return launch(n, stream, ActivateBody<S, Cell>{l, cell, cells, recurrent, gates});
    FUSED_LSTM_FOR_EACH_CELL(FUSED_LSTM_LAUNCH)
#undef FUSED_LSTM_LAUNCH
    return "there is no such cell";
  });
}

const char* gather_unprojected(const StatesLayout& l, const void* gates, const void* cells, void* to, Stream stream) {
  return by_dtype(l.dtype, [&](auto tag) {
    return launch(pairs(l.rows) * l.rows.hidden, stream, UnprojectedBody<decltype(tag)>{l, gates, cells, to});
  });
}

const char* gather_alive(const StatesLayout& l, const void* from, int64_t columns, void* to, Stream stream) {
  return by_dtype(l.dtype, [&](auto tag) {
    return launch(pairs(l.rows) * columns, stream, AliveBody<decltype(tag)>{l, from, columns, to});
  });
}

const char* sum_rows(DType dtype, const void* from, int64_t rows, int64_t columns, void* to, Stream stream) {
  return by_dtype(
      dtype, [&](auto tag) { return launch(columns, stream, SumRowsBody<decltype(tag)>{from, rows, columns, to}); });
}

const char* add(DType dtype, const void* term, void* sum, int64_t n, Stream stream) {
  return by_dtype(dtype, [&](auto tag) { return launch(n, stream, AddBody<decltype(tag)>{term, sum}); });
}

const char* upload(const int64_t* values, int64_t n, int64_t* to, Stream stream) {
  for (int64_t done = 0; done < n; done += UploadBody::kMost) {
    UploadBody body{};
    const int64_t count = n - done < UploadBody::kMost ? n - done : UploadBody::kMost;
    for (int64_t i = 0; i < count; ++i) body.values[i] = values[done + i];
    body.to = to + done;
    if (const char* error = launch(count, stream, body)) return error;
  }
  return nullptr;
}

}  // namespace fused_lstm::cuda
