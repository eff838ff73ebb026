#pragma once
// The primitives of primitives.h for nvcc. Include that one.
// Compiled for sm_80 and later, never run on hardware. What needs sm_90 does not exist in code for older ones.

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

#include "cuda/primitives.h"

#define FUSED_LSTM_KERNEL(threads) __global__ void __launch_bounds__(threads, 1)
#define FUSED_LSTM_DEVICE __device__ __forceinline__
#define UNROLL _Pragma("unroll")
#define NO_UNROLL _Pragma("unroll 1")
#define FUSED_LSTM_ARGUMENT const __grid_constant__  // read where it lies, not copied

#ifdef FUSED_LSTM_ACQUIRE_WAIT
#define FUSED_LSTM_WAIT ".acquire.cluster"
#else
#define FUSED_LSTM_WAIT ".relaxed.cluster"
#endif

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define FUSED_LSTM_HAS_CLUSTERS 1
#endif

namespace fused_lstm::cuda {

// --- identity
// ------------------------------------------------------------------------------------------------------------

FUSED_LSTM_DEVICE int thread_rank() { return threadIdx.x; }
FUSED_LSTM_DEVICE int block_threads() { return blockDim.x; }
FUSED_LSTM_DEVICE int block_index() { return blockIdx.x; }
FUSED_LSTM_DEVICE int block_count() { return gridDim.x; }

// --- memory
// --------------------------------------------------------------------------------------------------------------

FUSED_LSTM_DEVICE unsigned char* shared_memory() {
  extern __shared__ __align__(128) unsigned char fused_lstm_shared[];
  return fused_lstm_shared;
}
// In the window that instructions name shared memory by.
FUSED_LSTM_DEVICE uint32_t window(SharedAddress at) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared_memory())) + at;
}
template <class V>
FUSED_LSTM_DEVICE V shared_load(SharedAddress at) {
  return *reinterpret_cast<const V*>(shared_memory() + at);
}
template <class V>
FUSED_LSTM_DEVICE void shared_store(SharedAddress at, const V& v) {
  *reinterpret_cast<V*>(shared_memory() + at) = v;
}

FUSED_LSTM_DEVICE void copy_async(SharedAddress at, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(window(at)), "l"(from) : "memory");
}
FUSED_LSTM_DEVICE void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kStillUnderWay>
FUSED_LSTM_DEVICE void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kStillUnderWay) : "memory");
}

// --- barriers of a block
// -------------------------------------------------------------------------------------------------

FUSED_LSTM_DEVICE void block_sync() { __syncthreads(); }
FUSED_LSTM_DEVICE void named_sync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
FUSED_LSTM_DEVICE void named_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// --- clusters and messages
// -----------------------------------------------------------------------------------------------

#ifdef FUSED_LSTM_HAS_CLUSTERS

FUSED_LSTM_DEVICE int cluster_rank() {
  uint32_t r;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(r));
  return r;
}
FUSED_LSTM_DEVICE int cluster_size() {
  uint32_t r;
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(r));
  return r;
}
FUSED_LSTM_DEVICE int cluster_index() {
  uint32_t r;
  asm("mov.u32 %0, %%clusterid.x;" : "=r"(r));
  return r;
}
FUSED_LSTM_DEVICE void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
// Volatile, so that it is not moved out of loops to occupy a register there.
FUSED_LSTM_DEVICE PeerAddress peer_address(SharedAddress at, int rank) {
  PeerAddress peer;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(peer.value) : "r"(window(at)), "r"(rank));
  return peer;
}
FUSED_LSTM_DEVICE void mbarrier_init(SharedAddress at, int count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(window(at)), "r"(count) : "memory");
}
FUSED_LSTM_DEVICE void mbarrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
FUSED_LSTM_DEVICE void mbarrier_expect(SharedAddress at, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(window(at)), "r"(bytes) : "memory");
}
// try_wait.acquire.cluster would do alone, but makes ptxas drop all of L1 (CCTL.IVALL) at every wait. A relaxed wait
// and an acquire fence that is restricted to shared memory cost no instruction. That this suffices is a reading of the
// PTX ISA, not yet confirmed on hardware; compile with FUSED_LSTM_ACQUIRE_WAIT (NVCC_APPEND_FLAGS) to tell.
FUSED_LSTM_DEVICE void mbarrier_wait(SharedAddress at, uint32_t parity) {
  uint32_t done;
  do {
    asm volatile(
        "{\n.reg .pred p;\n"
        "mbarrier.try_wait.parity" FUSED_LSTM_WAIT
        ".shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n}"
        : "=r"(done)
        : "r"(window(at)), "r"(parity)
        : "memory");
  } while (!done);
  asm volatile("fence.acquire.sync_restrict::shared::cluster.cluster;" ::: "memory");
}
FUSED_LSTM_DEVICE void push(PeerAddress to, const Words4& v, PeerAddress mbarrier) {
  asm volatile(
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(to.value),
      "r"(v.word[0]), "r"(v.word[1]), "r"(v.word[2]), "r"(v.word[3]), "r"(mbarrier.value)
      : "memory");
}

