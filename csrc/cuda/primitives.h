#pragma once
// All that the cluster and grid kernels ask of the hardware, by name. Two implementations:
//   nvcc           primitives_device.h    PTX; sm_80 for the warp's primitives and flags, sm_90 for clusters
//   plain C++      primitives_emulated.h  fibers that check the rules (see emulator.h)
// Kernels and the code that launches them include this header only, write no PTX, and compile unchanged against either.
// The device side has been compiled, never run on hardware.
//
// clang-format off
// identity    thread_rank()  block_threads()  block_index()  block_count()  cluster_rank()  cluster_size()  cluster_index()
// memory      shared_load<V>(at)  shared_store(at, v)   a block's shared memory, V of 2, 4, 8 or 16 bytes, aligned
//             copy_async(at, from)                   16 bytes of global memory to shared memory, on their own
//             copy_commit()                          what this thread began to copy since the last commit is a group
//             copy_wait<n>()                         until all but the last n groups have come, for this thread to see
// block       block_sync()  named_sync(id, n)  named_arrive(id, n)     n threads (whole warps) meet; arrive does not wait
// cluster     cluster_sync()                         costs microseconds: to begin and to end with, never in a loop over steps
//             peer_address(at, rank)                 byte `at` of the shared memory of a block of this cluster
// mbarrier    mbarrier_init(at, count)  mbarrier_init_fence()   then a cluster_sync before peers may push
//             mbarrier_expect(at, bytes)             one arrival, and bytes to wait for; they may have come already
//             mbarrier_wait(at, parity)              until the phase of that parity is over; then pushed bytes are visible
//             push(to, words, mbarrier)              16 bytes into a peer's shared memory, counted by the peer's mbarrier.
//                                                    Pushes are in no order among each other.
// grid        exchange_store(to, v)  exchange_load(from)   global memory that blocks write (V as above) for others to read
//                                                    (Words4) in the same launch, ordered by flags alone
//             flag_release(flag, value)              by one thread, after a block_sync: publishes what the block wrote
//             flag_wait(flag, value)                 until *flag >= value; then what was published is visible to this
//                                                    thread, after a warp_sync or block_sync to the others.
//                                                    Cooperative launches only.
// warp        warp_sync()  warp_shuffle(v, lane)
//             load_matrices(r, at)  load_matrices_transposed(r, at)   four 8x8 matrices of 16-bit values; lane l names
//                                                    row l % 8 of matrix l / 8; register i of a lane then holds its pair
//                                                    of matrix i
//             mma<T>(d, a, b0, b1)                   d += a b: 16x8 float = 16xK times Kx8, K = 16 for 16-bit T, 8 for float
//                                                    (as TF32: float with a mantissa of 10 bits)
// numbers     pack<T>(low, high)  round_to_tf32(x)     otherwise as in cell/float16.h
//             quick_exp2(x)  quick_reciprocal(x)     good to 2^-22, no denormals
// launch      launch(Launch, kernel, arguments)      null, or why nothing was launched
// clang-format on
//
// Fragments of mma, with g = lane / 4, q = lane % 4, n = values in a register (2 of 16 bits, 1 float), K as above:
//   a[r]: row g + 8 (r % 2), columns n q + (K / 2) (r / 2) + {0 .. n-1}
//   b_r:  rows n q + (K / 2) r + {0 .. n-1}, column g
//   d[r]: row g + 8 (r / 2), column 2 q + r % 2

#include <cstddef>
#include <cstdint>

#include "cell/float16.h"
#include "cell/macros.h"
#include "cuda/operand.h"

namespace fused_lstm::cuda {

using SharedAddress = uint32_t;  // bytes from the beginning of the block's shared memory

struct PeerAddress {
  uint32_t value;
  FUSED_LSTM_HD PeerAddress plus(uint32_t bytes) const { return {value + bytes}; }
};

struct alignas(8) Words2 {
  uint32_t word[2];
};
struct alignas(16) Words4 {
  uint32_t word[4];
};
struct alignas(16) Floats4 {
  float value[4];
};

struct Launch {
  int clusters, cluster_size, threads, shared_bytes;
  bool cooperative = false;  // all blocks resident at once, as flag_wait needs
  void* stream = nullptr;    // cudaStream_t
};

}  // namespace fused_lstm::cuda

#ifdef __CUDACC__
#include "cuda/primitives_device.h"
#else
#include "cuda/primitives_emulated.h"
#endif
