// The pool of memory that stays warm.

#include "cpu/memory.h"

#include "arrays.h"
#include "bind.h"

namespace fused_lstm::native {
namespace {

uintptr_t acquire(size_t bytes) { return reinterpret_cast<uintptr_t>(cpu::acquire(bytes)); }
void release(uintptr_t block) { cpu::release(reinterpret_cast<void*>(block)); }

py::bytes content(uintptr_t block, size_t bytes) { return {reinterpret_cast<const char*>(block), bytes}; }
void fill(uintptr_t block, int value, size_t bytes) { std::memset(reinterpret_cast<void*>(block), value, bytes); }

}  // namespace

void bind_memory(py::module_& m) {
  m.def("acquire", &acquire, py::arg("bytes"));
  m.def("release", &release, py::arg("block"));
  m.def("content", &content, py::arg("block"), py::arg("bytes"));
  m.def("fill", &fill, py::arg("block"), py::arg("value"), py::arg("bytes"));
  m.def("trim_pool", &cpu::trim_pool);
  m.def("poison_pool", &cpu::poison_pool, py::arg("on"));
}

}  // namespace fused_lstm::native
