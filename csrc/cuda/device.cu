// The numbers of a device. Compiled by a plain C++ compiler: those of an H200, which tests plan for.

#include "cuda/families.h"

namespace fused_lstm::cuda {

Device facts_of(int device) {
#ifdef __CUDACC__
  const auto number = [&](cudaDeviceAttr name) {
    int value = 0;
    if (cudaDeviceGetAttribute(&value, name, device) == cudaSuccess) return value;
    (void)cudaGetLastError();  // nobody else shall meet it
    return 0;
  };
  return {number(cudaDevAttrComputeCapabilityMajor), number(cudaDevAttrComputeCapabilityMinor),
          number(cudaDevAttrMultiProcessorCount), number(cudaDevAttrMaxSharedMemoryPerBlockOptin)};
#else
  (void)device;
  return {9, 0, 132, 227 * 1024};
#endif
}

}  // namespace fused_lstm::cuda
