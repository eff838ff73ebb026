#pragma once
// One function per part of the internals; module.cpp calls them all.

#include <pybind11/pybind11.h>

namespace fused_lstm::native {

void bind_kernels(pybind11::module_&);  // cpu/kernels.h: the table of every supported ISA
void bind_cells(pybind11::module_&);    // cell/variants.h on plain doubles
void bind_rows(pybind11::module_&);     // core/rows.h
void bind_team(pybind11::module_&);     // cpu/team.h, cpu/shards.h
void bind_panels(pybind11::module_&);   // cpu/panels.h, cpu/outer.h
void bind_memory(pybind11::module_&);   // cpu/memory.h
void bind_round(pybind11::module_&);    // cpu/round.h
void bind_cuda_emulation(pybind11::module_&);  // cuda/primitives.h under emulation
void bind_cuda_cluster(pybind11::module_&);    // cuda/cluster_*.cuh under emulation
void bind_cuda_grid(pybind11::module_&);       // cuda/grid_*.cuh under emulation

}  // namespace fused_lstm::native
