"""Fitting on the workers of a dask.distributed cluster."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import scmag_muon as smm
from scmag_muon import _cluster
from scmag_muon.manifold import neighbors, threads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mudata import MuData

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Of two workers, each a process of its own."""
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)
    with cluster, distributed.Client(cluster) as made:
        yield made


@pytest.fixture
def mdata() -> MuData:
    return smm.datasets.simulate_citeseq(n_obs=400, n_vars=150, n_prot=15, n_batches=2)


def held(mdata: MuData) -> dict[str, np.ndarray]:
    """All that fitting writes."""
    found = {name: adata.layers["manifold"] for name, adata in mdata.mod.items() if "manifold" in adata.layers}
    found |= {f"obsm {slot}": values for slot, values in mdata.obsm.items() if isinstance(values, np.ndarray)}
    found |= {f"obsp {slot}": graph.toarray() for slot, graph in mdata.obsp.items()}
    for name, adata in mdata.mod.items():
        found |= {f"{name} {part}": adata.uns["manifold"]["fit"][part] for part in ("slopes", "intercepts")}
    return {slot: np.asarray(values) for slot, values in found.items()}


@pytest.mark.parametrize("write_layers", [True, False])
def test_fit_on_two_workers_equals_the_local_one(
    client: Any, mdata: MuData, write_layers: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(neighbors, "_BLOCK_ENTRIES", 20_000)
    monkeypatch.setattr(neighbors, "_BLOCK_ROWS", 64)
    sent = []
    as_tasks = _cluster._as_tasks

    def counted(client: Any, n_tasks: int, work: Any, parts: Any) -> list[Any]:
        sent.append(len(parts))
        return as_tasks(client, n_tasks, work, parts)

    monkeypatch.setattr(_cluster, "_as_tasks", counted)
    arguments = {"batch_key": "batch", "write_layers": write_layers, "copy": True}
    with caplog.at_level(logging.INFO):
        fitted = smm.pp.manifold_fit(mdata, **arguments)
    assert "Blocks of rows go to the 2 threads of the cluster tcp://" in caplog.text
    assert len(sent) >= 4
    assert max(sent) > 5
    monkeypatch.setattr(_cluster, "active_client", lambda: None)
    n_sent = len(sent)
    local = smm.pp.manifold_fit(mdata, **arguments)
    assert len(sent) == n_sent
    expected = held(local)
    assert ("rna" in expected) == write_layers
    for slot, values in held(fitted).items():
        np.testing.assert_allclose(values, expected.pop(slot), rtol=1e-5, atol=1e-5, err_msg=slot)
    assert not expected


def test_work_is_done_by_the_workers(client: Any) -> None:
    with _cluster.blocks_on_cluster():
        found = threads.in_blocks(_process, list(range(40)))
    assert [part for part, _ in found] == list(range(40))
    assert len({process for _, process in found}) == 2
    assert threads.in_blocks(_process, [1, 2])[0][1] not in {process for _, process in found}


def _process(part: int) -> tuple[int, int]:
    import os

    return part, os.getpid()


def test_error_of_a_task_is_that_of_the_work(client: Any) -> None:
    def fails(part: int) -> None:
        raise ValueError(f"part {part}")

    with _cluster.blocks_on_cluster(), pytest.raises(ValueError, match="part"):
        threads.in_blocks(fails, [3, 4])


def test_a_task_computes_in_its_own_process(client: Any) -> None:
    """A task that waited for others could wait for ever."""
    assert client.submit(_cluster.active_client, pure=False).result() is None
    assert _cluster.active_client() is client
