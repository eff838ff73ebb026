// The cells: on plain doubles, where they can be compared with torch digit by digit, and as each ISA runs them.

#include "arrays.h"
#include "bind.h"
#include "cell/variants.h"
#include "table.h"

namespace fused_lstm::native {
namespace {

using Doubles = std::vector<double>;

Extra<double> extra_of(const Doubles& params, const Doubles& inputs, double h_prev, double clip) {
  Extra<double> x{};
  std::copy(params.begin(), params.end(), x.param);
  std::copy(inputs.begin(), inputs.end(), x.input);
  x.h_prev = h_prev;
  x.clips = clip > 0, x.clip = clip;
  return x;
}

Gates<double> gates_of(const Doubles& g) {
  require(g.size() == 4, "four gates are needed");
  return {g[0], g[1], g[2], g[3]};
}
Doubles list(const Gates<double>& g) { return {g.i, g.f, g.g, g.o}; }

template <class Cell>
py::dict forward(const Doubles& a, double c_prev, double h_prev, const Doubles& params, const Doubles& inputs,
                 double clip) {
  const CellState<double> s = Cell::forward(gates_of(a), c_prev, extra_of(params, inputs, h_prev, clip));
  return py::dict(py::arg("gates") = list(s.gates), py::arg("c") = s.c, py::arg("h") = s.h);
}

template <class Cell>
py::dict backward(const Doubles& gates, double c_prev, double c, double dh, double dc, double h_prev,
                  const Doubles& params, const Doubles& inputs, double clip) {
  const CellGrad<double> d = Cell::backward(gates_of(gates), c_prev, c, dh, dc, extra_of(params, inputs, h_prev, clip));
  return py::dict(py::arg("gates") = list(d.gates), py::arg("c_prev") = d.c_prev, py::arg("h_prev") = d.h_prev,
                  py::arg("params") = Doubles(d.param, d.param + Cell::kParams));
}

template <class Cell>
void bind_cell(py::list& cells) {
  py::dict cell;
  cell["name"] = kCellShapes[cells.size()].name;
  cell["params"] = Cell::kParams;
  cell["inputs"] = Cell::kInputs;
  cell["reads_h_prev"] = Cell::kReadsHPrev;
  cell["forward"] = py::cpp_function(&forward<Cell>, py::arg("a"), py::arg("c_prev"), py::arg("h_prev"),
                                     py::arg("params"), py::arg("inputs"), py::arg("clip") = 0.0);
  cell["backward"] =
      py::cpp_function(&backward<Cell>, py::arg("gates"), py::arg("c_prev"), py::arg("c"), py::arg("dh"), py::arg("dc"),
                       py::arg("h_prev"), py::arg("params"), py::arg("inputs"), py::arg("clip") = 0.0);
  cells.append(cell);
}

template <class T>
void cell_forward(const Table<T>& t, int cell, int64_t begin, int64_t end, Array<T> gates, Array<T> c_prev, Array<T> c,
                  Array<T> h_prev, Array<T> h, Array<T> params, std::optional<Array<T>> inputs, bool save,
                  double clip) {
  const std::vector<T*> gate_rows = rows_of(gates), c_prev_rows = rows_of(c_prev), c_rows = rows_of(c),
                        h_prev_rows = rows_of(h_prev), h_rows = rows_of(h), input_rows = rows_or_nothing(inputs);
  t.kernels.cell_forward[cell]({.n = gates.shape(0),
                                .begin = begin,
                                .end = end,
                                .hidden = h.shape(1),
                                .padded_hidden = c.shape(1),
                                .gates = gate_rows.data(),
                                .c_prev = c_prev_rows.data(),
                                .c = c_rows.data(),
                                .h_prev = h_prev_rows.data(),
                                .h = h_rows.data(),
                                .params = params.data(),
                                .inputs = input_rows.data(),
                                .save = save,
                                .clip = static_cast<T>(clip)});
}

template <class T>
void cell_backward(const Table<T>& t, int cell, int64_t begin, int64_t end, int64_t hidden, Array<T> gates,
                   Array<T> dgates, Array<T> dh, std::optional<Array<T>> dy, Array<T> c, Array<T> c_prev,
                   Array<T> dc_in, Array<T> dc_out, Array<T> dh_prev, Array<T> params, std::optional<Array<T>> inputs,
                   Array<T> bias_sum, Array<T> param_sum, double clip) {
  const std::vector<T*> gate_rows = rows_of(gates), dgate_rows = rows_of(dgates), dh_rows = rows_of(dh),
                        dy_rows = rows_or_nothing(dy), c_rows = rows_of(c), c_prev_rows = rows_of(c_prev),
                        dc_in_rows = rows_of(dc_in), dc_out_rows = rows_of(dc_out), dh_prev_rows = rows_of(dh_prev),
                        input_rows = rows_or_nothing(inputs);
  t.kernels.cell_backward[cell]({.n = gates.shape(0),
                                 .begin = begin,
                                 .end = end,
                                 .hidden = hidden,
                                 .padded_hidden = c.shape(1),
                                 .gates = gate_rows.data(),
                                 .dgates = dgate_rows.data(),
                                 .dh = dh_rows.data(),
                                 .dy = dy ? dy_rows.data() : nullptr,
                                 .c = c_rows.data(),
                                 .c_prev = c_prev_rows.data(),
                                 .dc_in = dc_in_rows.data(),
                                 .dc_out = dc_out_rows.data(),
                                 .dh_prev = dh_prev_rows.data(),
                                 .params = params.data(),
                                 .inputs = input_rows.data(),
                                 .bias_sum = bias_sum.mutable_data(),
                                 .param_sum = param_sum.mutable_data(),
                                 .clip = static_cast<T>(clip)});
}

template <class T>
void bind_vector_cells_of(py::class_<Table<T>>& table) {
  const auto in_place = [](const char* name) { return py::arg(name).noconvert(); };
  table
      .def("cell_forward", &cell_forward<T>, py::arg("cell"), py::arg("begin"), py::arg("end"), in_place("gates"),
           in_place("c_prev"), in_place("c"), in_place("h_prev"), in_place("h"), in_place("params"), in_place("inputs"),
           py::arg("save"), py::arg("clip") = 0.0)
      .def("cell_backward", &cell_backward<T>, py::arg("cell"), py::arg("begin"), py::arg("end"), py::arg("hidden"),
           in_place("gates"), in_place("dgates"), in_place("dh"), in_place("dy"), in_place("c"), in_place("c_prev"),
           in_place("dc_in"), in_place("dc_out"), in_place("dh_prev"), in_place("params"), in_place("inputs"),
           in_place("bias_sum"), in_place("param_sum"), py::arg("clip") = 0.0);
}

}  // namespace

void bind_vector_cells(py::class_<Table<float>>& table) { bind_vector_cells_of(table); }
void bind_vector_cells(py::class_<Table<double>>& table) { bind_vector_cells_of(table); }

void bind_cells(py::module_& m) {
  py::list cells;
#define FUSED_LSTM_BIND_CELL(C) bind_cell<C>(cells);
  FUSED_LSTM_FOR_EACH_CELL(FUSED_LSTM_BIND_CELL)
#undef FUSED_LSTM_BIND_CELL
  m.attr("cells") = cells;
}

}  // namespace fused_lstm::native
