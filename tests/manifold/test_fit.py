from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import numpy as np
import pytest
import scipy.sparse as sp

from scmag_muon.datasets import simulate_citeseq
from scmag_muon.manifold import fusion
from scmag_muon.manifold import modality as of_modality
from scmag_muon.manifold.fit import ManifoldFit
from scmag_muon.manifold.joint import joint_space
from scmag_muon.manifold.modality import Modality, make_modality
from scmag_muon.manifold.reference import fit
from tests.reference import manifold as reference

if TYPE_CHECKING:
    from collections.abc import Callable

N = 120
SETTINGS = {"rna": ("scaled", True), "prot": ("clr", False), "atac": ("log", True)}
BATCHES = ("a", "b")
CODES = np.arange(N) % 2


def counts_of(n: int = N) -> dict[str, sp.csr_array]:
    mdata = simulate_citeseq(n_obs=n, n_vars=60, n_prot=14, n_clusters=3, random_state=4)
    counts = {name: sp.csr_array(adata.X) for name, adata in mdata.mod.items()}
    return {**counts, "atac": sp.csr_array(counts["rna"][:, ::2])}


def prepare(counts: dict[str, sp.csr_array], cells: dict[str, np.ndarray] | None = None) -> list[Modality]:
    """Modalities of which the given cells have each."""
    modalities = []
    for name, x in counts.items():
        main, scales = SETTINGS[name]
        own = np.arange(x.shape[0]) if cells is None else cells.get(name, np.arange(x.shape[0]))
        features = np.array([f"{name}_{i}" for i in range(x.shape[1])])
        modalities.append(make_modality(name, name, x[own], features=features, main=main, scales=scales, cells=own))
    return modalities


def learn(
    modalities: list[Modality], n: int = N, codes: np.ndarray | None = None, **options: float
) -> tuple[ManifoldFit, dict[str, np.ndarray]]:
    batches = () if codes is None else BATCHES
    joint = joint_space(modalities, n, n_pcs=10, batches=codes, n_batches=len(batches))
    return fit(modalities, joint, n_neighbors=8, batches=batches, codes=codes, **options)


LACKING = {"rna": np.arange(0, 90), "prot": np.arange(40, N)}
CASES = {
    "complete": (None, None, {}),
    "batches": (None, CODES, {}),
    "step": (None, None, {"step": 0.4}),
    "lacking": (LACKING, None, {}),
    "lacking, batches": (LACKING, CODES, {"step": 0.7}),
    "batch without": ({"prot": np.arange(1, N, 2)}, CODES, {}),
}


@pytest.fixture(scope="module", params=list(CASES), ids=list(CASES))
def case(request: pytest.FixtureRequest) -> tuple[dict, ManifoldFit, dict, np.ndarray | None]:
    cells, codes, options = CASES[request.param]
    counts = {name: x for name, x in counts_of().items() if name != "atac"}
    learnt, layers = learn(prepare(counts, cells), codes=codes, **options)
    return counts, learnt, layers, codes


def own(counts: dict[str, sp.csr_array], learnt: ManifoldFit) -> dict[str, sp.csr_array]:
    return {name: x[learnt.modality(name).cells] for name, x in counts.items()}


def test_rows_are_those_of_the_fitted_data(case: tuple) -> None:
    counts, learnt, layers, _ = case
    for name, x in own(counts, learnt).items():
        cells = learnt.modality(name).cells
        order = np.random.default_rng(0).permutation(len(cells))[:37]
        np.testing.assert_allclose(learnt.rows(name, cells[order], counts=x), layers[name][order], atol=3e-4)
        np.testing.assert_array_equal(
            learnt.rows(name, cells[order], counts=lambda rows, x=x: x[rows]),
            learnt.rows(name, cells[order], counts=x),
        )


