// The kernels of one ISA and type as a Python object, method for method as cpu/kernels.h has them.

#include "cpu/kernels.h"

#include "arrays.h"
#include "bind.h"
#include "table.h"

namespace fused_lstm::native {
namespace {

template <class T>
using Map = void (*)(const T*, T*, int64_t);

template <class T, Map<T> cpu::Kernels<T>::* Function>
Array<T> map(const Table<T>& t, Array<T> x) {
  Array<T> y(x.size());
  (t.kernels.*Function)(x.data(), y.mutable_data(), x.size());
  return y;
}

template <class T>
void gemm(const Table<T>& t, Array<T> a, int64_t a_begin, Array<T> panel, std::optional<Array<T>> bias, bool accumulate,
          Array<T> c, int64_t c_begin, int64_t c_valid) {
  const std::vector<T*> a_rows = rows_of(a), c_rows = rows_of(c);
  require(panel.shape(1) % t.kernels.lanes == 0, "a panel consists of whole vectors");
  t.kernels.gemm({.n = a.shape(0),
                  .k = panel.shape(0),
                  .a = a_rows.data(),
                  .a_begin = a_begin,
                  .panel = panel.data(),
                  .vectors = static_cast<int>(panel.shape(1) / t.kernels.lanes),
                  .bias = data_or_null(bias),
                  .accumulate = accumulate,
                  .c = c_rows.data(),
                  .c_begin = c_begin,
                  .c_valid = c_valid});
}

// left [k, m] is packed first; rows of c that are not `present` go in as null.
template <class T>
void gemm_packed(const Table<T>& t, Array<T> left, int64_t begin, int64_t m, Array<T> panel, bool accumulate,
                 Array<T> c, std::vector<bool> present, int64_t c_begin, int64_t c_valid) {
  const int64_t k = left.shape(0);
  std::vector<T> packed(k * m);
  t.kernels.pack_columns(left.data(), left.shape(1), k, begin, m, packed.data());
  std::vector<T*> c_rows = rows_of(c);
  for (size_t i = 0; i < c_rows.size(); ++i)
    if (!present[i]) c_rows[i] = nullptr;
  t.kernels.gemm_packed({.m = m,
                         .k = k,
                         .packed = packed.data(),
                         .panel = panel.data(),
                         .vectors = static_cast<int>(panel.shape(1) / t.kernels.lanes),
                         .accumulate = accumulate,
                         .c = c_rows.data(),
                         .c_begin = c_begin,
                         .c_valid = c_valid});
}

template <class T>
void dot4(const Table<T>& t, Array<T> a, Array<T> w, Array<T> c, std::vector<int64_t> columns, bool accumulate) {
  const std::vector<T*> a_rows = rows_of(a), w_rows = rows_of(w), c_rows = rows_of(c);
  require(w_rows.size() == 4 && columns.size() == 4, "dot4 takes four weight rows and columns");
  t.kernels.dot4({.n = a.shape(0),
                  .k = a.shape(1),
                  .a = a_rows.data(),
                  .w = w_rows.data(),
                  .c = c_rows.data(),
                  .c_column = columns.data(),
                  .accumulate = accumulate});
}

template <class T>
void step(const Table<T>& t, Array<T> h_prev, Array<T> panel, Array<T> gates, Array<T> c_prev, Array<T> c, Array<T> h,
          int64_t unit, int64_t valid, bool save) {
  const std::vector<T*> h_prev_rows = rows_of(h_prev), gate_rows = rows_of(gates), c_prev_rows = rows_of(c_prev),
                        c_rows = rows_of(c), h_rows = rows_of(h);
  t.kernels.step({.n = h_prev.shape(0),
                  .k = h_prev.shape(1),
                  .h_prev = h_prev_rows.data(),
                  .panel = panel.data(),
                  .gates = gate_rows.data(),
                  .c_prev = c_prev_rows.data(),
                  .c = c_rows.data(),
                  .h = h_rows.data(),
                  .unit = unit,
                  .valid = valid,
                  .save = save});
}

template <class T>
void pack_transposed(const Table<T>& t, Array<T> w, int64_t valid, Array<T> to, int64_t column) {
  const std::vector<T*> rows = rows_of(w);
  t.kernels.pack_transposed(rows.data(), valid, to.shape(0), to.mutable_data() + column, to.shape(1));
}

template <class T>
void pack_rows(const Table<T>& t, Array<T> from, int64_t begin, int64_t valid, Array<T> to) {
  const std::vector<T*> rows = rows_of(from);
  t.kernels.pack_rows(rows.data(), from.shape(0), begin, valid, to.shape(1), to.mutable_data());
}

template <class T>
Array<T> pack_columns(const Table<T>& t, Array<T> from, int64_t begin, int64_t m) {
  Array<T> to(from.shape(0) * m);
  t.kernels.pack_columns(from.data(), from.shape(1), from.shape(0), begin, m, to.mutable_data());
  return to;
}

template <class T>
void bind_table(py::module_& m) {
  const auto in_place = [](const char* name) { return py::arg(name).noconvert(); };
  using Kernels = cpu::Kernels<T>;
  py::class_<Table<T>> table(m, (std::string("Kernels") + dtype_suffix<T>()).c_str());
  table.def_property_readonly("lanes", [](const Table<T>& t) { return t.kernels.lanes; })
      .def_property_readonly("row_tile", [](const Table<T>& t) { return t.kernels.row_tile; })
      .def("exp", &map<T, &Kernels::exp>, in_place("x"))
      .def("sigmoid", &map<T, &Kernels::sigmoid>, in_place("x"))
      .def("tanh", &map<T, &Kernels::tanh>, in_place("x"))
      .def("gemm", &gemm<T>, in_place("a"), py::arg("a_begin"), in_place("panel"), py::arg("bias"),
           py::arg("accumulate"), in_place("c"), py::arg("c_begin"), py::arg("c_valid"))
      .def("gemm_packed", &gemm_packed<T>, in_place("left"), py::arg("begin"), py::arg("m"), in_place("panel"),
           py::arg("accumulate"), in_place("c"), py::arg("present"), py::arg("c_begin"), py::arg("c_valid"))
      .def("dot4", &dot4<T>, in_place("a"), in_place("w"), in_place("c"), py::arg("columns"), py::arg("accumulate"))
      .def("step", &step<T>, in_place("h_prev"), in_place("panel"), in_place("gates"), in_place("c_prev"),
           in_place("c"), in_place("h"), py::arg("unit"), py::arg("valid"), py::arg("save"))
      .def("pack_transposed", &pack_transposed<T>, in_place("w"), py::arg("valid"), in_place("to"), py::arg("column"))
      .def("pack_rows", &pack_rows<T>, in_place("rows"), py::arg("begin"), py::arg("valid"), in_place("to"))
      .def("pack_columns", &pack_columns<T>, in_place("rows"), py::arg("begin"), py::arg("m"));
  bind_vector_cells(table);
}

py::object kernels(const std::string& isa, const std::string& dtype) {
  for (const cpu::Isa* const* i = cpu::supported_isas(); *i; ++i) {
    if (isa != (*i)->name) continue;
    if (dtype == "float32") return py::cast(Table<float>{*(*i)->f32});
    if (dtype == "float64") return py::cast(Table<double>{*(*i)->f64});
  }
  throw std::invalid_argument("no kernels for " + isa + " and " + dtype);
}

std::vector<std::string> isas() {
  std::vector<std::string> names;
  for (const cpu::Isa* const* isa = cpu::supported_isas(); *isa; ++isa) names.push_back((*isa)->name);
  return names;
}

}  // namespace

void bind_kernels(py::module_& m) {
  bind_table<float>(m);
  bind_table<double>(m);
  m.def("kernels", &kernels, py::arg("isa"), py::arg("dtype"));
  m.def("isas", &isas);
}

}  // namespace fused_lstm::native
