"""``FusedLSTM``, the module that takes the place of ``torch.nn.LSTM``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import Proxy
from torch.nn import LSTM as _LSTM  # bound now: users may put another class under torch.nn.LSTM
from torch.nn import Module as _Module
from torch.nn.utils._expanded_weights.expanded_weights_impl import ExpandedWeight as _ExpandedWeight
from torch.nn.utils.rnn import PackedSequence

from . import _dynamo
from .functional import lstm as _lstm
from .variants import Variants, with_dropped

_dynamo.install()

State = tuple[Tensor, Tensor]


class FusedLSTM(_LSTM):
    """``torch.nn.LSTM`` on the fused operators: same arguments, parameters, ``state_dict``, results and errors.

    Equivalent to ``torch.nn.LSTM(input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0,
    bidirectional=False, proj_size=0, device=None, dtype=None)``, whose parameters it holds under the same names; each
    may load the other's ``state_dict``. ``forward`` takes ``lengths`` and ``resets`` besides.

    Sizes: T steps, B rows, I input, H hidden, P output (``proj_size`` or H), D directions (1 or 2), L layers.

    ``forward(input, hx=None, *, lengths=None, resets=None)``:

    * ``input``: (T, B, I), or (B, T, I) with ``batch_first``, or (T, I) for a single row, or a ``PackedSequence``.
      float32, float64, bfloat16 or float16, as the parameters.
    * ``hx``: h0 (L*D, B, P) and c0 (L*D, B, H), for a single row (L*D, P) and (L*D, H). Default: zeros.
    * ``lengths``: (B,) integers, in any order: the valid steps of each row. Results beyond are 0, last states are those
      of the last valid step, and the reverse direction starts there. Not with a ``PackedSequence`` or a single row.
    * ``resets``: bools (T, B), (B, T) with ``batch_first``, (T,) for a single row, in the form of the input for a
      ``PackedSequence``. True at step t: no state and no gradient crosses from t-1 to t.

    Returns ``output, (h_n, c_n)`` as ``torch.nn.LSTM`` does. The equations: :mod:`fused_lstm.reference`.

    Options beyond ``torch.nn.LSTM``, keyword-only, all off by default, any of them together but where noted; what each
    computes, :class:`fused_lstm.cells.Cell` and :mod:`fused_lstm.reference` define. Masks come from torch's generator:
    same ``torch.manual_seed``, same masks.

    * ``weight_dropout=p``: while training, elements of every weight_hh are zeroed with probability p and the others
      scaled by 1/(1-p); one mask for each layer, direction and call. DropConnect; Merity, Keskar & Socher 2017.
    * ``recurrent_dropout=p``: while training, h on its way into weight_hh is multiplied by a mask in {0, 1/(1-p)}, one
      for each layer, direction, row and feature, the same at all steps. Gal & Ghahramani 2016.
    * ``zoneout=p`` or ``(p_h, p_c)``: while training, each value of h and c keeps that of the step before with
      probability p; in eval mode h = p_h h' + (1 - p_h) h~, likewise c. Krueger et al. 2017. Not with proj_size.
    * ``peephole=True``: i and f see p_i c', p_f c', o sees p_o c, all unit by unit. Gers & Schmidhuber 2000.
      Parameters ``weight_p_l{k}`` (3, H): p_i, p_f, p_o.
    * ``coupled_gates=True``: i = 1 - f; the rows of i in the weights, and p_i, have no effect. Greff et al. 2017.
    * ``forget_bias=b``: initialisation only: b is added to the rows of f in every bias_ih. Jozefowicz et al. 2015.
    * ``cell_clip=m``, ``proj_clip=m``: the new c, before any gate reads it, and the projected h are kept within
      [-m, m], with no gradient at the bounds. Sak, Senior & Beaufays 2014. ``proj_clip`` needs proj_size.
    * ``layer_norm=True``: a = gamma_ih LN(W_ih x) + gamma_hh LN(W_hh h') + b_ih + b_hh, h = o tanh(gamma_c LN(c) +
      beta_c), LN over all 4H values or all H, eps 1e-5. Ba, Kiros & Hinton 2016, parameters as in haste:
      ``gamma_ih_l{k}``, ``gamma_hh_l{k}`` (4H,), ``gamma_c_l{k}``, ``beta_c_l{k}`` (H,).
    * ``output_gate="cell"``: o = sigmoid(W_xo x + W_ho c + b_o) reads the new c instead of h'. W_ho are the last H rows
      of weight_hh, so the ``state_dict`` is that of ``torch.nn.LSTM``. Not with proj_size, peephole, layer_norm.

    * ``recompute=True``: for backward only outputs and cell states are kept, a fifth of the usual, and the gates are
      made again from them in one product over many steps. Not with layer_norm, output_gate.

    Parameters of options end in ``_l{k}``, reverse in ``_l{k}_reverse``, as the others do.

    Weights are read from the attributes at every call, so that whatever stands there counts: parameters loaded,
    swapped, parametrized, pruned, or put there for one call by ``torch.func.functional_call``.

    Raises:
        ValueError, RuntimeError: where ``torch.nn.LSTM`` does, in the same words. Where that would compute nonsense or
            crash (weights of a wrong shape, packed input with a wrong ``hx``), RuntimeError.
    """

    recompute = False
    _variants: Variants | None = None  # on the class for modules that convert() or unpickling made without __init__

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        weight_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        zoneout: float | tuple[float, float] = 0.0,
        peephole: bool = False,
        coupled_gates: bool = False,
        forget_bias: float | None = None,
        cell_clip: float | None = None,
        proj_clip: float | None = None,
        layer_norm: bool = False,
        output_gate: str = "hidden",
        recompute: bool = False,
    ) -> None:
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, device, dtype
        )
        self.recompute = recompute
        self._variants = Variants.of(
            bias=bias, proj_size=proj_size, weight_dropout=weight_dropout, recurrent_dropout=recurrent_dropout,
            zoneout=zoneout, peephole=peephole, coupled_gates=coupled_gates, forget_bias=forget_bias,
            cell_clip=cell_clip, proj_clip=proj_clip, layer_norm=layer_norm, output_gate=output_gate,
        )  # fmt: skip
        if self._variants is not None:
            self._variants.add_parameters(self, self._suffixes, hidden_size, self.weight_ih_l0)
            self._variants.reset_parameters(self, self._suffixes, hidden_size)

    def reset_parameters(self) -> None:
        super().reset_parameters()
        if self._variants is not None:
            self._variants.reset_parameters(self, self._suffixes, self.hidden_size)

    def extra_repr(self) -> str:
        more = "" if self._variants is None else f", {self._variants}"
        return super().extra_repr() + more + (", recompute=True" if self.recompute else "")

    @property
    def _suffixes(self) -> list[str]:
        """What names of parameters end with, layer after layer and direction after direction."""
        ends = ("", "_reverse") if self.bidirectional else ("",)
        return [f"_l{layer}{end}" for layer in range(self.num_layers) for end in ends]

    @property
    def _flat_weights(self) -> list[Tensor | None]:
        # nn.LSTM keeps a list, and weak references to find out when it is stale. Made anew it is never stale, and
        # torch.utils.swap_tensors, which refuses tensors with weak references, works.
        return [getattr(self, name, None) for name in self._flat_weights_names]

    @_flat_weights.setter
    def _flat_weights(self, value: list[Tensor | None]) -> None:
        """Subclasses made for nn.LSTM set the list anew; what counts here are the attributes, so nothing to do."""

    def _init_flat_weights(self) -> None:
        self._flat_weight_refs = []

    def _update_flat_weights(self) -> None:
        pass

    def _weights_have_changed(self) -> bool:
        return False

    def flatten_parameters(self) -> None:
        """Does nothing, as there is nothing to flatten. Here because code written for cuDNN calls it."""

    def __setstate__(self, state: dict) -> None:
        super().__setstate__({key: value for key, value in state.items() if key != "_flat_weights"})
        self._flat_weight_refs = []

    def _replicate_for_data_parallel(self) -> FusedLSTM:
        return _Module._replicate_for_data_parallel(self)

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: State | None = None,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | PackedSequence | None = None,
    ) -> tuple[Tensor | PackedSequence, State]:
        if isinstance(input, Proxy):  # torch.fx takes modules of torch.nn as they are, and then this one too
            return self._as_leaf(input, hx, lengths=lengths, resets=resets)
        weights = self._weights()
        if isinstance(weights[0], _ExpandedWeight):
            return self._per_sample(input, hx, lengths, resets)
        single = False
        if isinstance(input, PackedSequence):
            self._check_packed(input, hx, weights)
        else:
            single = input.dim() == 2
            if single:
                input, hx, resets = self._one_row(input, hx, lengths, resets)
            self._check_padded(input, hx, weights)
        variants = {}
        if self._variants is not None:
            weights, variants = self._varied(input, weights)
        y, h_n, c_n = _lstm(
            input,
            hx,
            weights,
            self.num_layers,
            dropout=self.dropout,
            training=self.training,
            lengths=lengths,
            resets=resets,
            direction="both" if self.bidirectional else "forward",
            batch_first=self.batch_first,
            recompute=self.recompute,
            **variants,
        )
        if single:
            return y.squeeze(0 if self.batch_first else 1), (h_n.squeeze(1), c_n.squeeze(1))
        return y, (h_n, c_n)

    def _as_leaf(self, input: Proxy, hx: State | None, **more: Proxy | None) -> Proxy:
        given = {name: value for name, value in more.items() if value is not None}
        return input.tracer.create_proxy("call_module", input.tracer.path_of_module(self), (input, hx), given)

    def __prepare_scriptable__(self) -> None:
        # To answer with a torch.nn.LSTM would do, but torch then puts that into the caller's model for good.
        raise RuntimeError(
            "torch.jit.script cannot compile FusedLSTM; use torch.jit.trace or torch.export.export, "
            "or put torch.nn.LSTM, which takes the same state_dict, in its place"
        )

    def _per_sample(
        self, input: Tensor, hx: State | None, lengths: Tensor | None, resets: Tensor | None
    ) -> tuple[Tensor, State]:
        """Under ``call_for_per_sample_grads``, whose weights know torch's own operators and no others."""
        if lengths is not None or resets is not None or self._variants is not None:
            raise RuntimeError(
                "call_for_per_sample_grads works with what torch.nn.LSTM can do, but lengths, resets or options were "
                "given; use torch.func.vmap(torch.func.grad(...)) over functional_call, or leave them out"
            )
        return super().forward(input, hx)

    def _weights(self) -> list[Tensor]:
        parameters = self._parameters
        try:
            return [parameters[name] for name in self._flat_weights_names]
        except KeyError:  # no parameter any more: pruned, parametrized, a replica's
            return [getattr(self, name) for name in self._flat_weights_names]

    def _varied(self, input: Tensor | PackedSequence, weights: list[Tensor]) -> tuple[list[Tensor], dict[str, Any]]:
        """Weights, and arguments of ``functional.lstm``, as the options want them; masks are drawn here."""
        variants, training, suffixes, H = self._variants, self.training, self._suffixes, self.hidden_size
        packed = isinstance(input, PackedSequence)
        x = input.data if packed else input
        rows = int(input.batch_sizes[0]) if packed else x.shape[0 if self.batch_first else 1]
        n = len(suffixes)
        more = {
            "cell": variants.cell.name,
            "cell_params": variants.cell_params(self, suffixes, H),
            "recurrent_scale": variants.recurrent_scale(x, (n, rows, self.proj_size or H), training),
            "cell_inputs": variants.keep_masks(x, (n, *x.shape[:-1], H), training),
            "cell_clip": variants.cell_clip,
            "proj_clip": variants.proj_clip,
        }
        return with_dropped(weights, len(weights) // n, lambda w: variants.dropped(w, training)), more

    def _one_row(
        self, input: Tensor, hx: State | None, lengths: Tensor | None, resets: Tensor | None
    ) -> tuple[Tensor, State | None, Tensor | None]:
        if hx is not None:
            if hx[0].dim() != 2 or hx[1].dim() != 2:
                raise RuntimeError(
                    "For unbatched 2-D input, hx and cx should "
                    f"also be 2-D but got ({hx[0].dim()}-D, {hx[1].dim()}-D) tensors"
                )
            hx = (hx[0].unsqueeze(1), hx[1].unsqueeze(1))
        if lengths is not None:
            raise ValueError("lengths is for batches, but input is a single row (T, I); slice it to its length instead")
        rows = 0 if self.batch_first else 1
        if resets is not None and not isinstance(resets, Tensor):
            raise TypeError(f"resets must be a tensor of bools, but is {type(resets).__name__}")
        return input.unsqueeze(rows), hx, None if resets is None else resets.unsqueeze(rows)

    # The checks spend nothing on words while all is well; where nn.LSTM words an error in Python, its own method does.

    def _check_padded(self, input: Tensor, hx: State | None, weights: list[Tensor]) -> None:
        if input.dim() != 3:
            raise ValueError(f"LSTM: Expected input to be 2D or 3D, got {input.dim()}D instead")
        if hx is not None and (hx[0].dim() != 3 or hx[1].dim() != 3):
            raise RuntimeError(
                "For batched 3-D input, hx and cx should "
                f"also be 3-D but got ({hx[0].dim()}-D, {hx[1].dim()}-D) tensors"
            )
        steps, rows, features = input.shape
        if self.batch_first:
            steps, rows = rows, steps
        if features != self.input_size or input.dtype != weights[0].dtype:
            self.check_input(input, None)
        if hx is not None:
            self._check_state(input.device, hx, rows)
        if steps == 0:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        _check_device("parameter", input.device, weights[0].device)

    def _check_packed(self, input: PackedSequence, hx: State | None, weights: list[Tensor]) -> None:
        data = input.data
        if data.dim() != 2 or data.size(1) != self.input_size:
            self.check_input(data, input.batch_sizes)
        if hx is not None:
            # A compiler has no value of batch_sizes[0]; the operator compares it when it runs.
            compiling = torch.compiler.is_compiling() and hx[0].dim() == 3
            self._check_state(data.device, hx, hx[0].size(1) if compiling else int(input.batch_sizes[0]))
        _check_device("parameter", data.device, weights[0].device)

    def _check_state(self, device: torch.device, hx: State, rows: int) -> None:
        h0, c0 = hx[0], hx[1]
        states = 2 * self.num_layers if self.bidirectional else self.num_layers
        h_size, c_size = (states, rows, self.proj_size or self.hidden_size), (states, rows, self.hidden_size)
        if h0.shape != h_size:
            self.check_hidden_size(h0, h_size, "Expected hidden[0] size {}, got {}")
        if c0.shape != c_size:
            self.check_hidden_size(c0, c_size, "Expected hidden[1] size {}, got {}")
        if not isinstance(hx, (tuple, list)):
            raise TypeError(f"hx must be a pair of tensors (h0, c0), but is {type(hx).__name__}")
        if len(hx) != 2:
            raise RuntimeError("lstm expects two hidden states")
        _check_device("hidden", device, h0.device)
        _check_device("hidden", device, c0.device)


def _check_device(name: str, expected: torch.device, actual: torch.device) -> None:
    if actual != expected:
        raise RuntimeError(
            f"Input and {name} tensors are not at the same device, found input tensor at {expected} "
            f"and {name} tensor at {actual}"
        )
