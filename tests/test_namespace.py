"""The accessor ``mdata.scmag``, and that `import scmag_muon` stays quick."""

from __future__ import annotations

import copy
import inspect
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

import scmag_muon as smm

if TYPE_CHECKING:
    from mudata import MuData

HEAVY = ["anndata", "matplotlib", "mudata", "pandas", "scanpy", "scipy", "scvi", "sklearn", "torch"]


def in_a_new_interpreter(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("room", ["pp", "tl", "pl"])
def test_every_function_is_there_without_its_first_argument(citeseq: MuData, room: str) -> None:
    accessor, package = getattr(citeseq.scmag, room), getattr(smm, room)
    assert dir(accessor) == sorted(package.__all__)
    for name in package.__all__:
        function, method = getattr(package, name), getattr(accessor, name)
        assert method.__doc__ == function.__doc__
        first, *rest = inspect.signature(function).parameters.values()
        assert first.name == "mdata"
        assert list(inspect.signature(method).parameters.values()) == rest


def test_does_what_the_function_does(citeseq: MuData) -> None:
    expected = smm.pp.manifold_fit(citeseq, n_neighbors=10, copy=True)
    assert citeseq.scmag.pp.manifold_fit(n_neighbors=10) is None
    np.testing.assert_array_equal(citeseq.obsm["X_manifold"], expected.obsm["X_manifold"])


def test_belongs_to_its_own_mudata(citeseq: MuData) -> None:
    citeseq.scmag  # noqa: B018  mudata keeps the accessor in the object
    other = citeseq[:80].copy()
    other.scmag.pp.manifold_fit()
    assert "X_manifold" not in citeseq.obsm
    assert other.obsm["X_manifold"].shape[0] == 80


def test_can_be_copied(citeseq: MuData) -> None:
    assert copy.copy(citeseq.scmag.tl).scmag.__self__ is citeseq


@pytest.mark.parametrize("name", ["nothing", "annotations"])
def test_unknown_functions(citeseq: MuData, name: str) -> None:
    with pytest.raises(AttributeError, match=rf"mdata.scmag.tl has no function '{name}'"):
        getattr(citeseq.scmag.tl, name)
    assert not hasattr(citeseq.scmag.tl, "_scmag")


def test_says_what_it_is(citeseq: MuData) -> None:
    assert repr(citeseq.scmag) == "scmag_muon for this MuData: .pp, .tl, .pl"
    assert repr(citeseq.scmag.pp) == "functions of scmag_muon.pp for this MuData: complete_cells, manifold_fit"


def test_import_alone_loads_nothing_heavy() -> None:
    code = f"import sys, scmag_muon; print([name for name in {HEAVY} if name in sys.modules])"
    assert in_a_new_interpreter(code) == "[]"


@pytest.mark.skipif(sys.platform != "linux", reason="GNU OpenMP is what torch brings along on Linux")
@pytest.mark.parametrize(
    ("asked", "spins"),
    [({}, "20000"), ({"GOMP_SPINCOUNT": "77"}, "77"), ({"OMP_WAIT_POLICY": "passive"}, "0")],
    ids=["by default", "the user's count", "the user's policy"],
)
def test_threads_of_torch_wait_no_longer_than_needed(asked: dict[str, str], spins: str) -> None:
    of_this_process = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    environment = {key: value for key, value in os.environ.items() if key not in of_this_process}
    code = [sys.executable, "-c", "import scmag_muon, torch"]
    environment |= {"OMP_DISPLAY_ENV": "VERBOSE", **asked}
    told = subprocess.run(code, capture_output=True, text=True, check=True, env=environment).stderr
    assert f"GOMP_SPINCOUNT = '{spins}'" in told


@pytest.mark.parametrize(
    "code",
    [
        "import mudata, scmag_muon",
        "import scmag_muon, mudata; scmag_muon.pp",
        "import muon, scmag_muon.pp, mudata",
        "from scmag_muon.pp import manifold_fit; import mudata",
        "from scmag_muon.datasets import simulate_citeseq; import mudata",
    ],
)
def test_is_registered(code: str) -> None:
    assert in_a_new_interpreter(f"{code}; print(hasattr(mudata.MuData, 'scmag'))") == "True"
