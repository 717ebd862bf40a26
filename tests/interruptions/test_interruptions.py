"""Processes that are interrupted or killed at random moments: the input is as it was, the output old, new or absent, never half.

``SCMAG_MUON_KILLS=200`` says how many; without it there are a handful. Each child is forked from a process that has everything imported, so that
only the work itself takes time.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from typing import TYPE_CHECKING

import mudata
import pytest

import scmag_muon as smm
from scmag_muon._mudata import no_pull_on_update

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KILLS = int(os.environ.get("SCMAG_MUON_KILLS", "4"))
PHASES = ("read", "fit", "start", "train", "collect", "write")
ARGUMENTS = ["--n-clusters", "3", "--max-epochs-pretrain", "4", "--max-epochs", "4"]

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="forks a process that has loaded PyTorch"),
    # the children compute with one thread, and hold no lock of the parent's
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]

CHILD = '''
import logging, os, signal, sys, time
os.environ["OMP_NUM_THREADS"] = "1"
import torch
torch.set_num_threads(1)
import mudata, scmag_muon
from scmag_muon import _cli, pp, tl, report
from scmag_muon.model import SCMAG
logging.disable(logging.WARNING)

def marked(owner, name, phase):
    """Tell the parent when a phase begins."""
    whole = getattr(owner, name)
    def call(*args, **kwargs):
        os.write(told, (phase + "\\n").encode())
        return whole(*args, **kwargs)
    setattr(owner, name, call)

for line in sys.stdin:
    told, arguments = int(sys.argv[1]), line.rstrip("\\n").split("\\t")
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        output = os.open(arguments.pop(0), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1); os.dup2(output, 2)
        read, write = mudata.read_h5mu, mudata.MuData.write_h5mu
        marked(mudata, "read_h5mu", "read")
        marked(pp, "manifold_fit", "fit")
        marked(SCMAG, "setup_mudata", "start")
        marked(SCMAG, "train", "train")
        marked(SCMAG, "of_run", "collect")
        marked(mudata.MuData, "write_h5mu", "write")
        try:
            code = _cli.main(arguments)
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except KeyboardInterrupt:
            code = 130
        os.write(told, b"end\\n")
        sys.stdout.flush(); sys.stderr.flush()
        os._exit(code or 0)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
'''


class Server:
    """Forks a child for each command line, from a process that has imported everything."""

    def __init__(self) -> None:
        import subprocess

        self._told, telling = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", CHILD, str(telling)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=[telling],
        )
        os.close(telling)

    def start(self, output: Path, arguments: list[str]) -> int:
        """The process that runs the command line."""
        self.process.stdin.write("\t".join([str(output), *arguments]) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def wait(self) -> int:
        """Exit status of the last one, negative where a signal ended it."""
        return int(self.process.stdout.readline())

    def phase(self) -> str:
        """The phase that begins next; it is waited for."""
        text = b""
        while not text.endswith(b"\n"):
            text += os.read(self._told, 1)
        return text.decode().strip()

    def rest(self) -> list[str]:
        """What phases began since."""
        os.set_blocking(self._told, False)
        try:
            return os.read(self._told, 65536).decode().split()
        except BlockingIOError:
            return []
        finally:
            os.set_blocking(self._told, True)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        os.close(self._told)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cells") / "in.h5mu"
    with no_pull_on_update():
        smm.datasets.simulate_citeseq(n_obs=150, n_vars=400, n_prot=12, n_clusters=3).write_h5mu(path)
    return path


@pytest.fixture(scope="module")
def durations(server: Server, cells: Path) -> dict[str, float]:
    """Seconds that each phase takes, from a run that nobody interrupts."""
    output = cells.with_name("whole.h5mu")
    for _ in range(2):  # the first one compiles
        output.unlink(missing_ok=True)
        server.start(cells.with_name("whole.txt"), ["run", str(cells), "-o", str(output), *ARGUMENTS])
        began: dict[str, float] = {}
        while (phase := server.phase()) != "end":
            began.setdefault(phase, time.perf_counter())
        began["end"] = time.perf_counter()
        assert server.wait() == 0, cells.with_name("whole.txt").read_text()
    moments = [began[phase] for phase in (*PHASES, "end")]
    return dict(zip(PHASES, (b - a for a, b in zip(moments[:-1], moments[1:], strict=True)), strict=True))


def readable(path: Path) -> bool:
    with no_pull_on_update():
        return mudata.read_h5mu(path).obs["scmag"].notna().all()


@pytest.mark.parametrize("old", [False, True], ids=["no output yet", "an older output"])
@pytest.mark.parametrize(
    "how",
    [
        pytest.param(signal.SIGINT, id="interrupted"),
        pytest.param(signal.SIGKILL, id="killed"),
    ],
)
def test_input_is_intact_and_output_whole(
    server: Server, cells: Path, durations: dict[str, float], tmp_path: Path, how: signal.Signals, old: bool
) -> None:
    rng = random.Random(f"{how}{old}")
    before = cells.read_bytes()
    older = cells.with_name("whole.h5mu").read_bytes()
    for i in range(max(KILLS // 4, 1)):
        phase = PHASES[(i + 2 * old + 3 * (how == signal.SIGINT)) % len(PHASES)]
        output = tmp_path / "out.h5mu"
        output.unlink(missing_ok=True)
        overwrite: list[str] = []
        if old:
            output.write_bytes(older)
            overwrite = ["--force"]
        child = server.start(tmp_path / "log.txt", ["run", str(cells), "-o", str(output), *ARGUMENTS, *overwrite])
        while server.phase() != phase:
            pass
        time.sleep(rng.random() * durations[phase])
        ended = end(child, how)
        status = server.wait()
        server.rest()
        where = f"{how.name} in {phase}: status {status}, {(tmp_path / 'log.txt').read_text()[-2000:]}"
        assert cells.read_bytes() == before, where
        if output.exists():
            assert readable(output), where
        assert old <= output.exists(), where
        if how == signal.SIGINT and ended and status != 0:
            assert status == 130, where
            assert "Traceback" not in (tmp_path / "log.txt").read_text(), where


def end(child: int, how: signal.Signals) -> bool:
    """Send the signal; false where the process had ended."""
    try:
        os.kill(child, how)
    except ProcessLookupError:
        return False
    return True
