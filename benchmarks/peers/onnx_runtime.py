"""ONNX Runtime: inference by one LSTM node per layer, all graph optimisations on."""

from __future__ import annotations

import torch
from torch import Tensor

from ..problem import Problem, Result
from .base import Call, Peer, module_missing


class OnnxRuntime(Peer):
    name, what = "onnxruntime", "ONNX Runtime, one LSTM node a layer"
    install = 'pip install onnx onnxruntime (CUDA: onnxruntime-gpu), or pip install ".[bench]"'
    own_streams = True
    modes, dtypes = ("inference", "latency"), ("float32",)

    def missing(self, device: str) -> str | None:
        absent = module_missing("onnx") or module_missing("onnxruntime")
        if absent or device == "cpu":
            return absent
        import onnxruntime

        found = onnxruntime.get_available_providers()
        return None if "CUDAExecutionProvider" in found else f"this onnxruntime has no CUDA, only {', '.join(found)}"

    def refuses_shape(self, problem: Problem) -> str | None:
        return "knows no resets" if problem.resets is not None else None

    def call(self, problem: Problem, threads: int) -> Call:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        # Spins while it runs, as ever, but not into the time of whoever comes next.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.log_severity_level = 3
        cuda = problem.device == "cuda"
        provider = "CUDAExecutionProvider" if cuda else "CPUExecutionProvider"
        session = onnxruntime.InferenceSession(_model(problem), options, providers=[provider])
        binding = session.io_binding()
        inputs = {"x": problem.x.detach()}
        if problem.lengths is not None:
            inputs["lengths"] = problem.lengths.to(torch.int32)
        if problem.mode == "latency":
            for k, (h, c) in enumerate(_layer_states(problem)):
                inputs |= {f"h{k}": h, f"c{k}": c}
        kept = [t.contiguous() for t in inputs.values()]  # the binding has their addresses only
        for name, t in zip(inputs, kept):
            binding.bind_input(name, t.device.type, 0, _numpy_type(t), tuple(t.shape), t.data_ptr())
        for output in session.get_outputs():
            binding.bind_output(output.name, "cuda" if cuda else "cpu")

        def run() -> object:
            session.run_with_iobinding(binding)
            return kept

        return Call(run, lambda _: _results(problem, binding))


def _layer_states(problem: Problem) -> list[tuple[Tensor, Tensor]]:
    """Of every layer on its own, (D, B, H) each."""
    states = []
    for m, (h, c) in zip(problem.modules, problem.states):
        for layer in range(m.layers):
            rows = slice(layer * m.directions, (layer + 1) * m.directions)
            states.append((h[rows], c[rows]))
    return states


def _numpy_type(t: Tensor):
    import numpy

    return numpy.int32 if t.dtype == torch.int32 else numpy.float32


def _results(problem: Problem, binding) -> Result:
    outputs = [torch.from_numpy(value) for value in binding.copy_outputs_to_cpu()]
    y, states = outputs[0], outputs[1:]
    if problem.mode != "latency":
        return [problem.as_output(y)]
    found, k = [problem.as_output(y)], 0
    for m in problem.modules:
        for which in range(2):
            found.append(torch.cat([states[2 * (k + layer) + which] for layer in range(m.layers)]))
        k += m.layers
    return found


def _model(problem: Problem) -> bytes:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants, outputs, k = [], [], [], 0
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(problem.x.shape))]
    lengths = ""
    if problem.lengths is not None:
        lengths = "lengths"
        inputs.append(helper.make_tensor_value_info(lengths, TensorProto.INT32, [problem.shape.B]))
    y = "x"
    for m, weights in zip(problem.modules, problem.weights):
        for layer in range(m.layers):
            D, at = m.directions, 4 * layer * m.directions
            of = [[_gates(w) for w in weights[at + 4 * d : at + 4 * d + 4]] for d in range(D)]
            stacked = {
                "W": torch.stack([o[0] for o in of]),
                "R": torch.stack([o[1] for o in of]),
                "B": torch.stack([torch.cat(o[2:]) for o in of]),
            }
            constants += [numpy_helper.from_array(t.float().cpu().numpy(), f"{n}{k}") for n, t in stacked.items()]
            states = ["", ""]
            if problem.mode == "latency":
                states = [f"h{k}", f"c{k}"]
                size = [D, problem.shape.B, m.H]
                inputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name in states]
            direction = "bidirectional" if m.bidirectional else "forward"
            results = [f"Y{k}", f"Yh{k}", f"Yc{k}"] if problem.mode == "latency" else [f"Y{k}"]
            given = [y, f"W{k}", f"R{k}", f"B{k}", lengths, *states]
            nodes.append(helper.make_node("LSTM", given, results, hidden_size=m.H, direction=direction))
            outputs += results[1:]
            # (T, D, B, H) -> (T, B, D*H)
            nodes.append(helper.make_node("Transpose", [f"Y{k}"], [f"t{k}"], perm=[0, 2, 1, 3]))
            nodes.append(helper.make_node("Reshape", [f"t{k}", f"size{k}"], [f"y{k}"]))
            constants.append(numpy_helper.from_array(torch.tensor([0, 0, D * m.H]).numpy(), f"size{k}"))
            y, k = f"y{k}", k + 1
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None, None]) for name in [y, *outputs]]
    graph = helper.make_graph(nodes, "lstm", inputs, infos, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _gates(w: Tensor) -> Tensor:
    """torch orders gates i f g o, ONNX i o f g."""
    i, f, g, o = w.detach().chunk(4)
    return torch.cat([i, o, f, g])
