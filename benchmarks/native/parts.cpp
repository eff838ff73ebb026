// The parts of a layer by themselves, timed: benchmarks/parts.py explains with them where the time of a call goes.
// Each part does the work that all steps of a layer give it, with its operands as warm as they are there.

#include <time.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

#include "cpu/kernels.h"
#include "cpu/outer.h"
#include "cpu/panels.h"

namespace {

using namespace fused_lstm;

double cpu_seconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

constexpr int64_t kChunkRows = 96;  // as forward projects them

std::vector<float*> rows_in(std::vector<float>& data, int64_t n, int64_t width) {
  std::vector<float*> rows(n);
  for (int64_t i = 0; i < n; ++i) rows[i] = data.data() + i * width;
  return rows;
}

class Layer {
 public:
  Layer(const cpu::Kernels<float>& k, int64_t steps, int64_t batch, int64_t input, int64_t hidden)
      : k_(k),
        T_(steps),
        B_(batch),
        I_(input),
        H_(hidden),
        layout_{hidden, k.lanes},
        gates_width_(4 * layout_.groups() * k.lanes),
        padded_(layout_.groups() * k.lanes),
        w_ih_(4 * hidden * input, 0.01f),
        w_hh_(4 * hidden * hidden, 0.01f),
        x_(steps * batch * input, 0.1f),
        h_(steps * batch * hidden, 0.1f),
        dx_(steps * batch * input),
        gates_(steps * batch * gates_width_, 0.5f),
        dgates_(steps * batch * gates_width_, 0.01f),
        c_(batch * padded_, 0.1f),
        dc_(batch * padded_, 0.01f),
        dh_(batch * padded_, 0.01f),
        bias_(gates_width_, 0.0f),
        params_(3 * padded_, 0.0f),
        sum_(gates_width_, 0.0f),
        dw_ih_(gates_width_ * input),
        dw_hh_(gates_width_ * hidden),
        input_(k, input, layout_.columns()),
        recurrent_(k, hidden, layout_.columns()),
        straight_ih_(k, layout_.columns(), input),
        straight_hh_(k, layout_.columns(), hidden),
        x_rows_(rows_in(x_, steps * batch, input)),
        dx_rows_(rows_in(dx_, steps * batch, input)),
        h_rows_(rows_in(h_, steps * batch, hidden)),
        gate_rows_(rows_in(gates_, steps * batch, gates_width_)),
        dgate_rows_(rows_in(dgates_, steps * batch, gates_width_)),
        c_rows_(rows_in(c_, batch, padded_)),
        dc_rows_(rows_in(dc_, batch, padded_)),
        dh_rows_(rows_in(dh_, batch, padded_)) {
    pack_forward(), pack_backward();
  }

  std::vector<std::pair<const char*, std::function<void()>>> parts() {
    return {
        {"packing", [this] { pack_forward(); }},
        {"packing for backward", [this] { pack_backward(); }},
        {"x-projection", [this] { project(); }},
        {"recurrent product", [this] { recurrent(); }},
        {"recurrent step", [this] { step(); }},
        {"cell", [this] { cell(); }},
        {"recurrent product, backward", [this] { recurrent_backward(); }},
        {"cell, backward", [this] { cell_backward(); }},
        {"dx", [this] { dx(); }},
        {"dW", [this] { dw(); }},
    };
  }

 private:
  const cpu::Kernels<float>& k_;
  int64_t T_, B_, I_, H_;
  cpu::GateLayout<float> layout_;
  int64_t gates_width_, padded_;
  std::vector<float> w_ih_, w_hh_, x_, h_, dx_, gates_, dgates_, c_, dc_, dh_, bias_, params_, sum_, dw_ih_, dw_hh_;
  cpu::Panels<float> input_, recurrent_, straight_ih_, straight_hh_;
  std::vector<float*> x_rows_, dx_rows_, h_rows_, gate_rows_, dgate_rows_, c_rows_, dc_rows_, dh_rows_;
  cpu::Member alone_{0, 1, nullptr};

