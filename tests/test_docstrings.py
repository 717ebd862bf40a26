from __future__ import annotations

import inspect
from typing import Any

import pytest

import scmag_muon as smm

PUBLIC = [
    pytest.param(getattr(module, name), id=f"{module.__name__}.{name}")
    for module in (smm.datasets, smm.metrics, smm.model, smm.pl, smm.pp, smm.tl)
    for name in module.__all__
    if name != "TrainingDivergedError"  # errors are caught, not called
] + [pytest.param(smm.report, id="scmag_muon.report")]


@pytest.mark.parametrize("public", PUBLIC)
def test_public_docstrings_are_whole(public: Any) -> None:
    text = inspect.getdoc(public) or ""
    assert "Examples\n--------\n>>> " in text
    signature = inspect.signature(public)
    for name, parameter in signature.parameters.items():
        prefix = "**" if parameter.kind is parameter.VAR_KEYWORD else ""
        assert f"{prefix}{name}" in text, f"parameter {name} is not described"


@pytest.mark.parametrize("public", PUBLIC)
def test_arguments_after_the_first_are_keywords(public: Any) -> None:
    kinds = [p.kind for p in inspect.signature(public).parameters.values() if p.kind is not p.VAR_KEYWORD]
    # a model may take n_clusters, a score its two label vectors, a simulator its n_obs by position
    assert all(kind is inspect.Parameter.KEYWORD_ONLY for kind in kinds[2:])


def test_public_names_are_listed() -> None:
    assert set(dir(smm)) == {"__version__", "datasets", "metrics", "model", "pl", "pp", "read_lazy", "report", "tl"}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = smm.nothing
