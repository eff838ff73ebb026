"""Who is compared with FusedLSTM, each in its best configuration. ``PEERS`` names them in the order of tables."""

from . import compiling
from .base import Call, Peer, module_missing
from .foreign import FlashRnn, Haste, TorchRlTriton
from .jax_scan import Flax, JaxScan
from .loop import Loop
from .onnx_runtime import OnnxRuntime
from .torch_lstm import Fused, Torch, TorchBenchmark, TorchCompiled

OURS = Fused("fused", "FusedLSTM")
PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Torch(),
        TorchCompiled(),
        TorchBenchmark(),
        Loop(compiled=False),
        Loop(compiled=True),
        OnnxRuntime(),
        JaxScan(),
        Flax(),
        TorchRlTriton(),
        Haste(),
        FlashRnn(),
        Fused("fused-compile", "FusedLSTM under torch.compile", compiled=True),
        Fused("fused-recompute", "FusedLSTM(recompute=True)", recompute=True),
        Fused("self", "FusedLSTM against itself: how far to trust a ratio"),
    )
}
# Asked for by nobody unless by name: not rivals, but ways to use FusedLSTM.
OUR_WAYS = ("fused-compile", "fused-recompute", "self")
RIVALS = tuple(name for name in PEERS if name not in OUR_WAYS)

__all__ = ["OURS", "OUR_WAYS", "PEERS", "RIVALS", "Call", "Peer", "compiling", "module_missing"]
