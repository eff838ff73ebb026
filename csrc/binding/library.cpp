// Schemas of every operator, and what the library says about itself. Loading it registers them.

#include <string>

#include "binding/compat.h"
#include "binding/schemas.h"
#include "cell/variants.h"

#ifndef FUSED_LSTM_BUILD_INFO
#define FUSED_LSTM_BUILD_INFO "{}"
#endif

namespace fused_lstm {
namespace {

std::string build_info() { return FUSED_LSTM_BUILD_INFO; }

std::string cell_names() {
  std::string names;
  for (const CellShape& cell : kCellShapes) names.append(names.empty() ? "" : ",").append(cell.name);
  return names;
}

}  // namespace

STABLE_TORCH_LIBRARY(fused_lstm, m) {
  m.def("lstm_layer" FUSED_LSTM_FORWARD_SCHEMA);
  m.def("lstm_layer_backward" FUSED_LSTM_BACKWARD_SCHEMA);
  m.def("build_info() -> str");
  m.def("cell_names() -> str");
  m.def("cuda_served() -> int[]");  // served_calls of the CUDA library
  m.def("cuda_plan(int[] sizes, int[] device, str wanted) -> (str, str, str, str)");
  m.def("cpu_isa() -> str");
  m.def("cpu_isas() -> str");
  m.def("limit_threads(int n) -> ()");
  m.def("trim_memory() -> int");
  m.def("poison_memory(bool on) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(fused_lstm, CompositeExplicitAutograd, m) {
  m.impl("build_info", TORCH_BOX(&build_info));
  m.impl("cell_names", TORCH_BOX(&cell_names));
}

}  // namespace fused_lstm
