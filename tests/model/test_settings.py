from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from scmag_muon.model._settings import SETTINGS, network_settings, of_each_modality

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("settings", sorted(SETTINGS))
def test_nothing_changed_gives_the_settings(settings: str) -> None:
    assert network_settings(settings, {}) == SETTINGS[settings]


@pytest.mark.parametrize(
    "changes",
    [
        {"n_hidden": 1},
        {"n_hidden": np.int64(7)},
        {"noise_scale": (0, 0.0)},
        {"noise_scale": np.array([0.1, 2.0])},
        {"noise_scale": 0.7},
        {"noise_scale": {"rna": 0.7, "atac": 1}},
        {"residual_weight": 0},
        {"kl_weight": np.float32(0.5)},
        {"gate_bias": None},
        {"gate_bias": -3},
        {"two_stage": False, "reduction": "mean", "dispersion": "gene-cell"},
    ],
)
def test_what_can_be_trained_is_taken(changes: dict[str, Any]) -> None:
    numbers = vars(network_settings("default", changes))
    for name, value in changes.items():
        assert numbers[name] is value


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        *[("n_hidden", value, "a whole number of at least 1") for value in (0, -5, 2.5, 7.0, NAN, True, "128", None)],
        *[
            ("noise_scale", value, "a finite number of at least 0")
            for value in (
                NAN,
                {"rna": NAN},
                {"dna": 1.0},
                (0.5, NAN),
                (INF, 0.5),
                (0.5, -1),
                ("a", "b"),
                "ab",
                (True, False),
                None,
            )
        ],
        *[
            (name, value, "a finite number of at least 0")
            for name in ("residual_weight", "kl_weight", "cluster_weight")
            for value in (NAN, INF, -1.0, "1", None, True)
        ],
        *[("modality_dropout", value, "a number of at least 0 and less than 1") for value in (-0.1, 1.0, NAN, None)],
        *[("gate_bias", value, "a finite number, or None for no gate") for value in (NAN, -INF, "3", False)],
        ("reduction", "x", r"one of \['sum', 'mean'\]"),
        ("reduction", ["sum"], r"one of \['sum', 'mean'\]"),
        ("dispersion", "x", r"one of \['gene', 'gene-cell'\]"),
        ("two_stage", 1, "True or False"),
        ("relative_distance", "yes", "True or False"),
    ],
)
def test_settings_out_of_range_are_named_with_their_range(name: str, value: object, wanted: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must (be|hold) {wanted}"):
        network_settings("default", {name: value})


@pytest.mark.parametrize("settings", ["best", None, ["default"], 1])
def test_unknown_settings(settings: object) -> None:
    with pytest.raises(ValueError, match=r"`settings` must be one of \['default', 'paper'\]"):
        network_settings(settings, {})


def test_settings_that_do_not_exist() -> None:
    with pytest.raises(TypeError, match=r"no setting named \['n_latent', 'noise'\]; it has .*'noise_scale'"):
        network_settings("default", {"noise": 1, "n_latent": 3, "n_hidden": 2})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.5, (0.5, 0.5, 0.5)),
        ({"protein": 1.5, "rna": 2, "atac": 1}, (2.0, 1.0, 1.5)),
        ([3, 1, 2], (3.0, 1.0, 2.0)),
        (np.array([3, 1, 2]), (3.0, 1.0, 2.0)),
        (SETTINGS["paper"].noise_scale, (2.0, 1.5, 1.5)),
    ],
)
def test_numbers_of_each_modality(value: Any, expected: tuple[float, ...]) -> None:
    assert of_each_modality(value, ["rna", "atac", "protein"], argument="noise_scale") == expected


def test_numbers_must_be_there_for_each_modality() -> None:
    with pytest.raises(ValueError, match=r"`noise_scale` has no number for modalities of kind \['atac'\]"):
        of_each_modality({"rna": 1.0}, ["rna", "atac"], argument="noise_scale")
    with pytest.raises(ValueError, match="`noise_scale` must hold a number for each of 3 modalities, got 2"):
        of_each_modality([1.0, 2.0], ["rna", "atac", "protein"], argument="noise_scale")
