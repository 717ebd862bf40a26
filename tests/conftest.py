from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import matplotlib as mpl
import mudata
import pytest
import torch

import scmag_muon as smm
from scmag_muon._mudata import no_pull_on_update

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from types import ModuleType

    from mudata import MuData

mpl.use("agg")
hypothesis.settings.register_profile("scmag", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("scmag")
torch.set_num_threads(min(2, os.cpu_count() or 1))
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what it puts in the background without it


@pytest.fixture(autouse=True)
def _mudata_as_of_0_4() -> Iterator[None]:
    # mudata 0.3 warns at every copy and view of a MuData unless told to behave as 0.4
    with no_pull_on_update():
        yield


@pytest.fixture
def citeseq() -> MuData:
    """120 cells of 3 types, 60 genes, 10 proteins."""
    return smm.datasets.simulate_citeseq(n_obs=120, n_vars=60, n_prot=10, n_clusters=3)


def _hand_made() -> ModuleType:
    # tests are no package, so that those of the installed wheel are tested
    spec = importlib.util.spec_from_file_location("finished", Path(__file__).with_name("finished.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def _finished_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("finished") / "finished.h5mu"
    with no_pull_on_update():
        _hand_made().finished().write_h5mu(path)
    return path


@pytest.fixture(params=["in memory", "read back"])
def finished(request: pytest.FixtureRequest) -> MuData:
    """180 cells in 4 clusters as tl.scmag leaves them (tests/finished.py), made anew or read back from a file."""
    if request.param == "in memory":
        return _hand_made().finished()
    return mudata.read_h5mu(request.getfixturevalue("_finished_file"))


@pytest.fixture
def with_tree(finished: MuData) -> MuData:
    """The same with its tree of clusters: the two largest of the 4 clusters fall apart in two leaves each."""
    _hand_made().add_tree(finished)
    return finished


@pytest.fixture
def full_disk() -> Callable[[int], AbstractContextManager[None]]:
    """A disk on which files can't grow beyond so many bytes meanwhile; skips where the system can't limit them."""
    resource = pytest.importorskip("resource")

    @contextlib.contextmanager
    def limited(n_bytes: int) -> Iterator[None]:
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)

    return limited


@pytest.fixture
def real_data() -> Callable[[str], MuData]:
    """Reader of the labelled sets; skips where they are absent."""
    folder = Path(os.environ.get("SCMAG_MUON_DATA", Path(__file__).parents[2] / "shared" / "data"))

    def read(name: str) -> MuData:
        path = folder / f"{name}.h5mu"
        if not path.exists():
            pytest.skip(f"no real data: {path.name} is not in SCMAG_MUON_DATA nor in ../shared/data")
        with no_pull_on_update():
            return mudata.read_h5mu(path)

    return read
