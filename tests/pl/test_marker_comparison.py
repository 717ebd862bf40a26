from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import scmag_muon as smm

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData


def test_raw_beside_reconstruction(finished: MuData, looks_right: Callable[[Any, str], None]) -> None:
    axes = smm.pl.marker_comparison(finished, features=["g3", "prot:p2"])
    assert [[ax.get_title(loc="left") for ax in row] for row in axes] == [
        ["g3 (rna), raw", "g3 (rna), reconstructed"],
        ["p2 (prot), raw", "p2 (prot), reconstructed"],
    ]
    denoised = np.log1p(np.asarray(finished["prot"].layers["scmag"])[:, 2])
    np.testing.assert_allclose(np.sort(axes[1, 1].collections[0].get_array()), np.sort(denoised), rtol=1e-6)
    looks_right(axes, "marker_comparison")


def test_sparse_layers(finished: MuData) -> None:
    import scipy.sparse as sp

    dense = smm.pl.marker_comparison(finished, features=["g3"])[0, 1].collections[0].get_array()
    finished["rna"].layers["scmag"] = sp.csr_matrix(finished["rna"].layers["scmag"])
    sparse = smm.pl.marker_comparison(finished, features="g3")[0, 1].collections[0].get_array()
    np.testing.assert_array_equal(dense, sparse)


def test_errors(finished: MuData) -> None:
    with pytest.raises(ValueError, match="`features` is empty"):
        smm.pl.marker_comparison(finished, features=[])
    with pytest.raises(KeyError, match="No feature 'CD4'"):
        smm.pl.marker_comparison(finished, features=["CD4"])
    del finished["rna"].layers["scmag"]
    with pytest.raises(KeyError, match=r"No denoised counts in mdata\['rna'\].layers\['scmag'\].*tl.scmag"):
        smm.pl.marker_comparison(finished, features=["g3"])
