from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
import time

import pytest

from scmag_muon._files import folder_beside, written_aside


def test_takes_its_place_when_all_has_worked(tmp_path):
    path = tmp_path / "result.txt"
    path.write_text("old")
    with written_aside(path) as draft:
        draft.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_no_other(tmp_path, error):
    path = tmp_path / "result.txt"
    path.write_text("old")

    def write():
        with written_aside(path) as draft:
            draft.write_text("half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_replaces_a_folder(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "stale").write_text("old")
    with written_aside(path) as draft:
        draft.mkdir()
        (draft / "fresh").write_text("new")
    assert [each.name for each in path.iterdir()] == ["fresh"]
    assert list(tmp_path.iterdir()) == [path]


def test_follows_a_link(tmp_path):
    path, link = tmp_path / "result.txt", tmp_path / "link.txt"
    path.write_text("old")
    link.symlink_to(path)
    with written_aside(link) as draft:
        draft.write_text("new")
    assert link.is_symlink()
    assert path.read_text() == "new"


def test_a_folder_that_can_not_be_replaced_stays(tmp_path, monkeypatch):
    path = tmp_path / "model"
    path.mkdir()
    (path / "mine").write_text("old")

    def full(*_):
        raise OSError("no space left")

    def write():
        with written_aside(path) as draft:
            draft.mkdir()
            monkeypatch.setattr("pathlib.Path.replace", full)

    with pytest.raises(OSError, match="no space left"):
        write()
    assert (path / "mine").read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_file_systems_that_can_not_flush_a_folder(tmp_path, monkeypatch):
    flush = os.fsync

    def refuse(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "invalid argument")
        flush(descriptor)

    monkeypatch.setattr("os.fsync", refuse)
    with written_aside(tmp_path / "result.txt") as draft:
        draft.write_text("new")
    assert (tmp_path / "result.txt").read_text() == "new"


def test_what_a_killed_process_left_goes_and_what_another_writes_stays(tmp_path):
    path = tmp_path / "result[1].txt"
    left = {
        name: tmp_path / f".{name}" for name in ("result[1].txt-a", "result[1].txt-b", "result[1].txt-c", "other-d")
    }
    for folder in left.values():
        folder.mkdir()
        (folder / "result[1].txt").write_text("half")
    for name in ("result[1].txt-a", "result[1].txt-b", "other-d"):
        (left[name] / ".lock").touch()
        os.utime(left[name] / ".lock", (0, 0))
    (left["result[1].txt-b"] / "replaced").mkdir()  # killed at the moment of the exchange
    with written_aside(path) as other:
        os.utime(other.parent / ".lock", (0, 0))
        with written_aside(path) as draft:
            draft.write_text("mine")
        other.write_text("the other's")
    assert path.read_text() == "the other's"
    assert not left.pop("result[1].txt-a").exists()
    assert sorted(tmp_path.iterdir()) == sorted([path, *left.values()])


def test_what_others_still_write_after_a_failure_goes_too(tmp_path):
    """zarr's threads go on for a moment after one has failed."""

    def write(folder, until):
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                (folder / "out" / "mod").mkdir(parents=True, exist_ok=True)
                (folder / "out" / "mod" / f"{time.monotonic_ns()}").touch()

    def fail(folder):
        thread = threading.Thread(target=write, args=(folder, time.monotonic() + 0.3))
        thread.start()
        raise OSError("full")

    with pytest.raises(OSError, match="full"), folder_beside(tmp_path / "out.zarr") as folder:
        fail(folder)
    assert not list(tmp_path.iterdir())
