"""What a worker does with one part of each section: returns what it found as a dict."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from fused_lstm import reference

from .clock import Clock
from .family import forced, ran, served_by
from .peers import TOLERANCE, Peers
from .plan import MODES

# ---- families: right?


def check_family(part: dict, device: str) -> dict:
    """Against the definition in float64: output and all gradients."""
    peers = Peers(part, device)
    train = peers.call("fused", "training")
    served = served_by(part["family"], peers)
    expected = _definition(peers)
    with forced(part["family"]):
        error, again = peers.worst_error("fused", expected), train()
        same = all(torch.equal(a, b) for a, b in zip(train(), again))
    tolerance = TOLERANCE[part["dtype"]]
    return dict(served=served, error=error, tolerance=tolerance, right=error <= tolerance, same_bits=same)


def _definition(peers: Peers) -> list[Tensor]:
    x = peers.x.detach().double().requires_grad_()
    weights = [w.detach().double().requires_grad_() for w in peers.fused.parameters()]
    direction = "both" if peers.fused.bidirectional else "forward"
    more = {} if peers.lengths is None else {"lengths": peers.lengths}
    y = reference.lstm(x, None, weights, peers.fused.num_layers, direction=direction, **more)[0]
    return [y.detach(), *torch.autograd.grad(y, [x, *weights], peers.cotangent.double())]


# ---- graphs: forward and backward captured, replayed with other input


def check_capture(part: dict, device: str) -> dict:
    peers = Peers(part, device)
    train, clock = peers.call("fused", "training"), Clock(device)
    served = served_by(part["family"], peers)
    results: list[Tensor] = []

    def step() -> None:
        results[:] = train()

    with forced(part["family"]):
        replay = clock.captured(step)
        peers.x.data.normal_()
        replay()
        replayed = [t.clone() for t in results]
        eager = train()
    same = all(torch.equal(a, b) for a, b in zip(replayed, eager))
    return dict(served=served, right=same)


# ---- grid: nn.LSTM against one family


@functools.lru_cache(maxsize=1)
def _row(key: tuple, device: str) -> tuple[Peers, list[Tensor], float, Clock]:
    """What the families of one row share: modules, input, expected results, nn.LSTM's own error."""
    peers = Peers(dict(key), device)
    expected = peers.expected()
    return peers, expected, peers.worst_error("torch", expected), Clock(device)


def measure(part: dict, device: str) -> dict:
    """Checked first; only what is right gets timed, and only what the family itself served."""
    row = {name: value for name, value in part.items() if name not in ("key", "family")}
    peers, expected, torch_error, clock = _row(tuple(row.items()), device)
    served = served_by(part["family"], peers)
    found = dict(served=served, tf32=peers.precision, torch_error=torch_error, tolerance=TOLERANCE[part["dtype"]])
    if not ran({**part, **found}):
        return found
    with forced(part["family"]):
        found["error"] = peers.worst_error("fused", expected)
        found["right"] = found["error"] <= found["tolerance"]
        if found["right"]:
            for mode in MODES:
                found[mode] = _times(peers, clock, mode)
    return found


def _times(peers: Peers, clock: Clock, mode: str) -> dict:
    """Called as usual ("eager"), and replayed from CUDA graphs where both can be captured."""
    calls = peers.call("torch", mode), peers.call("fused", mode)
    times: dict[str, object] = {"eager": clock.compare(*calls)}
    if peers.lengths is not None:
        # cuDNN copies the lengths of packed input from the host: a graph of it would keep stale ones. Ours alone.
        replay = _try_capture(clock, calls[1])
        times["graph"] = replay if isinstance(replay, str) else _alone(clock, replay)
        return times
    replays = []
    for name, call in zip(("nn.LSTM", "FusedLSTM"), calls):
        replay = _try_capture(clock, call)
        if isinstance(replay, str):
            return times | {"graph": f"{name}: {replay}"}
        replays.append(replay)
    return times | {"graph": clock.compare(*replays)}


def _try_capture(clock: Clock, call: Callable[[], object]) -> Callable[[], object] | str:
    try:
        return clock.captured(call)
    except RuntimeError as error:
        return f"cannot be captured: {error}"[:300]


def _alone(clock: Clock, replay: Callable[[], object]) -> dict:
    replay()
    samples = sorted(clock.sample(replay) for _ in range(7))
    return {"ours_us": samples[3] * 1e6}


# ---- profile: where the time of a row goes


def profile(part: dict, device: str) -> dict:
    peers = Peers({name: value for name, value in part.items() if name not in ("key", "family")}, device)
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    found = {}
    with forced(part["family"]):
        for which in ("torch", "fused"):
            call = peers.call(which, "training")
            call()
            with torch.profiler.profile(activities=activities) as profiler:
                call()
                if device == "cuda":
                    torch.cuda.synchronize()
            found[which] = _heaviest(profiler.key_averages(), device)
    return found


def _heaviest(events, device: str, rows: int = 8) -> list[dict]:
    name = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    kind = getattr(torch.autograd.DeviceType, device.upper())  # kernels, not the operators that launch them
    events = [event for event in events if event.device_type == kind and getattr(event, name) > 0]
    events.sort(key=lambda event: -getattr(event, name))
    return [dict(kernel=e.key[:120], calls=e.count, us=getattr(e, name)) for e in events[:rows]]
