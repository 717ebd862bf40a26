from __future__ import annotations

import threading

import numpy as np
import pytest

from scmag_muon.transfer import _neighbors
from scmag_muon.transfer._neighbors import Neighbors, nearest_with_distance, others_with_distance


@pytest.fixture
def places() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(40, 5)).astype(np.float32), rng.normal(size=(90, 5)).astype(np.float32)


@pytest.mark.parametrize("order", [[50, 30, 10, 5], [5, 10, 30, 50], [30, 200]])
def test_whoever_asks_gets_what_is_found_alone(places: tuple[np.ndarray, np.ndarray], order: list[int]) -> None:
    found = Neighbors(*places)
    for k in order:
        for own, alone in ((found.nearest(k), nearest_with_distance(*places, k)),):
            np.testing.assert_array_equal(own[0], alone[0])
            np.testing.assert_array_equal(own[1], alone[1])
        k_others = min(k, len(places[1]) - 1)
        for own, alone in zip(found.others(k_others), others_with_distance(places[1], k_others), strict=True):
            np.testing.assert_array_equal(own, alone)


def test_nothing_is_sought_twice(places: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def note(x: np.ndarray, reference: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        asked.append(k)
        return nearest_with_distance(x, reference, k)

    monkeypatch.setattr(_neighbors, "nearest_with_distance", note)
    found = Neighbors(*places)
    threads = [threading.Thread(target=found.nearest, args=(30,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.nearest(10)
    found.nearest(200)  # more than there are
    found.nearest(300)
    assert asked == [30, 200]
