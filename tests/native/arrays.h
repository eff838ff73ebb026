#pragma once
// numpy arrays as the internals want memory: plain pointers, and lists of row pointers.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace fused_lstm::native {

namespace py = pybind11;

// Bound with py::arg().noconvert(), so that what is written lands in the caller's array.
template <class T>
using Array = py::array_t<T, py::array::c_style>;

inline void require(bool yes, const char* what) {
  if (!yes) throw std::invalid_argument(what);
}

// One pointer per row of a 2-D array.
template <class T>
std::vector<T*> rows_of(Array<T>& a) {
  require(a.ndim() == 2, "a 2-D array is needed");
  std::vector<T*> rows(a.shape(0));
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = a.mutable_data() + i * a.shape(1);
  return rows;
}

template <class T>
T* data_or_null(std::optional<Array<T>>& a) {
  return a ? a->mutable_data() : nullptr;
}

template <class T>
std::vector<T*> rows_or_nothing(std::optional<Array<T>>& a) {
  return a ? rows_of(*a) : std::vector<T*>{};
}

template <class T>
const char* dtype_suffix() {
  return sizeof(T) == 4 ? "Float" : "Double";
}

}  // namespace fused_lstm::native
