#include "cuda/plan.h"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <vector>

#include "cell/variants.h"
#include "cuda/cluster_shapes.h"
#include "cuda/grid_shapes.h"

namespace fused_lstm::cuda {
namespace {

constexpr const char* kNames[kFamilies] = {"stepwise", "cluster", "grid"};

// --- what was measured
// ------------------------------------------------------------------------------------------------

// A family is recommended where a results file from real hardware shows it right and at least as fast as the others.
struct Evidence {
  Family family;
  DType dtype;
  int major;  // of the device
  int64_t most_hidden, most_rows;
  const char* file;  // in benchmarks/results/
};
// Not yet measured on hardware: nothing is recommended but stepwise.
const std::vector<Evidence> kMeasured = {};

const Evidence* evidence_for(const Question& q, Family family) {
  for (const Evidence& e : kMeasured) {
    if (e.family == family && e.dtype == q.problem.dtype && e.major == q.device.major &&
        q.problem.hidden <= e.most_hidden && q.problem.batch <= e.most_rows)
      return &e;
  }
  return nullptr;
}

// --- shapes
// -----------------------------------------------------------------------------------------------------------

template <class T>
constexpr DType kDTypeOf = DType::kFloat32;
template <>
constexpr DType kDTypeOf<BFloat16> = DType::kBFloat16;
template <>
constexpr DType kDTypeOf<Float16> = DType::kFloat16;

struct ShapeFacts {
  DType dtype;
  int hidden, blocks, threads;  // blocks: of a cluster
  int factor_bytes;             // of a weight on chip
  int (*shared_bytes)(int tiles);  // that a block works on
  int64_t (*workspace_bytes)(const RecurrenceRows&, int batch_groups);
};

template <class S, class Factor>
ShapeFacts cluster_facts() {
  return {kDTypeOf<typename S::T>,
          S::kHidden,
          S::kBlocks,
          S::kThreads,
          sizeof(Factor),
          [](int) { return S::kSharedBytes; },
          nullptr};
}

template <class S>
ShapeFacts grid_facts() {
  return {kDTypeOf<typename S::T>, S::kHidden,        0, S::kThreads, sizeof(typename S::Product::Factor),
          &S::shared_bytes,        &grid_workspace<S>};
}

const std::vector<ShapeFacts>& cluster_shapes(Pass pass) {
#define FUSED_LSTM_FACTS(T, H, C, K) cluster_facts<ClusterForwardShape<T, H, C, K>, T>(),
  static const std::vector<ShapeFacts> forward = {FUSED_LSTM_FOR_EACH_CLUSTER_FORWARD_SHAPE(FUSED_LSTM_FACTS)};
#undef FUSED_LSTM_FACTS
#define FUSED_LSTM_FACTS(T, H, C, K) \
  cluster_facts<ClusterBackwardShape<T, H, C, K>, ClusterBackwardShape<T, H, C, K>::Factor>(),
  static const std::vector<ShapeFacts> backward = {FUSED_LSTM_FOR_EACH_CLUSTER_BACKWARD_SHAPE(FUSED_LSTM_FACTS)};
#undef FUSED_LSTM_FACTS
  return pass == Pass::kForward ? forward : backward;
}

const std::vector<ShapeFacts>& grid_shapes(Pass pass) {
#define FUSED_LSTM_FACTS(T, H, W, R) grid_facts<GridForwardShape<T, H, W, R>>(),
  static const std::vector<ShapeFacts> forward = {FUSED_LSTM_FOR_EACH_GRID_FORWARD_SHAPE(FUSED_LSTM_FACTS)};
#undef FUSED_LSTM_FACTS
#define FUSED_LSTM_FACTS(T, H, W, R) grid_facts<GridBackwardShape<T, H, W, R>>(),
  static const std::vector<ShapeFacts> backward = {FUSED_LSTM_FOR_EACH_GRID_BACKWARD_SHAPE(FUSED_LSTM_FACTS)};
#undef FUSED_LSTM_FACTS
  return pass == Pass::kForward ? forward : backward;
}

// The smallest that holds H units, -1 if none does; `most`: what the largest would hold.
int fitting(const std::vector<ShapeFacts>& shapes, const Problem& p, int& most) {
  int found = -1;
  most = 0;
  for (size_t i = 0; i < shapes.size(); ++i) {
    if (shapes[i].dtype != p.dtype) continue;
    most = std::max(most, shapes[i].hidden);
    if (shapes[i].hidden >= p.hidden && (found < 0 || shapes[i].hidden < shapes[found].hidden))
      found = static_cast<int>(i);
  }
  return found;
}

// --- families
// ---------------------------------------------------------------------------------------------------------

template <class... Words>
std::string words(const Words&... all) {
  std::ostringstream os;
  (os << ... << all);
  return os.str();
}

Offer refusing(std::string why) {
  Offer offer;
  offer.refused = std::move(why);
  return offer;
}

// What no kernel with weights on chip can do.
std::string beyond_weights_on_chip(const Question& q) {
  const Problem& p = q.problem;
  if (p.cell != 0) return words("it knows the vanilla cell only, not ", kCellShapes[p.cell].name);
  if (p.cell_clip > 0) return "it bounds no cell state (cell_clip)";
  if (p.projection > 0) return "it knows no projection (proj_size)";
  if (q.scaled) return "it knows no recurrent scale";
  if (p.dtype == DType::kFloat64) return "it has no float64 kernels";
  if (p.dtype == DType::kFloat32 && !q.tf32)
    return "it multiplies float32 as TF32, which torch.backends.cudnn.rnn.fp32_precision does not allow";
  if (p.batch == 0 || p.steps == 0) return "there is nothing to do";
  constexpr int64_t kMost = std::numeric_limits<int>::max();
  if (p.steps > kMost / p.batch / 8) return "it counts steps times rows in 32 bits";
  return "";
}

int64_t tiles_of(const Problem& p) { return (p.batch + kTileRows - 1) / kTileRows; }

Offer short_of_shared_memory(int64_t needed, const Device& device) {
  return refusing(words("a block needs ", needed, " bytes of shared memory, the device gives ", device.shared_bytes));
}

// A product and a launch; both once more for a projection; a launch more for a whole row, a product more for W_ho.
int launches_a_step(const Problem& p) {
  const CellShape& cell = kCellShapes[p.cell];
  return 2 + (p.projection > 0 ? 2 : 0) + (cell.elementwise() ? 0 : 1) + (cell.output_cell ? 1 : 0);
}

Offer offer_stepwise(const Question& q, Pass pass) {
  Offer offer;
  offer.launches = static_cast<int>(std::min<int64_t>(
      q.problem.directions() * q.problem.steps * launches_a_step(q.problem), std::numeric_limits<int>::max()));
  (void)pass;
  return offer;
}

Offer offer_cluster(const Question& q, Pass pass) {
  const Problem& p = q.problem;
  if (std::string why = beyond_weights_on_chip(q); !why.empty()) return refusing(why);
  if (q.device.major < 9) return refusing("it needs clusters of blocks: compute capability 9.0 or later");
  int most = 0;
  const std::vector<ShapeFacts>& shapes = cluster_shapes(pass);
  const int shape = fitting(shapes, p, most);
  if (shape < 0) return refusing(words("it holds at most ", most, " hidden units of ", name_of(p.dtype)));
  const ShapeFacts& s = shapes[shape];
  const int shared = s.shared_bytes(1);
  if (shared > q.device.shared_bytes) return short_of_shared_memory(shared, q.device);
  // Graphics processors of generation 12 have clusters of at most 8.
  if (s.blocks > 8 && q.device.major == 12)
    return refusing(words("it needs clusters of ", s.blocks, " blocks, the device has at most 8"));
  if (s.blocks > q.device.multiprocessors)
    return refusing(
        words("a cluster has ", s.blocks, " blocks, the device ", q.device.multiprocessors, " multiprocessors"));
  Offer offer;
  offer.shape = shape;
  offer.groups = static_cast<int>(tiles_of(p) * p.directions());
  offer.blocks = s.blocks, offer.threads = s.threads, offer.launches = 1;
  offer.shared_bytes = shared;
  offer.weight_bytes = int64_t{4} * s.hidden * s.hidden * s.factor_bytes * offer.groups;
  return offer;
}

Offer offer_grid(const Question& q, Pass pass) {
  const Problem& p = q.problem;
  if (std::string why = beyond_weights_on_chip(q); !why.empty()) return refusing(why);
  if (q.device.major < 8) return refusing("it needs compute capability 8.0 or later");
  int most = 0;
  const std::vector<ShapeFacts>& shapes = grid_shapes(pass);
  const int shape = fitting(shapes, p, most);
  if (shape < 0) return refusing(words("it holds at most ", most, " hidden units of ", name_of(p.dtype)));
  const ShapeFacts& s = shapes[shape];
  const int blocks = grid_blocks(static_cast<int>(p.hidden)), room = q.device.multiprocessors / blocks;
  if (room == 0)
    return refusing(words("it needs ", blocks, " blocks at once, one on each multiprocessor, of which the device has ",
                          q.device.multiprocessors));
  const bool together = room >= p.directions();
  Offer offer;
  offer.shape = shape, offer.blocks = blocks, offer.threads = s.threads;
  offer.launches = together ? 1 : p.directions();
  const int at_once = together ? p.directions() : 1;
  offer.batch_groups = static_cast<int>(std::min<int64_t>(tiles_of(p), room / at_once));
  offer.groups = offer.batch_groups * at_once;
  offer.shared_bytes = s.shared_bytes(grid_most_tiles(static_cast<int>(p.batch), offer.batch_groups));
  if (offer.shared_bytes > q.device.shared_bytes) return short_of_shared_memory(offer.shared_bytes, q.device);
  RecurrenceRows rows{};
  rows.steps = static_cast<int>(p.steps), rows.batch = static_cast<int>(p.batch);
  rows.hidden = static_cast<int>(p.hidden), rows.directions = at_once;
  offer.workspace_bytes = s.workspace_bytes(rows, offer.batch_groups);
  offer.weight_bytes = int64_t{4} * s.hidden * kGridUnits * s.factor_bytes * blocks * offer.groups;
  return offer;
}

std::string bytes_in_words(int64_t n) {
  std::ostringstream os;
  os.precision(3);
  if (n < 1 << 20)
    os << n / 1024.0 << " KiB";
  else
    os << n / 1048576.0 << " MiB";
  return os.str();
}

std::string offer_in_words(const Question& q, Family family, const Offer& offer) {
  if (!offer.refused.empty()) return "cannot: " + offer.refused;
  if (family == Family::kStepwise)
    return words(offer.launches, " launches, ", launches_a_step(q.problem),
                 " a step and direction; weights come from memory at each");
  return words(offer.launches, offer.launches == 1 ? " launch" : " launches", "; ", offer.groups,
               family == Family::kCluster ? " clusters of " : " groups of ", offer.blocks, " blocks of ", offer.threads,
               " threads, ", bytes_in_words(offer.shared_bytes), " of shared memory a block, ",
               bytes_in_words(offer.weight_bytes), " of weights on chip");
}

}  // namespace

const char* name_of(Family family) { return kNames[static_cast<int>(family)]; }

std::string wanted_family() {
  const char* wanted = std::getenv("FUSED_LSTM_CUDA_FAMILY");
  return wanted ? wanted : "";
}

Choice plan(const Question& q, Pass pass) {
  Choice choice;
  choice.offers[0] = offer_stepwise(q, pass);
  choice.offers[1] = offer_cluster(q, pass);
  choice.offers[2] = offer_grid(q, pass);
  if (q.wanted.empty() || q.wanted == "auto") {
    choice.reason = "no measurement on such a device recommends another";
    for (Family family : {Family::kCluster, Family::kGrid}) {
      const Evidence* evidence = evidence_for(q, family);
      if (!evidence || !choice.offers[static_cast<int>(family)].refused.empty()) continue;
      choice.family = family;
      choice.reason = words("recommended by benchmarks/results/", evidence->file);
      break;
    }
    return choice;
  }
  const auto* found = std::find(std::begin(kNames), std::end(kNames), q.wanted);
  if (found == std::end(kNames))
    throw std::invalid_argument(
        words("FUSED_LSTM_CUDA_FAMILY must be auto, stepwise, cluster or grid, but is \"", q.wanted, "\""));
  const auto wanted = static_cast<Family>(found - std::begin(kNames));
  const std::string& refused = choice.offers[static_cast<int>(wanted)].refused;
  choice.disappointed = !refused.empty();
  if (!choice.disappointed) choice.family = wanted;
  choice.reason = choice.disappointed ? words(q.wanted, " was asked for, but ", refused)
                                      : words("FUSED_LSTM_CUDA_FAMILY=", q.wanted);
  return choice;
}

std::string describe(const Question& q, Pass pass) {
  const Choice choice = plan(q, pass);
  std::ostringstream os;
  os << (pass == Pass::kForward ? "forward" : "backward") << ": " << name_of(choice.family) << " (" << choice.reason
     << ")\n";
  for (int i = 0; i < kFamilies; ++i) {
    const auto family = static_cast<Family>(i);
    const std::string name = name_of(family);
    os << (family == choice.family ? "  * " : "    ") << name << std::string(10 - name.size(), ' ')
       << offer_in_words(q, family, choice.offers[i]) << "\n";
  }
  return os.str();
}

}  // namespace fused_lstm::cuda
