// fused_lstm_native: internals of the library for the tests in test_kernels_*.py. Arguments are trusted.

#include "bind.h"

PYBIND11_MODULE(fused_lstm_native, m) {
  using namespace fused_lstm::native;
  bind_kernels(m);
  bind_cells(m);
  bind_rows(m);
  bind_team(m);
  bind_panels(m);
  bind_memory(m);
  bind_round(m);
  bind_cuda_emulation(m);
  bind_cuda_cluster(m);
  bind_cuda_grid(m);
}
