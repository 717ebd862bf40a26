from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
import scipy.sparse as sp
from threadpoolctl import threadpool_info

from scmag_muon.manifold import threads

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_threads_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    for asked, expected in {"": 3, "1": 1, "2": 2, "8": 3, "0": 1, "4,2": 3}.items():
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
        assert threads.n_threads() == expected


@pytest.mark.parametrize("n", [1, 3])
def test_results_are_in_order_and_products_in_one_thread(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "n_threads", lambda: n)
    names, blas = set(), set()

    def work(i: int) -> int:
        names.add(threading.current_thread().name)
        blas.update(info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas")
        return i * i

    assert threads.in_threads(work, range(20)) == [i * i for i in range(20)]
    assert (threading.main_thread().name in names) == (n == 1)
    assert n == 1 or blas <= {1}


@pytest.mark.parametrize("most", [10**6, 20])
@pytest.mark.parametrize("n", [1, 2, 7])
@pytest.mark.parametrize("empty", [[], [0, 1, 2], range(40)])
def test_products_in_parts(n: int, empty: object, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "n_threads", lambda: n)
    monkeypatch.setattr(threads, "ENTRIES_AT_A_TIME", most)
    matrix = sp.random_array((40, 9), density=0.3, rng=np.random.default_rng(0), format="lil")
    matrix[list(empty)] = 0
    matrix = sp.csr_array(matrix)
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(9, 5)), rng.normal(size=(40, 5))
    parts = threads.row_parts(matrix)
    assert len(parts) == max(n, -(-matrix.nnz // most))
    np.testing.assert_allclose(threads.product(matrix, parts, x), matrix @ x)
    np.testing.assert_allclose(threads.transposed_product(matrix, parts, y), matrix.T @ y, atol=1e-12)


def test_limit_is_taken_back_by_the_last_thread_that_leaves() -> None:
    def of_blas() -> list[int]:
        return [info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"]

    before = of_blas()
    other_is_in, this_is_out = threading.Event(), threading.Event()

    def other() -> None:
        with threads.products_in_one_thread():
            other_is_in.set()
            this_is_out.wait(10)

    thread = threading.Thread(target=other)
    with threads.products_in_one_thread():
        thread.start()
        assert other_is_in.wait(10)
    this_is_out.set()
    thread.join()
    assert of_blas() == before


def test_shared_state_is_put_back_after_a_failure() -> None:
    state = []

    @threads.shared_by_threads
    @contextlib.contextmanager
    def change() -> Iterator[None]:
        state.append("in")
        try:
            yield
        finally:
            state.append("out")

    for _ in range(2):
        with pytest.raises(KeyError), change(), change():
            raise KeyError
    assert state == ["in", "out", "in", "out"]