#define FUSED_LSTM_WITH_CLUSTERS(...) __VA_ARGS__

#else  // older devices: kernels that use these are compiled without a body there

FUSED_LSTM_DEVICE int cluster_rank();
FUSED_LSTM_DEVICE int cluster_size();
FUSED_LSTM_DEVICE int cluster_index();
FUSED_LSTM_DEVICE void cluster_sync();
FUSED_LSTM_DEVICE PeerAddress peer_address(SharedAddress at, int rank);
FUSED_LSTM_DEVICE void mbarrier_init(SharedAddress at, int count);
FUSED_LSTM_DEVICE void mbarrier_init_fence();
FUSED_LSTM_DEVICE void mbarrier_expect(SharedAddress at, uint32_t bytes);
FUSED_LSTM_DEVICE void mbarrier_wait(SharedAddress at, uint32_t parity);
FUSED_LSTM_DEVICE void push(PeerAddress to, const Words4& v, PeerAddress mbarrier);
#define FUSED_LSTM_WITH_CLUSTERS(...) __trap();

#endif  // FUSED_LSTM_HAS_CLUSTERS

// --- global memory between blocks
// ----------------------------------------------------------------------------------------
//
// Ordinary (weak) stores and loads; flags order them. The stores of a block happen before its meeting, that before the
// fence and the store of the flag (a release pattern, which is cumulative), the acquiring load that sees it before the
// meeting of the reader's warp, that before the loads. Loads pass by L1, which would only be filled with what is read
// once.

template <class V>
FUSED_LSTM_DEVICE void exchange_store(void* to, const V& v) {
  *static_cast<V*>(to) = v;
}
FUSED_LSTM_DEVICE Words4 exchange_load(const void* from) {
  Words4 v;
  asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.word[0]), "=r"(v.word[1]), "=r"(v.word[2]), "=r"(v.word[3])
               : "l"(from)
               : "memory");
  return v;
}

// A release store would bring a second fence with it.
FUSED_LSTM_DEVICE void flag_release(uint32_t* flag, uint32_t value) {
  asm volatile("fence.acq_rel.gpu;\nst.relaxed.gpu.global.u32 [%0], %1;" ::"l"(flag), "r"(value) : "memory");
}
FUSED_LSTM_DEVICE void flag_wait(const uint32_t* flag, uint32_t value) {
  uint32_t seen;
  do {
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(flag) : "memory");
  } while (seen < value);
}

// --- numbers
// -------------------------------------------------------------------------------------------------------------

FUSED_LSTM_DEVICE float round_to_tf32(float x) {
  uint32_t y;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(x));
  return __uint_as_float(y);
}

FUSED_LSTM_DEVICE float quick_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
FUSED_LSTM_DEVICE float quick_reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

template <class T>
FUSED_LSTM_DEVICE uint32_t pack(float low, float high);
template <>
FUSED_LSTM_DEVICE uint32_t pack<BFloat16>(float low, float high) {
  uint32_t r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}
template <>
FUSED_LSTM_DEVICE uint32_t pack<Float16>(float low, float high) {
  uint32_t r;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}

// --- warp
// ----------------------------------------------------------------------------------------------------------------

FUSED_LSTM_DEVICE void warp_sync() { __syncwarp(); }
FUSED_LSTM_DEVICE uint32_t warp_shuffle(uint32_t v, int lane) { return __shfl_sync(0xffffffffu, v, lane); }

FUSED_LSTM_DEVICE void load_matrices(uint32_t (&r)[4], SharedAddress at) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(window(at))
               : "memory");
}
FUSED_LSTM_DEVICE void load_matrices_transposed(uint32_t (&r)[4], SharedAddress at) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(window(at))
               : "memory");
}

template <class T>
FUSED_LSTM_DEVICE void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);

