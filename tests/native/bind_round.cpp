// 16-bit floating point, as bit patterns.

#include "cpu/round.h"

#include "arrays.h"
#include "bind.h"

namespace fused_lstm::native {
namespace {

DType dtype_of(const std::string& name) {
  for (const DType dtype : {DType::kFloat32, DType::kFloat64, DType::kBFloat16, DType::kFloat16})
    if (name == name_of(dtype)) return dtype;
  throw std::invalid_argument("no dtype " + name);
}

Array<float> widen(const std::string& dtype, Array<uint16_t> bits) {
  Array<float> to(bits.size());
  cpu::widen(dtype_of(dtype), bits.data(), to.mutable_data(), bits.size());
  return to;
}

Array<uint16_t> narrow(const std::string& dtype, Array<float> x) {
  Array<uint16_t> to(x.size());
  cpu::narrow(dtype_of(dtype), x.data(), to.mutable_data(), x.size());
  return to;
}

void round_to(const std::string& dtype, Array<float> x) { cpu::round_to(dtype_of(dtype), x.mutable_data(), x.size()); }

}  // namespace

void bind_round(py::module_& m) {
  m.def("widen", &widen, py::arg("dtype"), py::arg("bits").noconvert());
  m.def("narrow", &narrow, py::arg("dtype"), py::arg("x").noconvert());
  m.def("round_to", &round_to, py::arg("dtype"), py::arg("x").noconvert());
}

}  // namespace fused_lstm::native
