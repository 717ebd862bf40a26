"""Concordance and weights of one, two and three modalities."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from scmag_muon.manifold.information import (
    Halves,
    concordance,
    concordances,
    modality_weights,
    replication,
    split_halves,
)

N = 300
PLACES = np.random.default_rng(7).normal(size=(N, 2))


def seen(seed: int, *, directions: tuple[int, ...] = (0, 1), shuffled: bool = False, depth: float = 2.0) -> Halves:
    """Cells in the plane as a modality of 80 features of its own sees them."""
    rng = np.random.default_rng(seed)
    places = PLACES[rng.permutation(N)] if shuffled else PLACES
    rates = np.exp(places[:, list(directions)] @ rng.normal(0, 0.7, (len(directions), 80)))
    return split_halves(sp.csr_array(rng.poisson(depth * rates).astype(np.float32)), "log", scale=True)


@pytest.fixture(scope="module")
def views() -> dict[str, Halves]:
    return {"a": seen(1), "b": seen(2), "c": seen(3), "x": seen(4, shuffled=True)}


def weights(*of: Halves) -> np.ndarray:
    return modality_weights(np.array([replication(one.tables) for one in of]), concordances(of))


def weights_of_two(r: tuple[float, float], c: float) -> list[float]:
    """The second counts for less where it does not agree with a first one that itself replicates."""
    doubt = 1 - min(c / 0.05, 1)
    second = r[1] * (1 - doubt * min(r[0] / 0.02, 1))
    return [np.sqrt(r[0] / (r[0] + second)), np.sqrt(second / (r[0] + second))]


def test_one_modality_has_all_the_weight(views: dict[str, Halves]) -> None:
    assert np.isnan(concordances([views["a"]])).tolist() == [True]
    np.testing.assert_allclose(weights(views["a"]), [1])


@pytest.mark.parametrize("other", ["b", "x"])
def test_two_are_compared_with_each_other(views: dict[str, Halves], other: str) -> None:
    pair = [views["a"], views[other]]
    c = concordance(pair[0].tables, pair[1].tables)
    np.testing.assert_allclose(concordances(pair), [c, c])
    r = tuple(replication(one.tables) for one in pair)
    np.testing.assert_allclose(weights(*pair), weights_of_two(r, c))


@pytest.mark.parametrize("r", [(0.3, 0.3), (0.01, 0.3), (0.3, 0.01), (0.2, 0.4)])
@pytest.mark.parametrize("c", [0.0, 0.01, 0.049, 0.05, 0.4])
def test_weights_of_two_by_hand(r: tuple[float, float], c: float) -> None:
    np.testing.assert_allclose(modality_weights(np.array(r), np.array([c, c])), weights_of_two(r, c))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_shuffled_one_of_three_weighs_next_to_nothing_also_as_the_main_one(
    views: dict[str, Halves], place: int
) -> None:
    names = ["a", "b"]
    names.insert(place, "x")
    found = weights(*(views[name] for name in names))
    assert found[place] ** 2 < 0.2
    assert replication(views["x"].tables) > 0.3  # it is not replication that tells
    rest = np.delete(found, place) ** 2
    assert (rest > 0.35).all()
    assert found @ found == pytest.approx(1)


def test_three_that_agree_weigh_by_their_replication(views: dict[str, Halves]) -> None:
    three = [views[name] for name in "abc"]
    r = np.array([replication(one.tables) for one in three])
    np.testing.assert_allclose(weights(*three) ** 2, r / r.sum())
    assert (concordances(three) > 0.5).all()


def test_order_of_the_modalities_does_not_matter_to_concordance(views: dict[str, Halves]) -> None:
    found = concordances([views[name] for name in "axb"])
    other = concordances([views[name] for name in "bxa"])
    np.testing.assert_allclose(found, other[::-1], atol=0.02)


def test_each_is_compared_with_the_best_of_the_others(views: dict[str, Halves]) -> None:
    found = concordances([views[name] for name in "abx"])
    assert found[0] >= concordance(views["a"].tables, views["b"].tables)
    assert found[2] < 0.05


def test_others_together_tell_more_than_each() -> None:
    """Two modalities see one direction of the plane each; together they agree better with the one that sees both."""
    both, first, second = seen(1), seen(2, directions=(0,)), seen(3, directions=(1,))
    alone = max(concordance(both.tables, one.tables) for one in (first, second))
    assert concordances([both, first, second])[0] > alone + 0.1


def test_noise_is_not_asked() -> None:
    """A modality that does not replicate is not among the others, so that it takes nothing from who is compared."""
    a, b = seen(1), seen(2)
    noise = split_halves(
        sp.csr_array(np.random.default_rng(0).poisson(1.0, (N, 80)).astype(np.float32)), "log", scale=True
    )
    np.testing.assert_allclose(concordances([a, b, noise])[:2], concordances([a, b]))


def test_the_main_one_is_outvoted_as_far_as_the_others_agree() -> None:
    r = np.full(3, 0.3)
    np.testing.assert_allclose(modality_weights(r, np.array([0.0, 0.4, 0.4])) ** 2, [0, 0.5, 0.5])
    half = modality_weights(r, np.array([0.0, 0.025, 0.025])) ** 2  # each of the others is half in doubt as well
    np.testing.assert_allclose(half, np.full(3, 1 / 3))
    np.testing.assert_allclose(modality_weights(r, np.array([0.0, 0.0, 0.0])) ** 2, [1, 0, 0])
    # of the doubt of the main one, a half, two tenths count; the others' own is eight tenths
    unsure = modality_weights(r, np.array([0.025, 0.01, 0.01])) ** 2
    np.testing.assert_allclose(unsure, np.array([0.27, 0.06, 0.06]) / 0.39)
