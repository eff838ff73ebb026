#pragma once
// One spelling for functions that g++ and nvcc must both inline.

#ifdef __CUDACC__
#define FUSED_LSTM_HD __host__ __device__ __forceinline__
#else
#define FUSED_LSTM_HD inline __attribute__((always_inline))
#endif
