#pragma once
// One thread an element: `launch(n, stream, body)` runs body(i) for i in [0, n), in no particular order.
// One block a row, where sums over it are wanted: `launch_rows(n, stream, body)` runs body(i, team) likewise.
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

#define FUSED_LSTM_ROW_BODY __device__ __forceinline__

constexpr int kTeamThreads = 256;

// The threads that share a row: each takes every size-th unit, from its index on.
struct Team {
  __device__ int index() const { return threadIdx.x; }
  __device__ int size() const { return kTeamThreads; }

  // Over all threads, which must all call it; in an order that is always the same.
  template <class T>
  __device__ T sum(T x) const {
    __shared__ T parts[kTeamThreads / 32];
    for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(0xffffffffu, x, distance);
    __syncthreads();  // the sum before this one has been read
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
    __syncthreads();
    T total = T(0);
    for (T part : parts) total += part;
    return total;
  }
};

template <class Body>
__global__ void __launch_bounds__(kTeamThreads) each_row(int64_t n, Body body) {
  for (int64_t i = blockIdx.x; i < n; i += gridDim.x) body(i, Team{});
}

template <class Body>
const char* launch_rows(int64_t n, Stream stream, const Body& body) {
  constexpr int64_t kMostBlocks = 1 << 20;
  if (n == 0) return nullptr;
  each_row<<<static_cast<unsigned>(n < kMostBlocks ? n : kMostBlocks), kTeamThreads, 0,
             static_cast<cudaStream_t>(stream)>>>(n, body);
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

#else

#define FUSED_LSTM_ROW_BODY inline

struct Team {
  int index() const { return 0; }
  int size() const { return 1; }
  template <class T>
  T sum(T x) const {
    return x;
  }
};

template <class Body>
const char* launch_rows(int64_t n, Stream, const Body& body) {
  for (int64_t i = n - 1; i >= 0; --i) body(i, Team{});
  return nullptr;
}

template <class Body>
const char* launch(int64_t n, Stream, const Body& body) {
  for (int64_t i = n - 1; i >= 0; --i) body(i);  // backwards: a body that relied on the order would show
  return nullptr;
}

#endif

}  // namespace fused_lstm::cuda