  void pack_forward() {
    cpu::pack_gates(k_, layout_, w_ih_.data(), input_, alone_);
    cpu::pack_gates(k_, layout_, w_hh_.data(), recurrent_, alone_);
  }
  void pack_backward() {
    std::vector<const float*> ih, hh;
    for (int64_t j = 0; j < layout_.columns(); ++j) {
      const int64_t row = layout_.weight_row(j);
      ih.push_back(w_ih_.data() + row * I_), hh.push_back(w_hh_.data() + row * H_);
    }
    cpu::pack_straight(k_, ih.data(), straight_ih_, alone_);
    cpu::pack_straight(k_, hh.data(), straight_hh_, alone_);
  }
  // c[rows] of `width` columns = a * panels, chunk by chunk
  void product(const cpu::Panels<float>& panels, float* const* a, float* const* c, const float* bias, int64_t rows) {
    for (int64_t begin = 0; begin < rows; begin += kChunkRows) {
      cpu::Product<float> m{&k_, &panels, {0, panels.count()}, a + begin};
      m.n = std::min(kChunkRows, rows - begin), m.bias = bias, m.c = c + begin;
      cpu::multiply(m);
    }
  }
  void project() { product(input_, x_rows_.data(), gate_rows_.data(), bias_.data(), T_ * B_); }
  void dx() {
    cpu::Product<float> m{&k_, &straight_ih_, {0, straight_ih_.count()}, dgate_rows_.data()};
    m.n = T_ * B_, m.c = dx_rows_.data();
    cpu::multiply(m);
  }
  void recurrent() {
    for (int64_t t = 0; t < T_; ++t) {
      cpu::Product<float> m{&k_, &recurrent_, {0, recurrent_.count()}, h_rows_.data() + t * B_};
      m.n = B_, m.accumulate = true, m.c = gate_rows_.data() + t * B_;
      cpu::multiply(m);
    }
  }
  void step() {
    for (int64_t t = 0; t < T_; ++t)
      for (int64_t g = 0; g < layout_.groups(); ++g)
        k_.step({.n = B_,
                 .k = H_,
                 .h_prev = h_rows_.data() + std::max<int64_t>(0, t - 1) * B_,
                 .panel = recurrent_.at(g),
                 .gates = gate_rows_.data() + t * B_,
                 .c_prev = c_rows_.data(),
                 .c = c_rows_.data(),
                 .h = h_rows_.data() + t * B_,
                 .unit = g * k_.lanes,
                 .valid = layout_.valid(g),
                 .save = true});
  }
  void cell() {
    for (int64_t t = 0; t < T_; ++t)
      k_.cell_forward[0]({.n = B_,
                          .begin = 0,
                          .end = padded_,
                          .hidden = H_,
                          .padded_hidden = padded_,
                          .gates = gate_rows_.data() + t * B_,
                          .c_prev = c_rows_.data(),
                          .c = c_rows_.data(),
                          .h_prev = h_rows_.data() + t * B_,
                          .h = h_rows_.data() + t * B_,
                          .params = params_.data(),
                          .inputs = nullptr,
                          .save = true,
                          .clip = 0});
  }
  void recurrent_backward() {
    for (int64_t t = 0; t < T_; ++t)
      for (int64_t p = 0; p < straight_hh_.count(); ++p) {
        cpu::Product<float> m{&k_, &straight_hh_, {p, p + 1}, dgate_rows_.data() + t * B_};
        m.n = B_, m.c = dh_rows_.data(), m.whole_vectors = true;
        cpu::multiply(m);
      }
  }
  void cell_backward() {
    for (int64_t t = 0; t < T_; ++t)
      k_.cell_backward[0]({.n = B_,
                           .begin = 0,
                           .end = padded_,
                           .hidden = H_,
                           .padded_hidden = padded_,
                           .gates = gate_rows_.data() + t * B_,
                           .dgates = dgate_rows_.data() + t * B_,
                           .dh = dh_rows_.data(),
                           .dy = h_rows_.data() + t * B_,
                           .c = c_rows_.data(),
                           .c_prev = c_rows_.data(),
                           .dc_in = dc_rows_.data(),
                           .dc_out = dc_rows_.data(),
                           .dh_prev = dh_rows_.data(),
                           .params = params_.data(),
                           .inputs = nullptr,
                           .bias_sum = sum_.data(),
                           .param_sum = params_.data(),
                           .clip = 0});
  }
  void dw() {
    std::vector<float*> ih = rows_in(dw_ih_, layout_.columns(), I_), hh = rows_in(dw_hh_, layout_.columns(), H_);
    cpu::OuterSum<float> sum(k_, dgates_.data(), gates_width_, T_ * B_, layout_.columns(), 1);
    sum.add({x_rows_.data(), I_, ih.data()});
    sum.add({h_rows_.data(), H_, hh.data()});
    sum.allocate();
    sum.run(alone_);
  }
};

// One thread a member, all at the same time.
void start_threads(int64_t n, void (*body)(int64_t, int64_t, void*), void* context) {
  std::vector<std::thread> team;
  for (int64_t i = 0; i < n; ++i) team.emplace_back(body, i, i + 1, context);
  for (std::thread& member : team) member.join();
}

}  // namespace

// Called through ctypes. CPU seconds of every part, `rounds` times each, in turn, into seconds[part][round]; their
// names, each with a zero behind it, into names. Returns the number of parts, 0 if there are no kernels for this ISA.
extern "C" __attribute__((visibility("default"))) int time_parts(const char* isa, int64_t steps, int64_t batch,
                                                                 int64_t input, int64_t hidden, int rounds, char* names,
                                                                 double* seconds) {
  for (const cpu::Isa* const* i = cpu::supported_isas(); *i; ++i) {
    if (std::strcmp(isa, (*i)->name) != 0) continue;
    Layer layer(*(*i)->f32, steps, batch, input, hidden);
    auto parts = layer.parts();
    for (const auto& part : parts) {
      std::strcpy(names, part.first);
      names += std::strlen(part.first) + 1;
    }
    for (int round = -1; round < rounds; ++round)  // the first warms up
      for (size_t k = 0; k < parts.size(); ++k) {
        const double begin = cpu_seconds();
        parts[k].second();
        if (round >= 0) seconds[k * rounds + round] = cpu_seconds() - begin;
      }
    return static_cast<int>(parts.size());
  }
  return 0;
}

// Wall seconds that a team of `members` takes for one barrier, from `rounds` of them.
extern "C" __attribute__((visibility("default"))) double time_barrier(int members, int rounds) {
  double seconds = 0;
  auto body = [&](const cpu::Member& m) {
    m.sync();
    timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (int i = 0; i < rounds; ++i) m.sync();
    clock_gettime(CLOCK_MONOTONIC, &end);
    if (m.index != 0) return;
    seconds = static_cast<double>(end.tv_sec - begin.tv_sec) + 1e-9 * static_cast<double>(end.tv_nsec - begin.tv_nsec);
  };
  cpu::run_team({members, start_threads}, members, body);
  return seconds / rounds;
}
