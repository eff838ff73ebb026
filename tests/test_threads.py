"""Threads: any number of them, from the caller's side and inside a call, and processes that were forked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from layer_cases import Layer
from layer_sampling import cotangents_of, definition
from operators import arguments_of, assert_same_bits, everything, infer, train
from tolerance import Tolerance, assert_within

TIMEOUT = 120  # seconds, for what takes a few: a process that hangs must fail

# (T, B, I, H): rows are split among threads, units are split, directions go side by side
SIZES = [(5, 40, 33, 65), (6, 3, 20, 129), (40, 1, 64, 96)]
FEATURES = [
    {},
    {"direction": "both"},
    {"P": 30, "direction": "both", "lengths": True, "scale": True},
    {"cell": "zoneout", "packed": True, "resets": True, "direction": "both"},
    {"dtype": torch.bfloat16, "batch_first": True, "direction": "both"},
]


@pytest.fixture(autouse=True)
def _number_of_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def layer_and_cotangents(size: tuple[int, ...], features: dict, seed: int = 0) -> tuple[Layer, tuple]:
    torch.manual_seed(seed)
    layer = Layer.random(*size, **{"dtype": torch.float32, **features})
    return layer, cotangents_of(layer)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("features", FEATURES, ids=str)
def test_numbers_of_threads_agree(size, features):
    layer, cotangents = layer_and_cotangents(size, features)
    expected, tolerance = definition(layer, cotangents), Tolerance.of(layer)
    for threads in (1, 2, 3, 4):
        found = train(arguments_of(layer), cotangents, everything(layer), threads)
        assert_within(found, expected, tolerance)
        assert_same_bits(infer(arguments_of(layer), threads), {name: found[name] for name in ("y", "h_n", "c_n")})


def python(code: str, **environment: str) -> str:
    """stdout of a new interpreter that can import what this one can."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # children that hang as well
        raise AssertionError(f"no end after {TIMEOUT} seconds\n{process.communicate()[0]}") from None
    assert process.returncode == 0, f"exit code {process.returncode}\n{output}"
    return output


# A layer large enough for several threads; check() compares with what a single one computes.
SETUP = """
import os, threading
import torch, fused_lstm
from test_threads import SIZES, arguments_of, everything, layer_and_cotangents, train

layer, cotangents = layer_and_cotangents(SIZES[0], {"direction": "both"})

def run(threads=None):
    arguments = arguments_of(layer), cotangents, everything(layer)
    return train(*arguments, torch.get_num_threads() if threads is None else threads)

def check(threads=None):
    mine = run(threads)
    for name, value in mine.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-4)

before = torch.get_num_threads()
expected = run(1)
torch.set_num_threads(before)
"""


def test_omp_num_threads():
    code = SETUP + "check(); print(torch.get_num_threads(), len(os.listdir('/proc/self/task')))"
    one, two = (python(code, OMP_NUM_THREADS=n).split() for n in ("1", "2"))
    assert (one[0], two[0]) == ("1", "2")
    assert int(one[1]) == 1, "a thread was started although none is allowed"
    assert int(two[1]) > 1, "the layer is large enough for two"


@pytest.mark.parametrize(
    "environment",
    [
        {"OMP_THREAD_LIMIT": "2"},
        {"OMP_THREAD_LIMIT": "1"},
        {"OMP_DYNAMIC": "true"},
        {"OMP_DYNAMIC": "true", "OMP_THREAD_LIMIT": "3"},
        {"OMP_WAIT_POLICY": "passive"},
        {"OMP_PROC_BIND": "true", "OMP_PLACES": "{0}"},
    ],
    ids=str,
)
def test_teams_that_turn_out_smaller(environment):
    python(SETUP + "for n in (4, 8, 3): check(n)", OMP_NUM_THREADS="4", **environment)


def test_many_python_threads():
    """Eight Python threads that each start teams, while torch's own operations start theirs."""
    cases = [(*layer_and_cotangents(SIZES[k % 3], FEATURES[k % 5], seed=k), 1 + k % 3) for k in range(8)]
    calls = [(arguments_of(layer), cotangents, everything(layer)) for layer, cotangents, _ in cases]
    expected = [train(*call, threads) for call, (_, _, threads) in zip(calls, cases, strict=True)]
    torch.set_num_threads(2)

    def work(k: int) -> bool:
        matrix = torch.randn(200, 200)
        for _ in range(10):
            # set_num_threads is a property of the calling thread where torch uses OpenMP
            assert_same_bits(train(*calls[k], cases[k][2]), expected[k])
            matrix = (matrix @ matrix).softmax(0)
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8), timeout=TIMEOUT))


def test_autograd_in_many_threads():
    from fused_lstm import lstm_layer

    weights = [torch.randn(4 * 40, k) / 7 for k in (30, 40)]
    x = torch.randn(20, 9, 30)

    def gradients(_: int) -> list[torch.Tensor]:
        leaves = [t.clone().requires_grad_() for t in (x, *weights)]
        y, h_n, c_n = lstm_layer(leaves[0], None, None, leaves[1:])
        return torch.autograd.grad(y.square().sum() + h_n.sum() + c_n.sum(), leaves)

    expected = gradients(0)
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(gradients, range(40), timeout=TIMEOUT):
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


FORK = """
check(2); check(4)
def child(then):
    pid = os.fork()
    if pid == 0:
        try:
            then()
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    return pid
def wait(pid):
    assert os.waitpid(pid, 0)[1] == 0
"""


def test_forked_child_of_a_parent_with_threads():
    python(SETUP + FORK + "for _ in range(3): wait(child(lambda: check(2)))\ncheck(2)", OMP_NUM_THREADS="4")


def test_children_of_children():
    python(SETUP + FORK + "wait(child(lambda: (check(2), wait(child(lambda: check(4))), check(2))))\ncheck(2)")


def test_fork_while_other_threads_compute():
    code = """
stop = threading.Event()
def churn():
    while not stop.is_set():
        run(2)
others = [threading.Thread(target=churn) for _ in range(3)]
for t in others: t.start()
pids = [child(lambda: [check(2) for _ in range(3)]) for _ in range(8)]
for pid in pids: wait(pid)
stop.set()
for t in others: t.join()
check(2)
"""
    python(SETUP + FORK + code)


def test_data_loader_workers():
    code = """
class Data(torch.utils.data.Dataset):
    def __len__(self): return 12
    def __getitem__(self, index):
        check(2)
        return index
check(2)
for _ in range(2):
    loader = torch.utils.data.DataLoader(Data(), batch_size=2, num_workers=2, multiprocessing_context="fork")
    assert sorted(i for batch in loader for i in batch.tolist()) == list(range(12))
    check(2)
"""
    python(SETUP + code)