#define FUSED_LSTM_MMA(T, shape)                                                                              \
  template <>                                                                                                 \
  FUSED_LSTM_DEVICE void mma<T>(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {            \
    asm volatile("mma.sync.aligned." shape " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                             \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));                             \
  }
FUSED_LSTM_MMA(BFloat16, "m16n8k16.row.col.f32.bf16.bf16.f32")
FUSED_LSTM_MMA(Float16, "m16n8k16.row.col.f32.f16.f16.f32")
FUSED_LSTM_MMA(float, "m16n8k8.row.col.f32.tf32.tf32.f32")
#undef FUSED_LSTM_MMA

// --- launch
// --------------------------------------------------------------------------------------------------------------

// Null, or why this kernel cannot run on this device. Whatever else went wrong is thrown: it says nothing about the
// kernel. The error is taken back, so that nobody else meets it.
inline const char* refusal(cudaError_t status) {
  if (status == cudaSuccess) return nullptr;
  (void)cudaGetLastError();
  switch (status) {
    case cudaErrorInvalidConfiguration:
    case cudaErrorCooperativeLaunchTooLarge:
    case cudaErrorLaunchOutOfResources:
    case cudaErrorInvalidClusterSize:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorInvalidValue:
    case cudaErrorNotSupported: return cudaGetErrorString(status);
    default: throw std::runtime_error(std::string("fused_lstm: CUDA: ") + cudaGetErrorString(status));
  }
}

inline int number_of(cudaDeviceAttr name) {
  int device = 0, value = 0;
  const bool known =
      cudaGetDevice(&device) == cudaSuccess && cudaDeviceGetAttribute(&value, name, device) == cudaSuccess;
  if (!known) (void)cudaGetLastError();
  return value;
}

// What a function may ask for belongs to the function, not to the launch: always all that there is, so that launches of
// other threads need not agree.
inline const char* prepare(const void* function, bool cluster, bool large_cluster) {
  cudaFuncAttributes facts;
  if (const char* error = refusal(cudaFuncGetAttributes(&facts, function))) return error;
  constexpr int kClusters = 90;
  if (cluster && facts.ptxVersion < kClusters) return "it was compiled for devices without clusters";
  const int most = number_of(cudaDevAttrMaxSharedMemoryPerBlockOptin) - static_cast<int>(facts.sharedSizeBytes);
  if (const char* error = refusal(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, most)))
    return error;
  if (!large_cluster) return nullptr;
  return refusal(cudaFuncSetAttribute(function, cudaFuncAttributeNonPortableClusterSizeAllowed, 1));
}

// Whether the device, or what of it belongs to this process, holds a cluster (or, if cooperative, the whole grid) at
// once.
inline const char* refuse_residence(const cudaLaunchConfig_t& config, const void* function, bool cooperative) {
  int fit = 0;
  const auto status = cooperative ? cudaOccupancyMaxActiveBlocksPerMultiprocessor(&fit, function, config.blockDim.x,
                                                                                  config.dynamicSmemBytes)
                                  : cudaOccupancyMaxActiveClusters(&fit, function, &config);
  if (const char* error = refusal(status)) return error;
  const int multiprocessors = cooperative ? number_of(cudaDevAttrMultiProcessorCount) : 1;
  const int wanted = cooperative ? static_cast<int>(config.gridDim.x) : 1;
  return fit * multiprocessors >= wanted ? nullptr : "the device cannot hold all its blocks at once";
}

// Null on success, else why nothing was launched.
template <class Arguments>
const char* launch(const Launch& l, void (*kernel)(Arguments), const Arguments& arguments) {
  constexpr int kPortableCluster = 8;
  const auto* function = reinterpret_cast<const void*>(kernel);
  if (const char* error = prepare(function, l.cluster_size > 1, l.cluster_size > kPortableCluster)) return error;
  cudaLaunchAttribute attributes[2] = {};
  int count = 0;
  if (l.cluster_size > 1) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count].val.clusterDim.x = l.cluster_size;
    attributes[count].val.clusterDim.y = attributes[count].val.clusterDim.z = 1;
    ++count;
  }
  if (l.cooperative) {
    attributes[count].id = cudaLaunchAttributeCooperative;
    attributes[count].val.cooperative = 1;
    ++count;
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(l.clusters * l.cluster_size);
  config.blockDim = dim3(l.threads);
  config.dynamicSmemBytes = l.shared_bytes;
  config.stream = static_cast<cudaStream_t>(l.stream);
  config.attrs = attributes, config.numAttrs = count;
  if (count > 0)
    if (const char* error = refuse_residence(config, function, l.cooperative)) return error;
  return refusal(cudaLaunchKernelEx(&config, kernel, arguments));
}

}  // namespace fused_lstm::cuda
