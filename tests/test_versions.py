from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import scmag_muon as smm
from scmag_muon import _versions

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_copy_that_was_never_installed_does_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def found(package: str) -> str:
        if package == "scmag-muon":
            raise PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr(_versions, "version", found)
    mdata = smm.datasets.simulate_citeseq(n_obs=120, n_vars=60, n_prot=12, n_clusters=2)
    reference, query = mdata[:90].copy(), mdata[90:].copy()
    brief = {"max_epochs_pretrain": 2, "max_epochs": 1, "progress_bar": False}
    model = smm.tl.scmag(reference, n_clusters=2, return_model=True, **brief)
    assert reference.uns["scmag"]["versions"]["scmag-muon"] == "unknown"
    model.save(tmp_path / "model")
    smm.tl.map_query(query, tmp_path / "model")
    assert query.uns["scmag"]["versions"]["scmag-muon"] == "unknown"
    smm.report(reference, tmp_path / "page.html")
    assert "unknown" in (tmp_path / "page.html").read_text()
