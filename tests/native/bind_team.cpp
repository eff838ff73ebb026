// Teams of threads on a host that can be told how to spread the parts, and who gets which share of the work.

#include "cpu/team.h"

#include <thread>

#include "arrays.h"
#include "bind.h"
#include "core/rows.h"
#include "cpu/shards.h"
#include "host.h"

namespace fused_lstm::native {
namespace {

// Each member adds to a common counter `rounds` times and reads it after a barrier, when everybody has added.
// Returns (index, size, readings right) of every member.
std::vector<std::tuple<int, int, bool>> meet(int wanted, int threads, int parts_each, int rounds) {
  py::gil_scoped_release without_python;
  std::atomic<int64_t> sum{0};
  std::vector<std::tuple<int, int, bool>> seen(wanted, {-1, 0, false});
  auto body = [&](const cpu::Member& m) {
    bool right = true;
    for (int round = 1; round <= rounds; ++round) {
      sum.fetch_add(1);
      m.sync();
      right = right && sum.load() == int64_t{round} * m.size;
      m.sync();
    }
    seen[m.index] = {m.index, m.size, right};
  };
  cpu::run_team(host(threads, parts_each), wanted, body);
  return seen;
}

// member, direction, first row, end of rows, index and size of the team that shares them, which barrier it meets at
using Share = std::tuple<int, int, int64_t, int64_t, int, int, int64_t>;

// What every member of a team of `members` gets to do.
std::vector<Share> shards(int members, bool both, int row_tile, int64_t steps, const std::vector<int64_t>& lengths) {
  const Rows rows = Rows::ragged(steps, lengths.data(), static_cast<int64_t>(lengths.size()));
  Problem p;
  p.steps = steps, p.batch = rows.batch(), p.total = rows.total();
  p.direction = both ? Direction::kBoth : Direction::kForward;
  cpu::DirectionBarriers barriers;
  cpu::Barrier whole;
  std::vector<Share> all;
  for (int i = 0; i < members; ++i) {
    const cpu::Shards mine = cpu::shards_of(p, rows, row_tile, {i, members, &whole}, barriers);
    for (int k = 0; k < mine.count; ++k) {
      const cpu::Shard& s = mine.list[k];
      const int64_t barrier = s.team.barrier == &whole ? -1 : s.team.barrier - barriers.of;
      all.push_back({i, s.d, s.rows.begin, s.rows.end, s.team.index, s.team.size, barrier});
    }
  }
  return all;
}

int useful_threads(int64_t steps, int64_t batch, int64_t input, int64_t hidden, int allowed) {
  Problem p;
  p.steps = steps, p.batch = batch, p.input = input, p.hidden = hidden, p.total = steps * batch;
  return cpu::useful_threads(p, allowed);
}

}  // namespace

void bind_team(py::module_& m) {
  m.def("meet", &meet, py::arg("wanted"), py::arg("threads"), py::arg("parts_each"), py::arg("rounds"));
  m.def("shards", &shards, py::arg("members"), py::arg("both"), py::arg("row_tile"), py::arg("steps"),
        py::arg("lengths"));
  m.def("useful_threads", &useful_threads, py::arg("steps"), py::arg("batch"), py::arg("input"), py::arg("hidden"),
        py::arg("allowed"));
  m.def(
      "part",
      [](int64_t count, int i, int n) {
        const cpu::Range r = cpu::part(count, i, n);
        return std::make_pair(r.begin, r.end);
      },
      py::arg("count"), py::arg("i"), py::arg("n"));
}

}  // namespace fused_lstm::native
