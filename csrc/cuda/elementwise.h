#pragma once
// One thread an element: `launch(n, stream, body)` runs body(i) for i in [0, n), in no particular order.
// Compiled by a plain C++ compiler the same bodies run as a loop, which is how tests execute them without a GPU.

#include <cstdint>

#ifdef __CUDACC__
#include <cuda_runtime.h>
#endif

namespace fused_lstm::cuda {

using Stream = void*;  // a cudaStream_t; host code that includes this needs no CUDA header

#ifdef __CUDACC__

template <class Body>
__global__ void each_element(int64_t n, Body body) {
  const int64_t stride = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += stride) body(i);
}

// Null on success, else the driver's words.
template <class Body>
const char* launch(int64_t n, Stream stream, const Body& body) {
  constexpr int kThreads = 256;
  constexpr int64_t kMostBlocks = 1 << 20;
  if (n == 0) return nullptr;
  const int64_t blocks = (n + kThreads - 1) / kThreads;
  each_element<<<static_cast<unsigned>(blocks < kMostBlocks ? blocks : kMostBlocks), kThreads, 0,
                 static_cast<cudaStream_t>(stream)>>>(n, body);
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

#else

template <class Body>
const char* launch(int64_t n, Stream, const Body& body) {
  for (int64_t i = n - 1; i >= 0; --i) body(i);  // backwards: a body that relied on the order would show
  return nullptr;
}

#endif

}  // namespace fused_lstm::cuda
