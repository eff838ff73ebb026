#pragma once
// Who computes what in the loop over time.

#include "core/problem.h"
#include "core/rows.h"
#include "cpu/team.h"

namespace fused_lstm::cpu {

// A member's share of one direction: some rows with all units, or all rows with some units.
struct Shard {
  int d;
  Range rows;
  Member team;  // who shares these rows, unit by unit; alone when the batch was split
};

struct Shards {
  Shard list[2];
  int count = 0;
};

// Barriers for teams that work one direction each.
struct DirectionBarriers {
  Barrier of[2];
};

// Equal numbers of steps, not of rows: the first rows are the longest.
inline Range rows_of_member(const Problem& p, const Rows& rows, const Member& m) {
  Range mine{p.batch, p.batch};
  int64_t sum = 0;
  for (int64_t r = 0; r < p.batch; ++r) {
    if (mine.begin == p.batch && sum >= p.total * m.index / m.size) mine.begin = r;
    if (sum >= p.total * (m.index + 1) / m.size) {
      mine.end = r;
      break;
    }
    sum += rows.length(r);
  }
  if (m.index + 1 == m.size) mine.end = p.batch;
  mine.end = std::max(mine.begin, mine.end);
  return mine;
}

// Rows are split when every member gets at least a full register tile of them: then no step waits for anybody.
// Otherwise units are split, and directions go side by side.
inline Shards shards_of(const Problem& p, const Rows& rows, int row_tile, const Member& m,
                        DirectionBarriers& barriers) {
  Shards out;
  const int directions = p.directions();
  if (m.size == 1 || p.batch >= int64_t{row_tile} * m.size) {
    const Range mine = rows_of_member(p, rows, m);
    for (int d = 0; d < directions; ++d) out.list[out.count++] = {d, mine, Member{0, 1, m.barrier}};
    return out;
  }
  const Range all{0, p.batch};
  if (directions == 1 || m.size == 1) {
    out.list[out.count++] = {0, all, m};
    return out;
  }
  const int first = (m.size + 1) / 2;
  const int d = m.index < first ? 0 : 1;
  const Member sub =
      d == 0 ? Member{m.index, first, &barriers.of[0]} : Member{m.index - first, m.size - first, &barriers.of[1]};
  out.list[out.count++] = {d, all, sub};
  return out;
}

// The i-th panel of a range that step t takes. With so few rows that reading weights is all the time there is, every
// other step goes the other way, and so begins with what the step before left in the cache.
inline int64_t there_and_back(const Shard& s, Range range, int64_t i, int64_t t) {
  return s.rows.size() <= 2 && t % 2 ? range.end - 1 - i : range.begin + i;
}

// As many threads as the work can feed: a barrier costs about what 40 thousand multiply-adds do.
inline int useful_threads(const Problem& p, int allowed) {
  const double step = 4.0 * p.hidden * p.output() * p.batch * p.directions();
  const double total = step * p.steps + 4.0 * p.hidden * p.input * p.total * p.directions();
  const double by_step = 1 + step / 40e3, by_total = 1 + total / 200e3;
  const double wanted = std::min(by_step, by_total);
  return wanted < allowed ? std::max(1, static_cast<int>(wanted)) : allowed;
}

}  // namespace fused_lstm::cpu
