"""Generated MuData: a clean, typed error or a result that holds together, and the input as it was.

``SCMAG_MUON_EXAMPLES=5000`` runs so many examples of fitting, and a twentieth as many whole runs; without it there are some dozens.
"""

from __future__ import annotations

import os
import re
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mudata
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, Phase, given, settings

import scmag_muon as smm
from tests.checksum import changed, checksums, freeze
from tests.generated.strategies import Case, mudatas

if TYPE_CHECKING:
    from mudata import MuData

EXAMPLES = int(os.environ.get("SCMAG_MUON_EXAMPLES", "0"))
PACKAGE = Path(smm.__file__).parent
HOUSE = settings(
    deadline=None,
    derandomize=EXAMPLES == 0,
    database=None,
    print_blob=True,
    phases=[
        phase for phase in Phase if phase not in (Phase.shrink, Phase.explain)
    ],  # a failure says its seed soon enough
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
OURS = re.compile(
    r"modalit|MuData|mdata|layer|batch|`\w+`|n_clusters|cells|counts|features|min_|max_|kinds|barcodes",
    flags=re.IGNORECASE,
)

pytestmark = [
    # of making such data, not of what is done with them
    pytest.mark.filterwarnings("ignore:(Observation|Variable|var|obs)[ _]names are not unique:UserWarning"),
    pytest.mark.filterwarnings("ignore:Cannot join columns with the same name:UserWarning"),
    pytest.mark.filterwarnings("ignore:Duplicated (obs|var)_names:UserWarning"),
    pytest.mark.filterwarnings("ignore::anndata.ImplicitModificationWarning"),
]


def result_or_error(call: Any, case: Case) -> bool:
    """Whether the call gave a result; an error must be one of ours, and leave the input as it was."""
    freeze(case.mdata)
    before = checksums(case.mdata)
    failure = None
    try:
        call(case.mdata, **case.arguments)
    except (ValueError, KeyError, TypeError) as error:
        failure = error
    assert changed(before, case.mdata) == set()
    if failure is None:
        return True
    last = Path(traceback.extract_tb(failure.__traceback__)[-1].filename)
    assert last.is_relative_to(PACKAGE), f"{type(failure).__name__} of {last}: {failure}"
    assert OURS.search(str(failure)), f"the message names nothing of the data: {failure}"
    assert checksums(case.mdata).keys() == before.keys()
    return False


def dense(values: Any) -> np.ndarray:
    return np.asarray(values.toarray() if sp.issparse(values) else values)


def read_again(mdata: MuData) -> MuData:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mdata = mdata.copy()
        for adata in (mdata, *mdata.mod.values()):
            adata.obs = adata.obs.astype(str)  # no file holds a column of numbers and text, which the user may have
        mdata.write_h5mu(Path(folder) / "x.h5mu")
        return mudata.read_h5mu(Path(folder) / "x.h5mu")


def made(mdata: MuData, key: str) -> dict[str, np.ndarray]:
    """The layers that were written, and the embedding, by name."""
    found = {name: dense(adata.layers[key]) for name, adata in mdata.mod.items() if key in adata.layers}
    return found | {"embedding": np.asarray(mdata.obsm[f"X_{key}"])}


def holds_together(mdata: MuData, key: str) -> None:
    for name, values in made(mdata, key).items():
        assert np.isfinite(values).all(), name
        assert values.shape == (mdata.mod[name].shape if name in mdata.mod else (mdata.n_obs, values.shape[1]))
    for name, values in made(read_again(mdata), key).items():
        np.testing.assert_array_equal(values, made(mdata, key)[name])


@settings(parent=HOUSE, max_examples=EXAMPLES or 60)
@given(case=mudatas())
def test_fitting(case: Case) -> None:
    if result_or_error(smm.pp.manifold_fit, case):
        holds_together(case.mdata, "manifold")
        for adata in case.mdata.mod.values():
            if "manifold" in adata.uns:
                assert np.isclose(sum(adata.uns["manifold"]["view_weights"].values()), 1)
                assert not dense(adata.layers["manifold"])[:, ~adata.var["manifold"]].any()


def a_run(mdata: MuData, **arguments: Any) -> None:
    short = {"max_epochs_pretrain": 2, "max_epochs": 1, "progress_bar": False, "accelerator": "cpu"}
    model = smm.tl.scmag(mdata, n_clusters=2, return_model=True, **short, **arguments)
    q = model.get_cluster_assignments(soft=True)
    np.testing.assert_allclose(q.sum(axis=1), 1, atol=1e-4)
    np.testing.assert_array_equal(q.argmax(axis=1).astype(str), mdata.obs["scmag"].astype(str))


@settings(parent=HOUSE, max_examples=EXAMPLES // 20 or 8)
@given(case=mudatas())
@pytest.mark.filterwarnings("ignore:Category .* has fewer than 3 cells")
def test_a_whole_run(case: Case) -> None:
    if result_or_error(a_run, case):
        holds_together(case.mdata, "scmag")
        assert case.mdata.obs["scmag"].notna().all()
        assert case.mdata.obs["scmag_confidence"].between(0, 1).all()
        assert np.isfinite(case.mdata.uns["scmag"]["history"]["loss"]).all()
