// The emulator of csrc/cuda and small kernels that show whether it keeps the rules, and finds those that break them.

#include <algorithm>

#include "arrays.h"
#include "bind.h"
#include "cuda/primitives.h"

namespace fused_lstm::native {
namespace {

using namespace fused_lstm::cuda;

struct SmallArguments {
  int rounds;
  uint32_t* out;
  uint32_t* flags;
};

// Every thread writes a word, the block meets, every thread reads its neighbour's; again and again.
void neighbours(SmallArguments p) {
  const int me = thread_rank(), n = block_threads();
  uint32_t v = me + 100 * block_index();
  for (int round = 0; round < p.rounds; ++round) {
    shared_store<uint32_t>(4 * me, v);
    block_sync();
    v = shared_load<uint32_t>(4 * ((me + 1) % n));
    block_sync();
  }
  p.out[block_index() * n + me] = v;
}

// Warps 1, 2, ... hand a word each to warp 0 at a barrier of their own, where only warp 0 waits.
void handing_over(SmallArguments p) {
  const int warp = thread_rank() / 32, lane = thread_rank() % 32, warps = block_threads() / 32;
  for (int other = 1; other < warps; ++other) {
    if (warp == other) {
      shared_store<uint32_t>(128 * other + 4 * lane, 1000 * other + lane);
      named_arrive(other, 64);
    } else if (warp == 0) {
      named_sync(other, 64);
      p.out[(block_index() * warps + other) * 32 + lane] = shared_load<uint32_t>(128 * other + 4 * lane);
    }
  }
}

// A number goes round the blocks of a cluster: each pushes what it got, plus one, to the next. Two buffers, two
// mbarriers.
void ring(SmallArguments p) {
  constexpr SharedAddress kBarriers = 0, kBuffers = 16;
  const int rank = cluster_rank(), size = cluster_size(), me = thread_rank();
  if (me == 0) {
    mbarrier_init(kBarriers, 1), mbarrier_init(kBarriers + 8, 1);
    mbarrier_init_fence();
    for (int b = 0; b < 2 && b < p.rounds; ++b) mbarrier_expect(kBarriers + 8 * b, 16 * block_threads());
  }
  cluster_sync();
  uint32_t v = 1000 * cluster_index() + 10 * rank;
  for (int round = 0; round < p.rounds; ++round) {
    const uint32_t buffer = round % 2, bytes = 16 * block_threads();
    const SharedAddress place = kBuffers + buffer * bytes + 16 * me;
    const int next = (rank + 1) % size;
    push(peer_address(place, next), Words4{{v, v, v, v + 1}}, peer_address(kBarriers + 8 * buffer, next));
    mbarrier_wait(kBarriers + 8 * buffer, round / 2 % 2);
    if (me == 0 && round + 2 < p.rounds) mbarrier_expect(kBarriers + 8 * buffer, bytes);
    v = shared_load<Words4>(kBuffers + buffer * bytes + 16 * ((me + 1) % block_threads())).word[3];
    cluster_sync();  // all have read before anybody pushes on: in a ring, who pushes hears late of who reads
  }
  p.out[block_index() * block_threads() + me] = v;
}

// Block after block adds its number to what the one before it left in global memory.
void relay(SmallArguments p) {
  if (thread_rank() == 0 && block_index() > 0) flag_wait(p.flags + block_index() - 1, 1);
  block_sync();
  p.out[block_index()] = block_index() + (block_index() > 0 ? p.out[block_index() - 1] : 0);
  block_sync();
  if (thread_rank() == 0) flag_release(p.flags + block_index(), 1);
}

// Every thread adds one to a word that the block before left for others, and leaves it to the next.
void passing_on(SmallArguments p) {
  const int me = thread_rank(), n = block_threads(), block = block_index();
  uint32_t v = me;
  if (block > 0) {
    if (me % 32 == 0) flag_wait(p.flags + block - 1, 1);
    warp_sync();
    v = exchange_load(p.out + (block - 1) * n + (me + 4) % n / 4 * 4).word[me % 4] + 1;
  }
  exchange_store(p.out + block * n + me, v);
  block_sync();
  if (me == 0) flag_release(p.flags + block, 1);
}

// Four words at a time go through shared memory and gain one, two groups of copies under way.
void copied(SmallArguments p) {
  if (block_index() > 0) return;  // the others only make room for results
  const int me = 4 * thread_rank(), all = 4 * block_threads();
  for (int i = 0; i < 4 * p.rounds; ++i) p.out[i / 4 * all + me + i % 4] = i;
  for (int round = 0; round <= p.rounds; ++round) {
    if (round < p.rounds) copy_async(4 * (round % 2 * all + me), p.out + round * all + me);
    copy_commit();
    if (round == 0) continue;
    copy_wait<1>();
    const Words4 v = shared_load<Words4>(4 * ((round - 1) % 2 * all + me));
    for (int i = 0; i < 4; ++i) p.out[(round - 1) * all + me + i] = v.word[i] + 1;
  }
}

void copies_into_what_is_copied(SmallArguments p) { copy_async(0, p.out), copy_async(0, p.out); }

// The first block waits for the last.
void waits_for_the_last(SmallArguments p) {
  if (block_index() == block_count() - 1)
    flag_release(p.flags, 1);
  else
    flag_wait(p.flags, 1);
}

void half_of_a_block(SmallArguments) {
  if (thread_rank() < 16) block_sync();
}
void diverged(SmallArguments p) {
  uint32_t r[4];
  shared_store(16 * thread_rank(), Words4{});
  block_sync();
  if (thread_rank() % 32 < 16)
    p.out[0] = warp_shuffle(1, 0);
  else
    load_matrices(r, 0);
}
void out_of_range(SmallArguments p) { shared_store<uint32_t>(4 * thread_rank() + 4 * p.rounds, 1); }
void misaligned(SmallArguments) { shared_store<uint32_t>(2, 1); }
void stores_into_an_mbarrier(SmallArguments) {
  mbarrier_init(8, 1);
  shared_store<uint32_t>(12, 1);
}
void two_counts(SmallArguments) { named_sync(1, thread_rank() < 32 ? 64 : 96); }

constexpr std::pair<const char*, void (*)(SmallArguments)> kSmall[] = {
    {"neighbours", neighbours},
    {"handing_over", handing_over},
    {"ring", ring},
    {"relay", relay},
    {"passing_on", passing_on},
    {"copied", copied},
    {"copies_into_what_is_copied", copies_into_what_is_copied},
    {"waits_for_the_last", waits_for_the_last},
    {"half_of_a_block", half_of_a_block},
    {"diverged", diverged},
    {"out_of_range", out_of_range},
    {"misaligned", misaligned},
    {"stores_into_an_mbarrier", stores_into_an_mbarrier},
    {"two_counts", two_counts},
};

py::array_t<uint32_t> run_small(const std::string& name, int clusters, int cluster_size, int threads, int shared_bytes,
                                bool cooperative, int rounds) {
  const auto* found = std::find_if(std::begin(kSmall), std::end(kSmall), [&](auto& k) { return name == k.first; });
  require(found != std::end(kSmall), "no such kernel");
  const size_t blocks = size_t(clusters) * cluster_size;
  std::vector<uint32_t> flags(blocks);
  py::array_t<uint32_t> out(static_cast<py::ssize_t>(blocks * threads));
  std::fill_n(out.mutable_data(), out.size(), 0xffffffff);
  (void)launch(Launch{clusters, cluster_size, threads, shared_bytes, cooperative}, found->second,
               SmallArguments{rounds, out.mutable_data(), flags.data()});
  return out;
}

struct ProductArguments {
  const float *left, *right;  // [16, K], [K, 8]
  float* out;                 // [16, 8]
};

// One product of a warp. For 16-bit types b comes through shared memory, as rows of eight values.
template <class T>
void product(ProductArguments p) {
  constexpr int kPer = Operand<T>::kPerWord, K = Operand<T>::kDepth;
  const int lane = thread_rank(), g = lane / 4, q = lane % 4;
  auto word = [](float low, float high) {
    if constexpr (kPer == 2)
      return pack<T>(low, high);
    else
      return bits_of(low);
  };
  uint32_t a[4], b[4] = {};
  for (int r = 0; r < 4; ++r) {
    const float* at = p.left + (g + 8 * (r % 2)) * K + kPer * q + K / 2 * (r / 2);
    a[r] = word(at[0], at[kPer - 1]);
  }
  if constexpr (kPer == 2) {
    Words4 row{};
    for (int i = 0; i < 4; ++i) row.word[i] = pack<T>(p.right[lane % K * 8 + 2 * i], p.right[lane % K * 8 + 2 * i + 1]);
    shared_store(16 * lane, row);
    block_sync();
    load_matrices_transposed(b, 16 * lane);
  } else {
    for (int r = 0; r < 2; ++r) b[r] = bits_of(p.right[(q + K / 2 * r) * 8 + g]);
  }
  float d[4] = {1, 1, 1, 1};
  mma<T>(d, a, b[0], b[1]);
  for (int r = 0; r < 4; ++r) p.out[(g + 8 * (r / 2)) * 8 + 2 * q + r % 2] = d[r];
}

Array<float> one_product(const std::string& dtype, Array<float> left, Array<float> right) {
  require(left.size() % 16 == 0 && right.size() == left.size() / 2, "left is [16, K], right [K, 8]");
  Array<float> out({16, 8});
  const auto kernel = dtype == "float32" ? product<float> : dtype == "bfloat16" ? product<BFloat16> : product<Float16>;
  (void)launch(Launch{1, 1, 32, 512}, kernel, ProductArguments{left.data(), right.data(), out.mutable_data()});
  return out;
}

// What the lanes of a warp get of four matrices that lie one row after the other in shared memory, straight.
struct MatrixArguments {
  const uint16_t* in;
  uint32_t* out;
};
void matrices(MatrixArguments p) {
  uint32_t r[4];
  const int lane = thread_rank();
  for (int i = 0; i < 8; ++i) shared_store(16 * lane + 2 * i, p.in[8 * lane + i]);
  block_sync();
  load_matrices(r, 16 * lane);
  for (int i = 0; i < 4; ++i) p.out[4 * lane + i] = warp_shuffle(r[i], lane ^ 1);
}

py::array_t<uint32_t> loaded_matrices(py::array_t<uint16_t, py::array::c_style> in) {
  require(in.size() == 256, "four matrices of 8 x 8");
  py::array_t<uint32_t> out({32, 4});
  (void)launch(Launch{1, 1, 32, 512}, matrices, MatrixArguments{in.data(), out.mutable_data()});
  return out;
}

void set_options(uint64_t seed, const std::vector<std::string>& forgotten, int push_shift, int exchange_shift) {
  emulator::g_options = {seed, {{forgotten.begin(), forgotten.end()}, push_shift, exchange_shift}};
}

py::dict trace() {
  py::dict d;
  const emulator::Trace& t = emulator::g_trace;
  d["launches"] = emulator::g_launches;
  d["switches"] = t.switches, d["pushes"] = t.pushes, d["products"] = t.products, d["order"] = t.order;
  return d;
}

}  // namespace

void bind_cuda_emulation(py::module_& whole) {
  py::module_ m = whole.def_submodule("emulation");
  py::register_exception<emulator::Error>(m, "Error");
  m.def("options", &set_options, py::arg("seed"), py::arg("forgotten") = std::vector<std::string>{},
        py::arg("push_shift") = 0, py::arg("exchange_shift") = 0);
  m.def("trace", &trace);
  m.def("small", &run_small, py::arg("name"), py::arg("clusters") = 1, py::arg("cluster_size") = 1,
        py::arg("threads") = 64, py::arg("shared_bytes") = 4096, py::arg("cooperative") = false, py::arg("rounds") = 1);
  m.def("product", &one_product, py::arg("dtype"), py::arg("left"), py::arg("right"));
  m.def("matrices", &loaded_matrices, py::arg("matrices"));
}

}  // namespace fused_lstm::native