def test_many_counts_are_fitted_as_few_are(case: tuple, request: pytest.FixtureRequest) -> None:
    counts, learnt, layers, codes = case
    cells, _, options = CASES[request.node.callspec.params["case"]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(of_modality, "MANY", 0)
        patch.setattr(of_modality, "_OF_SECTION", 500)
        patch.setattr(of_modality, "_WIDTH", 4)
        patch.setattr(fusion, "_FUSED_COLUMNS", 4)
        found, of_found = learn(prepare(counts, cells), codes=codes, **options)
    for kernel, table in learnt.lists.items():
        assert (found.lists[kernel] == table).mean() > 0.999
    for name, layer in layers.items():
        np.testing.assert_allclose(of_found[name], layer, atol=2e-3)
        for part in ("slopes", "intercepts"):
            one, other = (getattr(of.modality(name).moments, part) for of in (found, learnt))
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(found.modality(name).view_weights, learnt.modality(name).view_weights, atol=1e-5)


def test_rows_of_cells_that_lack_a_modality_are_means_of_cells_that_have_it(case: tuple) -> None:
    counts, learnt, layers, codes = case
    for name, x in own(counts, learnt).items():
        cells = learnt.modality(name).cells
        lacking = np.setdiff1d(np.arange(N), cells)
        rows = learnt.rows(name, lacking, counts=x)
        assert rows.shape == (len(lacking), x.shape[1])
        assert np.isfinite(rows).all()
        for table in learnt.neighborhoods[name].values():
            assert np.isin(table, cells).all()
            assert all(len(set(row)) == learnt.n_neighbors for row in table.tolist())
            np.testing.assert_array_equal(table[cells, 0], cells)


def test_embedding_reference_cells_gives_their_coordinates(case: tuple) -> None:
    counts, learnt, _, codes = case
    some = np.arange(0, N, 3)
    masks = {name: np.isin(some, learnt.modality(name).cells) for name in counts}
    given = {name: x[some[masks[name]]] for name, x in counts.items()}
    batches = None if codes is None else np.array(BATCHES)[codes[some]]
    found = learnt.embed(given, present=masks, batches=batches)
    np.testing.assert_allclose(found, learnt.joint[some], atol=1e-4)


def test_operators_at_reference_coordinates_are_the_reference_s(case: tuple) -> None:
    _, learnt, _, _ = case
    found = learnt.operators(learnt.joint)
    for name, of_kernel in found.items():
        for kernel, operator in of_kernel.items():
            expected = learnt.operator_rows(name, np.arange(N))[kernel]
            assert operator.shape == (N, N)
            np.testing.assert_allclose(operator.sum(axis=1), 1, rtol=1e-5)
            measured = learnt.modality(name).cells
            np.testing.assert_allclose(operator.toarray()[measured], expected.toarray()[measured], atol=1e-6)


def test_round_trip_keeps_every_bit(case: tuple) -> None:
    counts, learnt, _, _ = case
    again = ManifoldFit.from_dict(pickle.loads(pickle.dumps(learnt.to_dict())))
    given = {name: x[:20] for name, x in counts.items()}
    np.testing.assert_array_equal(again.embed(given), learnt.embed(given))
    for name, x in own(counts, learnt).items():
        np.testing.assert_array_equal(
            again.rows(name, np.arange(9), counts=x), learnt.rows(name, np.arange(9), counts=x)
        )
    assert only_plain(learnt.to_dict())


def only_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and only_plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(isinstance(item, str) for item in value)
    return isinstance(value, (str, float, int, np.ndarray))


def test_order_of_the_cells_plays_no_part() -> None:
    counts = {name: x for name, x in counts_of().items() if name != "atac"}
    learnt, _ = learn(prepare(counts, LACKING))
    order = np.random.default_rng(1).permutation(N)
    moved = {name: x[order] for name, x in counts.items()}
    again, _ = learn(prepare(moved, {name: np.flatnonzero(np.isin(order, cells)) for name, cells in LACKING.items()}))
    # weights come from random halves of the counts, which are drawn in the order of the cells
    scale = [b.weight / a.weight for a, b in zip(learnt.modalities, again.modalities, strict=True)]
    for factor, a, b in zip(scale, learnt.blocks(learnt.joint), again.blocks(again.joint), strict=True):
        np.testing.assert_allclose(np.abs(b), np.abs(factor * a[order]), atol=2e-3)


def test_masks_of_all_cells_change_nothing() -> None:
    counts = counts_of()
    everything = {name: np.arange(N) for name in counts}
    (first, layers), (second, others) = learn(prepare(counts)), learn(prepare(counts, everything))
    np.testing.assert_array_equal(first.joint, second.joint)
    for name, values in layers.items():
        np.testing.assert_array_equal(values, others[name])
    assert first.neighborhoods["rna"] is first.neighborhoods["prot"]


@pytest.mark.parametrize("names", [["rna"], ["prot"], ["rna", "prot", "atac"]])
def test_any_number_of_modalities(names: list[str]) -> None:
    counts = {name: x for name, x in counts_of().items() if name in names}
    learnt, layers = learn(prepare(counts))
    assert list(layers) == names
    weights = np.array([modality.weight for modality in learnt.modalities])
    assert np.square(weights).sum() == pytest.approx(1)
    if len(names) == 1:
        assert np.isnan(learnt.modalities[0].concordance)
    squares = [np.square(block - block.mean(axis=0)).sum() / N for block in learnt.blocks(learnt.joint)]
    np.testing.assert_allclose(squares, weights**2, rtol=1e-4)


def test_imputed_neighborhoods_equal_reference() -> None:
    """The p cells that have the modality and share most neighbours, in loops."""
    counts = {name: x for name, x in counts_of(60).items() if name != "atac"}
    cells = np.arange(0, 60, 2)
    learnt, _ = learn(prepare(counts, {"prot": cells}), 60)
    squared = reference.distance(learnt.joint, "rbf")
    lists = reference.nearest(squared, 8)
    for i in range(60):
        ranked = sorted(cells, key=lambda j, i=i: (j != i, -reference.shared_count(lists, i, j), squared[i, j], j))
        assert set(learnt.neighborhoods["prot"]["rbf"][i].tolist()) == set(ranked[:8])


def of_another_batch() -> tuple[ManifoldFit, dict[str, sp.csr_array], np.ndarray]:
    """A fit of 300 cells, and counts of the same cells with every fourth feature tripled, as of another batch; their types."""
    mdata = simulate_citeseq(n_obs=300, n_vars=60, n_prot=14, n_clusters=3, random_state=4)
    counts = {name: sp.csr_array(adata.X) for name, adata in mdata.mod.items()}
    learnt, _ = learn(prepare(counts), 300)
    batch = {name: x.copy() for name, x in counts.items()}
    for x in batch.values():
        x.data *= np.where(x.indices % 4 == 0, 3, 1)
    return learnt, batch, mdata.obs["cell_type"].to_numpy()


def test_a_type_alone_lands_where_it_lands_with_all_types_of_its_batch() -> None:
    learnt, batch, types = of_another_batch()
    names = np.array(["new"] * 300)
    unmoved, together = learnt.embed(batch), learnt.embed(batch, batches=names)
    away = np.linalg.norm(unmoved - learnt.joint, axis=1).mean()
    assert np.linalg.norm(together - learnt.joint, axis=1).mean() < 0.75 * away
    for of_type in np.unique(types):
        rows = np.flatnonzero(types == of_type)
        alone = learnt.embed({name: x[rows] for name, x in batch.items()}, batches=names[rows])
        assert np.linalg.norm(alone.mean(axis=0) - together[rows].mean(axis=0)) < 0.5 * away


def test_too_few_cells_of_an_unseen_batch_stay_where_they_are() -> None:
    learnt, batch, _ = of_another_batch()
    for n, moved in ((100, True), (19, False)):
        some = {name: x[:n] for name, x in batch.items()}
        shifts = learnt.embed(some, batches=["new"] * n) - learnt.embed(some)
        assert (np.abs(shifts).max() > 0.01) == moved
        np.testing.assert_allclose(shifts, shifts[:1].repeat(n, axis=0), atol=1e-5)


@pytest.mark.parametrize(
    ("action", "error", "says"),
    [
        (lambda f, c: f.embed({}), ValueError, "No counts to embed"),
        (lambda f, c: f.embed({"hto": c["rna"]}), KeyError, "No modality 'hto' in the fit"),
        (
            lambda f, c: f.embed({"rna": c["rna"][:1]}, present={"rna": np.array([True, False])}),
            ValueError,
            "1 cells have none",
        ),
        (lambda f, c: f.rows("hto", np.arange(3), counts=c["rna"]), KeyError, "No modality 'hto'"),
    ],
)
def test_what_is_refused(action: Callable, error: type[Exception], says: str) -> None:
    counts = {name: x for name, x in counts_of().items() if name != "atac"}
    learnt, _ = learn(prepare(counts))
    with pytest.raises(error, match=says):
        action(learnt, counts)
