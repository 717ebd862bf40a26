from __future__ import annotations

from typing import Any

import pytest

from scmag_muon.tl import _progress


class Bar:
    """What a bar was told."""

    made: list[Bar] = []

    def __init__(self, **arguments: Any) -> None:
        self.arguments, self.n, self.told = arguments, 0, []
        Bar.made.append(self)

    def update(self, n: int) -> None:
        self.n += n

    def set_description(self, text: str) -> None:
        self.told.append((self.n, text))

    def close(self) -> None:
        self.told.append((self.n, "closed"))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Bar]:
    monkeypatch.setattr(Bar, "made", [])
    monkeypatch.setattr(_progress, "tqdm", Bar)
    return Bar.made


def test_the_bar_is_at_the_stages_that_are_over(made: list[Bar]) -> None:
    with _progress.stages(["one", "two"], shown=True) as begin:
        begin()
        begin()
    (bar,) = made
    assert bar.told == [(0, "scMAG one"), (1, "scMAG two"), (2, "closed")]
    assert bar.arguments["disable"] is True  # no terminal in a test


def test_the_bar_is_closed_where_a_stage_fails(made: list[Bar]) -> None:
    def failing() -> None:
        with _progress.stages(["one", "two"], shown=True) as begin:
            begin()
            raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        failing()
    assert made[0].told == [(0, "scMAG one"), (0, "closed")]


def test_nothing_is_shown_in_a_log_file_or_without_a_bar(capfd: pytest.CaptureFixture[str]) -> None:
    for shown in (True, False):
        with _progress.stages(["one", "two"], shown=shown) as begin:
            begin()
            begin()
    assert capfd.readouterr().err == ""
