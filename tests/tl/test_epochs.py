from __future__ import annotations

import logging

import pytest

from scmag_muon.tl._epochs import MANY, most_epochs


@pytest.mark.parametrize(
    ("n_obs", "batch_size", "paper", "expected"),
    [
        (100, 256, False, (400, 100)),
        (MANY, 256, False, (400, 100)),
        (100_000, 256, False, (30, 10)),
        (100_000, 1024, False, (123, 41)),
        (1_000_000, 256, False, (4, 2)),
        (60_000, 60_000, False, (400, 100)),
        (1_000_000, 256, True, (400, 100)),
    ],
)
def test_most_epochs(n_obs: int, batch_size: int, paper: bool, expected: tuple[int, int]) -> None:
    assert most_epochs(None, None, n_obs=n_obs, batch_size=batch_size, paper=paper) == expected


def test_what_is_asked_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    many = {"n_obs": 1_000_000, "batch_size": 256, "paper": False}
    assert most_epochs(400, 100, **many) == (400, 100)
    assert not caplog.text
    assert most_epochs(0, None, **many) == (0, 2)
    assert "1000000 cells: training ends after 0 + 2 epochs at most. Set `max_epochs_pretrain`" in caplog.text
