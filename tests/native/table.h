#pragma once
// The Python object that stands for the kernels of one ISA and type; its methods come from two files.

#include "arrays.h"
#include "cpu/kernels.h"

namespace fused_lstm::native {

template <class T>
struct Table {
  const cpu::Kernels<T>& kernels;
};

// Adds cell_forward and cell_backward (bind_cells.cpp).
void bind_vector_cells(py::class_<Table<float>>&);
void bind_vector_cells(py::class_<Table<double>>&);

}  // namespace fused_lstm::native
