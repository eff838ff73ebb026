// Weights in panels: packing them, multiplying by them, and the sums of outer products for their gradients.

#include "cpu/panels.h"

#include "arrays.h"
#include "bind.h"
#include "cpu/outer.h"
#include "host.h"
#include "table.h"

namespace fused_lstm::native {
namespace {

template <class T>
std::vector<std::vector<int64_t>> gate_layout(const Table<T>& t, int64_t hidden) {
  const cpu::GateLayout<T> layout{hidden, t.kernels.lanes};
  std::vector<int64_t> columns, rows;
  for (int64_t j = 0; j < layout.columns(); ++j) rows.push_back(layout.weight_row(j));
  for (int gate = 0; gate < 4; ++gate)
    for (int64_t unit = 0; unit < hidden; ++unit) columns.push_back(layout.column(gate, unit));
  return {columns, rows};
}

// Packs `weight` in one of the three ways, by a team, and returns the panels as [panel][k][columns of the panel].
template <class T>
std::vector<Array<T>> packed(const Table<T>& t, const std::string& way, Array<T> weight, int members) {
  const int64_t rows = weight.shape(0), columns = weight.shape(1);
  const bool gates = way == "gates", straight = way == "straight";
  const cpu::GateLayout<T> layout{rows / 4, t.kernels.lanes};
  const cpu::Panels<T> panels(t.kernels, straight ? rows : columns,
                              gates ? layout.columns() : (straight ? columns : rows));
  const std::vector<T*> weight_rows = rows_of(weight);
  auto body = [&](const cpu::Member& m) {
    if (gates)
      cpu::pack_gates(t.kernels, layout, weight.data(), panels, m);
    else if (straight)
      cpu::pack_straight(t.kernels, weight_rows.data(), panels, m);
    else
      cpu::pack_transpose(t.kernels, weight.data(), panels, m);
  };
  cpu::run_team(host(members), members, body);
  std::vector<Array<T>> all;
  for (int64_t p = 0; p < panels.count(); ++p)
    all.emplace_back(std::vector<int64_t>{panels.k(), int64_t{panels.vectors(p)} * t.kernels.lanes}, panels.at(p));
  return all;
}

// c = or += a * weight^T [+ bias], weight [columns, k] packed transposed
template <class T>
void multiply(const Table<T>& t, Array<T> a, int64_t a_begin, Array<T> weight, std::optional<Array<T>> bias,
              bool accumulate, Array<T> c, int64_t c_begin, std::pair<int64_t, int64_t> range, bool whole_vectors) {
  const cpu::Panels<T> panels(t.kernels, weight.shape(1), weight.shape(0));
  cpu::pack_transpose(t.kernels, weight.data(), panels, {0, 1, nullptr});
  const std::vector<T*> a_rows = rows_of(a), c_rows = rows_of(c);
  cpu::multiply<T>({.kernels = &t.kernels,
                    .panels = &panels,
                    .range = {range.first, range.second},
                    .a = a_rows.data(),
                    .a_begin = a_begin,
                    .n = a.shape(0),
                    .bias = data_or_null(bias),
                    .accumulate = accumulate,
                    .c = c_rows.data(),
                    .c_begin = c_begin,
                    .whole_vectors = whole_vectors});
}

// left [n, m]; c[i] = left^T rights[i], rows of c that are not `present` left alone
template <class T>
void outer_sum(const Table<T>& t, Array<T> left, std::vector<Array<T>> rights, std::vector<Array<T>> c,
               std::vector<bool> present, int members) {
  cpu::OuterSum<T> sum(t.kernels, left.data(), left.shape(1), left.shape(0), left.shape(1), members);
  std::vector<std::vector<T*>> right_rows, c_rows;
  for (size_t i = 0; i < rights.size(); ++i) {
    right_rows.push_back(rows_of(rights[i]));
    c_rows.push_back(rows_of(c[i]));
    for (size_t j = 0; j < c_rows[i].size(); ++j)
      if (!present[j]) c_rows[i][j] = nullptr;
  }
  for (size_t i = 0; i < rights.size(); ++i) sum.add({right_rows[i].data(), rights[i].shape(1), c_rows[i].data()});
  sum.allocate();
  auto body = [&](const cpu::Member& m) { sum.run(m); };
  cpu::run_team(host(members), members, body);
}

template <class T>
void bind_panels_of(py::module_& m) {
  const auto in_place = [](const char* name) { return py::arg(name).noconvert(); };
  m.def("gate_layout", &gate_layout<T>, py::arg("table"), py::arg("hidden"));
  m.def("packed", &packed<T>, py::arg("table"), py::arg("way"), in_place("weight"), py::arg("members") = 1);
  m.def("multiply", &multiply<T>, py::arg("table"), in_place("a"), py::arg("a_begin"), in_place("weight"),
        py::arg("bias"), py::arg("accumulate"), in_place("c"), py::arg("c_begin"), py::arg("range"),
        py::arg("whole_vectors"));
  m.def("outer_sum", &outer_sum<T>, py::arg("table"), in_place("left"), in_place("rights"), in_place("c"),
        py::arg("present"), py::arg("members"));
}

}  // namespace

void bind_panels(py::module_& m) {
  bind_panels_of<float>(m);
  bind_panels_of<double>(m);
}

}  // namespace fused_lstm::native
