"""How long a call takes on the device: two peers in turn, the second-level cache emptied before each sample."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import cuda  # one name for all that is asked of CUDA, which tests replace

Call = Callable[[], object]
SAMPLE_SECONDS = 0.08  # of timed calls for one pair of peers, about
PAIRS = (5, 15)  # at least, at most


class Clock:
    def __init__(self, device: str, where: str | None = None, own_streams: bool = False) -> None:
        """``where``: the device of tensors, if another one stands in. ``own_streams``: calls do not run on torch's
        stream, so nothing orders them after what is there, nor the events after them, unless the host waits."""
        self.cuda, self._own_streams = device == "cuda", own_streams
        size = 1 << 20
        if self.cuda:
            size = max(64 << 20, 2 * cuda.get_device_properties(0).L2_cache_size)
            self._start, self._end = (cuda.Event(enable_timing=True) for _ in range(2))
        self._buffer = torch.empty(size, dtype=torch.uint8, device=where or device)

    def sample(self, call: Call) -> float:
        """Seconds of one call. The write that empties the cache also lets the host run ahead."""
        self._buffer.zero_()
        if not self.cuda:
            start = time.perf_counter()
            call()
            return time.perf_counter() - start
        if self._own_streams:
            cuda.synchronize()
        self._start.record()
        call()
        if self._own_streams:
            cuda.synchronize()
        self._end.record()
        self._end.synchronize()
        return self._start.elapsed_time(self._end) * 1e-3

    def compare(self, a: Call, b: Call) -> dict[str, float]:
        """Median of time of ``a`` / time of ``b``, pair by pair, its quartiles, and both medians in microseconds."""
        for call in (a, b):  # warm-up
            self.sample(call)
        both = self.sample(a) + self.sample(b)
        pairs = min(PAIRS[1], max(PAIRS[0], int(SAMPLE_SECONDS / max(both, 1e-9)))) | 1
        times = []
        for i in range(pairs):  # who goes first changes
            first = self.sample(b if i % 2 else a)
            second = self.sample(a if i % 2 else b)
            times.append((second, first) if i % 2 else (first, second))
        ratios = [x / y for x, y in times]
        low, _, high = statistics.quantiles(ratios, n=4)
        torch_us, ours_us = (statistics.median(column) * 1e6 for column in zip(*times))
        return dict(
            ratio=statistics.median(ratios), low=low, high=high, torch_us=torch_us, ours_us=ours_us, pairs=pairs
        )

    def captured(self, call: Call) -> Call:
        """A CUDA graph of the call, to be replayed; on the CPU the call itself. Warm-up runs outside of the capture."""
        if not self.cuda:
            return call
        stream = cuda.Stream()
        stream.wait_stream(cuda.current_stream())
        with cuda.stream(stream):
            for _ in range(2):
                call()
        cuda.current_stream().wait_stream(stream)
        graph = cuda.CUDAGraph()
        with cuda.graph(graph):
            call()
        return graph.replay
