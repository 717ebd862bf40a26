"""Labels of reference cells carried to others, with probabilities that the reference's own cells have calibrated."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from scmag_muon.transfer._neighbors import nearest_with_distance, others_with_distance

_NEIGHBORS = 10
_SCALE_NEIGHBOR = 5
_FOLDS = 5
_MOST_CELLS = 20_000
_INVERSE_PENALTY = 10.0
_SHARE_OF_VOTE = 0.25
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

    Two classifiers are mixed. One is a vote of the ten nearest reference cells, each with weight :math:`\exp(-d^2 / 2 d_5^2)`, where
    :math:`d_5` is the distance to the fifth. The other is a multinomial logistic regression on the coordinates. The reference's own
    cells are classified too, each without itself: by the vote of its other neighbours, and by regressions on the other four fifths
    of the cells. The mixture is taken to the power that makes their labels most likely, which calibrates the probabilities. The
    vote's share is a quarter: chosen by likelihood it would be larger, for the vote has seen all other cells.

    Parameters
    ----------
    x
        Coordinates of the cells, ``(n_new, n_components)``.
    reference
        Coordinates of the reference's labelled cells, ``(n_labelled, n_components)``.
    labels
        Their labels, ``(n_labelled,)``.
    random_state
        Seed of the fifths, and of the 20,000 cells that serve for regression where there are more.
    """
    classes, codes = np.unique(labels.astype(str), return_inverse=True)
    if len(classes) == 1:
        return Transferred(classes, np.ones((len(x), 1)))
    scale = max(float(reference.std()), 1e-12)
    x, reference = (np.asarray(of / scale, dtype=np.float32) for of in (x, reference))
    k = min(_NEIGHBORS, len(reference) - 1)
    vote = _vote(*nearest_with_distance(x, reference, k), codes, len(classes))
    rows = np.random.default_rng(random_state).permutation(len(reference))[:_MOST_CELLS]
    own_vote = _vote(*others_with_distance(reference, k), codes, len(classes))[rows]
    fold = np.arange(len(rows)) % _FOLDS
    own_regression = np.zeros_like(own_vote)
    for i in range(_FOLDS):
        kept, left = rows[fold != i], fold == i
        own_regression[left] = _regression(reference[kept], codes[kept], reference[rows[left]], len(classes))
    regression = _regression(reference[rows], codes[rows], x, len(classes))
    temperature = _best_temperature(own_vote, own_regression, codes[rows])
    return Transferred(classes, _mixture(vote, regression, temperature))


def _vote(found: np.ndarray, squared: np.ndarray, codes: np.ndarray, n_classes: int) -> np.ndarray:
    scale = squared[:, [min(_SCALE_NEIGHBOR, squared.shape[1]) - 1]]
    weights = np.exp(-squared / (2 * np.maximum(scale, 1e-12)))
    votes = np.zeros((len(found), n_classes))
    np.add.at(votes, (np.arange(len(found))[:, None], codes[found]), weights)
    return np.asarray(votes / votes.sum(axis=1, keepdims=True))


def _regression(x: np.ndarray, codes: np.ndarray, of: np.ndarray, n_classes: int) -> np.ndarray:
    found = np.zeros((len(of), n_classes))
    present = np.unique(codes)
    if len(present) == 1 or not len(of):
        found[:, present] = 1
        return found
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=_INVERSE_PENALTY, max_iter=300).fit(x, codes)
    found[:, model.classes_] = model.predict_proba(of)
    return found


def _mixture(vote: np.ndarray, regression: np.ndarray, temperature: float) -> np.ndarray:
    log = np.log(_SHARE_OF_VOTE * vote + (1 - _SHARE_OF_VOTE) * regression + _SMALLEST) / temperature
    powers = np.exp(log - log.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _best_temperature(vote: np.ndarray, regression: np.ndarray, codes: np.ndarray) -> float:
    rows = np.arange(len(codes))
    return max(_TEMPERATURES, key=lambda t: float(np.log(_mixture(vote, regression, t)[rows, codes]).mean()))
