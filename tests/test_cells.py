"""fused_lstm/cells.py: the list, and the maths of each cell against what its paper says."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from fused_lstm.cells import CELLS, INDEX, cell_index

B, H = 3, 7


@pytest.fixture
def arguments() -> dict[str, torch.Tensor]:
    torch.manual_seed(2000)
    return {"a": torch.randn(B, 4 * H).double(), "h": torch.randn(B, H).double(), "c": torch.randn(B, H).double()}


def step(name: str, arguments: dict[str, torch.Tensor], params=None, inputs=None) -> tuple[torch.Tensor, torch.Tensor]:
    return CELLS[INDEX[name]].step(arguments["a"], arguments["h"], arguments["c"], params, inputs)


def test_the_compiled_list_is_the_same():
    import fused_lstm._library  # noqa: F401  (registers the operators)

    assert torch.ops.fused_lstm.cell_names().split(",") == [cell.name for cell in CELLS]


def test_names_are_unique_and_entries_frozen():
    assert len(INDEX) == len(CELLS)
    with pytest.raises(dataclasses.FrozenInstanceError):
        CELLS[0].name = "other"


@pytest.mark.parametrize("name", list(INDEX))
def test_index(name):
    assert CELLS[cell_index(name)].name == name


@pytest.mark.parametrize("name", ["lstm", "", None, 0, []])
def test_unknown_cell(name):
    with pytest.raises(ValueError, match="cell must be one of 'vanilla', 'peephole', .*, but is"):
        cell_index(name)


def test_vanilla_is_torch_lstm_cell(arguments):
    torch_cell = torch.nn.LSTMCell(4 * H, H, bias=False, dtype=torch.float64)
    torch_cell.weight_ih.data = torch.eye(4 * H, dtype=torch.float64)
    torch_cell.weight_hh.data.zero_()
    expected = torch_cell(arguments["a"], (arguments["h"], arguments["c"]))
    torch.testing.assert_close(step("vanilla", arguments), expected)


def test_peephole_by_hand(arguments):
    p = torch.randn(3, H).double()
    h, c = step("peephole", arguments, p)
    a = arguments["a"].view(B, 4, H)
    for b in range(B):
        for u in range(H):
            old = arguments["c"][b, u]
            i = 1 / (1 + torch.exp(-(a[b, 0, u] + p[0, u] * old)))
            f = 1 / (1 + torch.exp(-(a[b, 1, u] + p[1, u] * old)))
            new = f * old + i * torch.tanh(a[b, 2, u])
            o = 1 / (1 + torch.exp(-(a[b, 3, u] + p[2, u] * new)))
            torch.testing.assert_close(c[b, u], new)
            torch.testing.assert_close(h[b, u], o * torch.tanh(new))


def test_peephole_without_weights_is_vanilla(arguments):
    torch.testing.assert_close(
        step("peephole", arguments, torch.zeros(3, H).double()), step("vanilla", arguments), rtol=0, atol=0
    )


def test_coupled_is_vanilla_whose_input_gate_mirrors_the_forget_gate(arguments):
    expected = dict(arguments, a=arguments["a"].clone())
    expected["a"][:, :H] = -arguments["a"][:, H : 2 * H]  # sigmoid(-f) = 1 - sigmoid(f)
    torch.testing.assert_close(step("coupled", arguments), step("vanilla", expected))


def test_coupled_ignores_the_input_gate(arguments):
    other = dict(arguments, a=arguments["a"].clone())
    other["a"][:, :H] = torch.nan
    torch.testing.assert_close(step("coupled", other), step("coupled", arguments), rtol=0, atol=0)


def test_zoneout_mixes_old_and_new_state(arguments):
    new_h, new_c = step("vanilla", arguments)
    keep = torch.rand(B, 2, H).double()
    h, c = step("zoneout", arguments, None, keep)
    torch.testing.assert_close(h, (1 - keep[:, 0]) * arguments["h"] + keep[:, 0] * new_h)
    torch.testing.assert_close(c, (1 - keep[:, 1]) * arguments["c"] + keep[:, 1] * new_c)


@pytest.mark.parametrize("k_h, k_c", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_zoneout_with_hard_masks_keeps_or_takes(arguments, k_h, k_c):
    new_h, new_c = step("vanilla", arguments)
    keep = torch.tensor([k_h, k_c]).view(1, 2, 1).expand(B, 2, H).double()
    h, c = step("zoneout", arguments, None, keep)
    torch.testing.assert_close(h, new_h if k_h else arguments["h"])
    torch.testing.assert_close(c, new_c if k_c else arguments["c"])
