"""Labels of reference cells carried to others, with probabilities that the reference's own cells have calibrated."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from scmag_muon.manifold.threads import in_threads
from scmag_muon.transfer._neighbors import Neighbors

if TYPE_CHECKING:
    from collections.abc import Callable

_NEIGHBORS = 10
_SCALE_NEIGHBOR = 5
_FOLDS = 5
_MOST_CELLS = 20_000
_INVERSE_PENALTY = 10.0
_SHRINKAGE = 0.05
_SHARES = (0.25, 0.375, 0.375)
"""Of vote, regression and discriminant analysis."""
_TEMPERATURES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)
_SMALLEST = 1e-4


@dataclass(frozen=True)
class Transferred:
    """Probability of each class, float64, ``(n_new, n_classes)``, and the classes in their order."""

    classes: np.ndarray
    probabilities: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """The most probable class of each cell."""
        return np.asarray(self.classes[self.probabilities.argmax(axis=1)])

    @property
    def confidence(self) -> np.ndarray:
        """Its probability."""
        return np.asarray(self.probabilities.max(axis=1))


def transfer_labels(x: np.ndarray, reference: np.ndarray, labels: np.ndarray, *, random_state: int = 0) -> Transferred:
    r"""Class probabilities of further cells.

    Three classifiers are mixed. One is a vote of the ten nearest reference cells, each with weight :math:`\exp(-d^2 / 2 d_5^2)`, where
    :math:`d_5` is the distance to the fifth. One is a multinomial logistic regression on the coordinates. One is a linear
    discriminant analysis, which needs fewer cells of a type. The reference's own cells are classified too, each without itself:
    by the vote of its other neighbours, and by the other two on the other four fifths of the cells. The mixture is taken to the
    power that makes their labels most likely, which calibrates the probabilities. The vote's share is a quarter: chosen by likelihood
    it would be larger, for the vote has seen all other cells. The other two share the rest.

    Parameters
    ----------
    x
        Coordinates of the cells, ``(n_new, n_components)``.
    reference
        Coordinates of the reference's labelled cells, ``(n_labelled, n_components)``.
    labels
        Their labels, ``(n_labelled,)``.
    random_state
        Seed of the fifths, and of the 20,000 cells that the last two learn from where there are more.
    """
    return transfer_by(Neighbors(x, reference), labels, random_state=random_state)


def transfer_by(neighbors: Neighbors, labels: np.ndarray, *, random_state: int = 0) -> Transferred:
    """What :func:`transfer_labels` says, by neighbours that others use too."""
    classes, codes = np.unique(labels.astype(str), return_inverse=True)
    if len(classes) == 1:
        return Transferred(classes, np.ones((len(neighbors.x), 1)))
    scale = max(float(neighbors.reference.std()), 1e-12)
    x, reference = (np.asarray(of / scale, dtype=np.float32) for of in (neighbors.x, neighbors.reference))
    k = min(_NEIGHBORS, len(reference) - 1)
    vote = _vote(*_scaled(neighbors.nearest(k), scale), codes, len(classes))
    rows = np.random.default_rng(random_state).permutation(len(reference))[:_MOST_CELLS]
    own_vote = _vote(*_scaled(neighbors.others(k), scale), codes, len(classes))[rows]
    fold = np.arange(len(rows)) % _FOLDS
    own, found = _SHARES[0] * own_vote, _SHARES[0] * vote

    def classify(part: tuple[int, int]) -> np.ndarray:
        which, i = part  # the last fold holds no cell: what is learnt from all
        kept, of = rows[fold != i], reference[rows[fold == i]] if i < _FOLDS else x
        return _classified((_regression, _discriminant)[which], reference[kept], codes[kept], of, len(classes))

    parts = [(which, i) for which in range(2) for i in range(_FOLDS + 1)]
    with warnings.catch_warnings():  # of all threads at once: each by itself would undo the others'
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", message="Only one sample available")  # of a type: it scatters by nothing
        classified = in_threads(classify, parts)
    for (which, i), probabilities in zip(parts, classified, strict=True):
        share = _SHARES[1 + which] * probabilities
        if i < _FOLDS:
            own[fold == i] += share
        else:
            found += share
    return Transferred(classes, _to_power(found, _best_temperature(own, codes[rows])))


def _scaled(found: tuple[np.ndarray, np.ndarray], scale: float) -> tuple[np.ndarray, np.ndarray]:
    return found[0], found[1] / np.float32(scale**2)


def _vote(found: np.ndarray, squared: np.ndarray, codes: np.ndarray, n_classes: int) -> np.ndarray:
    scale = squared[:, [min(_SCALE_NEIGHBOR, squared.shape[1]) - 1]]
    weights = np.exp(-squared / (2 * np.maximum(scale, 1e-12)))
    votes = np.zeros((len(found), n_classes))
    np.add.at(votes, (np.arange(len(found))[:, None], codes[found]), weights)
    return np.asarray(votes / votes.sum(axis=1, keepdims=True))


def _regression(x: np.ndarray, codes: np.ndarray) -> LogisticRegression:
    return LogisticRegression(C=_INVERSE_PENALTY, max_iter=300).fit(x, codes)


def _discriminant(x: np.ndarray, codes: np.ndarray) -> LinearDiscriminantAnalysis | LogisticRegression:
    if len(x) <= len(np.unique(codes)):  # no type has cells to scatter
        return _regression(x, codes)
    return LinearDiscriminantAnalysis(solver="lsqr", shrinkage=_SHRINKAGE).fit(x, codes)


def _classified(
    make: Callable[[np.ndarray, np.ndarray], Any], x: np.ndarray, codes: np.ndarray, of: np.ndarray, n_classes: int
) -> np.ndarray:
    found = np.zeros((len(of), n_classes))
    present = np.unique(codes)
    if len(present) == 1 or not len(of):
        found[:, present] = 1
        return found
    model = make(x, codes)
    found[:, model.classes_] = model.predict_proba(of)
    return found


def _to_power(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    log = np.log(probabilities + _SMALLEST) / temperature
    powers = np.exp(log - log.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _best_temperature(own: np.ndarray, codes: np.ndarray) -> float:
    rows = np.arange(len(codes))
    return max(_TEMPERATURES, key=lambda t: float(np.log(_to_power(own, t)[rows, codes]).mean()))
