"""The raw operators refuse what does not fit together: a RuntimeError that names the thing, never a crash."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from layer_cases import Layer
from layer_sampling import cotangents_of
from operators import NEEDS

T, B, I, H, P = 4, 3, 5, 6, 2  # noqa: E741
ARGUMENTS = [
    "x", "h0", "c0", "weights", "batch_sizes", "lengths", "resets", "recurrent_scale", "cell_params", "cell_inputs",
    "cell", "direction", "batch_first",
]  # fmt: skip
FULL = {"direction": "both", "P": P, "resets": True, "scale": True, "cell": "peephole"}
LENGTHS, PACKED = {**FULL, "lengths": True}, {**FULL, "packed": True}
ZONEOUT = {"direction": "both", "cell": "zoneout"}
Call = dict[str, Any]


def call_of(features: dict) -> tuple[Call, tuple]:
    layer = Layer.random(T, B, I, H, dtype=torch.float32, **features)
    return dict(zip(ARGUMENTS, layer.op_arguments(True))), cotangents_of(layer)


def put(name: str, change: Callable[[Any], Any]) -> Callable[[Call], None]:
    """Changes an argument; name.2 is the third of the weights."""

    def apply(call: Call) -> None:
        if "." in name:
            name_of_list, index = name.split(".")
            call[name_of_list] = list(call[name_of_list])
            call[name_of_list][int(index)] = change(call[name_of_list][int(index)])
        else:
            call[name] = change(call[name])

    return apply


def drop(axis: int) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda t: t.narrow(axis, 0, t.shape[axis] - 1)


def give(value: Any) -> Callable[[Any], Any]:
    return lambda _: value


# features, what is done to the call, words of the message
FORWARD: list[tuple[dict, Callable[[Call], None], str]] = [
    (FULL, put("x", torch.Tensor.long), "x must be float32, float64, bfloat16 or float16, but is int64"),
    (FULL, put("x", lambda x: x[0]), "x must be 3-D"),
    (PACKED, put("x", lambda x: x[None]), "x must be 2-D"),
    (FULL, put("x", drop(2)), r"w_ih must have shape \[24, 4\] but has \[24, 5\]"),
    (FULL, put("x", drop(1)), r"h0 must have shape \[2, 2, 2\] but has \[2, 3, 2\]"),
    (FULL, put("x", torch.Tensor.double), "w_ih must be float64 but is float32"),
    (FULL, put("h0", drop(0)), r"h0 must have shape \[2, 3, 2\] but has \[1, 3, 2\]"),
    (FULL, put("h0", drop(2)), "h0 must have shape"),
    (FULL, put("h0", torch.Tensor.double), "h0 must be float32 but is float64"),
    (FULL, put("h0", lambda t: t[0]), "h0 must have shape"),
    (FULL, put("c0", drop(1)), r"c0 must have shape \[2, 3, 6\] but has \[2, 2, 6\]"),
    (FULL, put("c0", torch.Tensor.bfloat16), "c0 must be float32 but is bfloat16"),
    (FULL, put("weights", give([])), "weights each.* but 0 came"),
    (FULL, put("weights", lambda w: w[:1]), "but 1 came"),
    (FULL, put("weights", lambda w: w[:-1]), "but 9 came"),
    (FULL, put("weights", lambda w: [*w, *w]), "but 20 came"),
    (FULL, put("weights.0", drop(0)), "w_ih must have shape"),
    (FULL, put("weights.1", drop(0)), "w_hh must have shape"),
    (FULL, put("weights.1", lambda w: w[0]), "w_hh must have shape"),
    (FULL, put("weights.1", lambda w: w[:0]), "w_hh must have shape"),
    (FULL, put("weights.1", lambda w: w[:, :0]), "w_hh must have shape"),
    (FULL, put("weights.1", torch.Tensor.double), "w_hh must be float32 but is float64"),
    (FULL, put("weights.2", drop(0)), r"b_ih must have shape \[24\] but has \[23\]"),
    (FULL, put("weights.3", lambda b: b[None]), r"b_hh must have shape \[24\] but has \[1, 24\]"),
    (FULL, put("weights.4", torch.Tensor.t), r"w_hr must have shape \[2, 6\] but has \[6, 2\]"),
    (FULL, put("weights.5", drop(1)), "w_ih must have shape"),
    (FULL, put("weights.9", torch.Tensor.half), "w_hr must be float32 but is float16"),
    (PACKED, put("batch_sizes", torch.Tensor.int), "batch_sizes must be a 1-D int64 tensor on the CPU"),
    (PACKED, put("batch_sizes", torch.Tensor.float), "batch_sizes must be a 1-D int64 tensor on the CPU"),
    (PACKED, put("batch_sizes", lambda t: t[None]), "batch_sizes must be a 1-D int64 tensor on the CPU"),
    (PACKED, put("batch_sizes", lambda t: t.flip(0)), "batch_sizes must be positive and never grow"),
    (PACKED, put("batch_sizes", lambda t: torch.cat([t, t.new_zeros(1)])), "batch_sizes.* must be positive"),
    (PACKED, put("batch_sizes", lambda t: torch.cat([t, -t[-1:]])), "batch_sizes.* must be positive"),
    (PACKED, put("batch_sizes", drop(0)), "batch_sizes add up to"),
    (PACKED, put("batch_sizes", lambda t: t[:0]), "batch_sizes add up to 0 rows"),
    (PACKED, put("lengths", give(torch.tensor([4, 4, 4]))), "batch_sizes and lengths exclude each other"),
    (LENGTHS, put("lengths", torch.Tensor.int), "lengths must be int64, but is int32"),
    (LENGTHS, put("lengths", torch.Tensor.float), "lengths must be int64, but is float32"),
    (LENGTHS, put("lengths", drop(0)), r"lengths must have shape \[3\] but has \[2\]"),
    (LENGTHS, put("lengths", lambda t: t[None]), r"lengths must have shape \[3\] but has \[1, 3\]"),
    (LENGTHS, put("lengths", give(torch.tensor([1, 5, 1]))), r"lengths\[1\] must be from 0 to 4, but is 5"),
    (LENGTHS, put("lengths", give(torch.tensor([1, 1, -1]))), r"lengths\[2\] must be from 0 to 4, but is -1"),
    (LENGTHS, put("lengths", give(torch.tensor([2**62, 1, 1]))), r"lengths\[0\] must be from 0 to 4"),
    (FULL, put("resets", drop(0)), r"resets must have shape \[4, 3\] but has \[3, 3\]"),
    (FULL, put("resets", torch.Tensor.t), "resets must have shape"),
    (FULL, put("resets", torch.Tensor.byte), "resets must be bool"),
    (PACKED, put("resets", drop(0)), "resets must have shape"),
    (FULL, put("recurrent_scale", drop(2)), "recurrent_scale must have shape"),
    (FULL, put("recurrent_scale", lambda t: t[0, 0]), "recurrent_scale must have shape"),
    (FULL, put("recurrent_scale", torch.Tensor.double), "recurrent_scale must be float32 but is float64"),
    (FULL, put("cell_params", give(None)), "peephole cell takes 3 rows of cell_params, but none came"),
    (FULL, put("cell_params", drop(1)), r"cell_params must have shape \[2, 3, 6\] but has \[2, 2, 6\]"),
    (FULL, put("cell_params", torch.Tensor.double), "cell_params must be float32"),
    (FULL, put("cell", give(0)), "vanilla cell takes 0 rows of cell_params"),
    (FULL, put("cell", give(-1)), "no cell number -1"),
    (FULL, put("cell", give(20)), "no cell number 20"),
    (FULL, put("cell", give(2**40)), "no cell number"),
    (FULL, put("direction", give(-1)), "direction must be 0 .* but is -1"),
    (FULL, put("direction", give(3)), "direction must be 0 .* but is 3"),
    (FULL, put("direction", give(0)), "but 10 came"),
    (ZONEOUT, put("cell_inputs", give(None)), "zoneout cell takes 2 cell_inputs a step, but none came"),
    (ZONEOUT, put("cell_inputs", drop(3)), "cell_inputs must have shape"),
    (ZONEOUT, put("cell_inputs", drop(1)), "cell_inputs must have shape"),
    (ZONEOUT, put("cell_inputs", torch.Tensor.half), "cell_inputs must be float32"),
    (ZONEOUT, put("cell", give(0)), "vanilla cell takes 0 cell_inputs"),
    ({**FULL, "cell": "vanilla", "scale": False}, put("cell", give(3)), "zoneout cell .* cannot be projected"),
]  # fmt: skip

# the same for arguments that only backward takes
BACKWARD: list[tuple[dict, Callable[[Call], None], str]] = [
    (FULL, put("reserve", give(torch.empty(0))), "kept nothing for backward; call it with save=True"),
    (FULL, put("reserve", drop(1)), "reserve must have shape"),
    (FULL, put("reserve", drop(2)), "reserve must have shape"),
    (FULL, put("reserve", lambda r: r[:1]), "reserve must have shape"),
    (FULL, put("reserve", torch.Tensor.double), "reserve must be float32 but is float64"),
    (FULL, put("reserve", lambda r: r.transpose(0, 2).contiguous().transpose(0, 2)), "reserve must be what forward"),
    ({**PACKED, "dtype": torch.bfloat16}, put("reserve", torch.Tensor.bfloat16), "reserve must be float32"),
    (FULL, put("y", drop(2)), "y must have shape"),
    (FULL, put("y", drop(0)), "y must have shape"),
    (FULL, put("y", torch.Tensor.double), "y must be float32 but is float64"),
    (FULL, put("dy", drop(1)), r"dy must have shape \[4, 3, 4\] but has \[4, 2, 4\]"),
    (FULL, put("dy", torch.Tensor.half), "dy must be float32 but is float16"),
    (PACKED, put("dy", drop(0)), "dy must have shape"),
    (FULL, put("dh_n", drop(0)), "dh_n must have shape"),
    (FULL, put("dh_n", torch.Tensor.double), "dh_n must be float32 but is float64"),
    (FULL, put("dc_n", drop(2)), r"dc_n must have shape \[2, 3, 6\] but has \[2, 3, 5\]"),
    (FULL, put("dc_n", torch.Tensor.double), "dc_n must be float32 but is float64"),
]  # fmt: skip


def run_forward(call: Call, save: bool = True) -> tuple:
    return torch.ops.fused_lstm.lstm_layer.default(*call.values(), save)


def run_backward(call: Call) -> list:
    order = [*("dy", "dh_n", "dc_n"), *ARGUMENTS[:10], "y", "reserve", *ARGUMENTS[10:], "needs"]
    return torch.ops.fused_lstm.lstm_layer_backward.default(*(call[name] for name in order))


def backward_call(features: dict, needs: int = 1) -> Call:
    dtype = features.get("dtype", torch.float32)
    call, cotangents = call_of({k: v for k, v in features.items() if k != "dtype"})
    if dtype != torch.float32:

        def to(t: Any) -> Any:
            return t.to(dtype) if isinstance(t, torch.Tensor) and t.is_floating_point() else t

        call = {name: [to(w) for w in t] if isinstance(t, list) else to(t) for name, t in call.items()}
        cotangents = tuple(to(g) for g in cotangents)
    y, _, _, reserve = run_forward(call)
    return {**call, **dict(zip(("dy", "dh_n", "dc_n"), cotangents)), "y": y, "reserve": reserve, "needs": needs}


def test_without_a_change_nothing_is_refused():
    for features in (FULL, LENGTHS, PACKED, ZONEOUT, {**PACKED, "dtype": torch.bfloat16}):
        assert len(run_backward(backward_call(features))) == 1


@pytest.mark.parametrize("save", [False, True])
@pytest.mark.parametrize(("features", "change", "message"), FORWARD, ids=[case[2] for case in FORWARD])
def test_forward_refuses(features, change, message, save):
    call, _ = call_of(features)
    change(call)
    with pytest.raises(RuntimeError, match=message):
        run_forward(call, save)


@pytest.mark.parametrize(("features", "change", "message"), FORWARD, ids=[case[2] for case in FORWARD])
def test_backward_refuses_the_same(features, change, message):
    call = backward_call(features)
    change(call)
    with pytest.raises(RuntimeError, match=message):
        run_backward(call)


@pytest.mark.parametrize(("features", "change", "message"), BACKWARD, ids=[case[2] for case in BACKWARD])
def test_backward_refuses(features, change, message):
    call = backward_call(features)
    change(call)
    with pytest.raises(RuntimeError, match=message):
        run_backward(call)


@pytest.mark.parametrize("name", [name for name in NEEDS if name not in ("x", "w_ih", "w_hh")])
def test_a_gradient_of_what_was_not_given(name):
    call = backward_call({"state": False, "bias": False}, needs=1 << NEEDS.index(name))
    with pytest.raises(RuntimeError, match="needs = .* asks for the gradient of an argument that was not given"):
        run_backward(call)


@pytest.mark.parametrize("name", ["h0", "c0", "weights.0", "weights.1", "weights.7", "lengths", "resets",
                                  "recurrent_scale", "cell_params"])  # fmt: skip
def test_a_tensor_on_another_device(name):
    call, _ = call_of(LENGTHS)
    put(name, lambda t: t.to("meta"))(call)
    with pytest.raises(RuntimeError, match="device|must be on"):
        run_forward(call)
