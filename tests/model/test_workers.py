from __future__ import annotations

import multiprocessing
import os
import threading
import time
from typing import TYPE_CHECKING

import pytest
import torch

from scmag_muon.model._workers import in_workers

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=[1, 2, 5])
def n_threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_are_in_the_order_of_the_parts(n_threads: int) -> None:
    def work(i: int) -> int:
        time.sleep(0.002 * (7 - i))
        return i * i

    assert in_workers(work, range(7)) == [i * i for i in range(7)]
    assert in_workers(work, range(1)) == [0]
    assert in_workers(work, []) == []
    assert torch.get_num_threads() == n_threads


def test_as_many_threads_as_torch_has_each_of_them_alone(n_threads: int) -> None:
    together = threading.Barrier(n_threads)

    def work(_: int) -> tuple[str, int, bool]:
        together.wait(timeout=20)  # broken unless all of them work at once
        return threading.current_thread().name, torch.get_num_threads(), torch.is_grad_enabled()

    found = in_workers(work, range(n_threads))
    assert len({name for name, _, _ in found}) == n_threads
    assert threading.current_thread().name in {name for name, _, _ in found}
    assert all(alone == 1 and not with_gradients for _, alone, with_gradients in found)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("broken", [0, 3])
def test_errors_come_through_and_leave_nothing_behind(n_threads: int, broken: int) -> None:
    def work(i: int) -> int:
        if i == broken:
            raise ArithmeticError(str(i))
        return i

    with pytest.raises(ArithmeticError, match=str(broken)):
        in_workers(work, range(4))
    assert torch.get_num_threads() == n_threads
    assert in_workers(abs, range(4)) == [0, 1, 2, 3]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_forked_process_does_without_threads(n_threads: int) -> None:
    assert in_workers(_name, range(4))  # the pool is there
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert set(pool.apply_async(in_workers, (_name, range(4))).get(timeout=60)) == {"MainThread"}


def _name(_: int) -> str:
    return threading.current_thread().name
