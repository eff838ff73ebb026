// Which rows are alive at which step, as one dictionary.

#include "core/rows.h"

#include "arrays.h"
#include "bind.h"

namespace fused_lstm::native {
namespace {

using Integers = std::vector<int64_t>;

py::dict described(const Rows& rows) {
  Integers count, length, user_row;
  for (int64_t t = 0; t < rows.steps(); ++t) count.push_back(rows.count(t));
  for (int64_t r = 0; r < rows.batch(); ++r) length.push_back(rows.length(r)), user_row.push_back(rows.user_row(r));
  std::vector<Integers> compact(rows.steps()), at(rows.steps());
  // strides that no other way of counting would give by accident
  const Sheet sheet{nullptr, 1000, 7};
  for (int64_t t = 0; t < rows.steps(); ++t)
    for (int64_t r = 0; r < rows.count(t); ++r) {
      compact[t].push_back(rows.compact(t, r));
      at[t].push_back(rows.at(sheet, t, r));
    }
  return py::dict(py::arg("steps") = rows.steps(), py::arg("batch") = rows.batch(), py::arg("total") = rows.total(),
                  py::arg("capacity") = rows.capacity(), py::arg("is_packed") = rows.is_packed(),
                  py::arg("is_rectangle") = rows.is_rectangle(), py::arg("count") = count, py::arg("length") = length,
                  py::arg("user_row") = user_row, py::arg("compact") = compact, py::arg("at") = at);
}

}  // namespace

void bind_rows(py::module_& m) {
  m.def(
      "rows_of_rectangle", [](int64_t steps, int64_t batch) { return described(Rows::rectangle(steps, batch)); },
      py::arg("steps"), py::arg("batch"));
  m.def(
      "rows_of_lengths",
      [](int64_t steps, const Integers& lengths) {
        return described(Rows::ragged(steps, lengths.data(), static_cast<int64_t>(lengths.size())));
      },
      py::arg("steps"), py::arg("lengths"));
  m.def(
      "rows_of_batch_sizes",
      [](const Integers& sizes) { return described(Rows::packed(sizes.data(), static_cast<int64_t>(sizes.size()))); },
      py::arg("batch_sizes"));
}

}  // namespace fused_lstm::native
