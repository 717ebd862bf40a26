from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING

import matplotlib.image
import mudata
import pytest

import scmag_muon as smm
from scmag_muon._cli import main
from scmag_muon._cli._log import logged_to, say
from scmag_muon._cli._main import _parser
from scmag_muon._mudata import no_pull_on_update
from scmag_muon.metrics import clustering_scores

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData

SHORT = ["--max-epochs-pretrain", "4", "--max-epochs", "2"]


@pytest.fixture
def file(citeseq: MuData, tmp_path: Path) -> Path:
    path = tmp_path / "in.h5mu"
    with no_pull_on_update():
        citeseq.write_h5mu(path)
    return path


def read(path: Path) -> MuData:
    with no_pull_on_update():
        return mudata.read_h5mu(path)


def test_run_writes_clusters_and_prints_the_scores(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = file.with_name("out.h5mu")
    assert main(["run", str(file), "-o", str(out), "--n-clusters", "3", "--labels", "cell_type", *SHORT]) == 0
    mdata = read(out)
    printed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if len(line.split()) == 2)
    scores = clustering_scores(mdata.obs["cell_type"], mdata.obs["scmag"])
    assert {name: printed[name] for name in scores} == {name: f"{value:.3f}" for name, value in scores.items()}
    assert printed["cells"] == "120"
    assert printed["clusters"] == "3"


def test_run_writes_a_report(file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    # the report has its own tests; this one says that it is asked for what the user asked for
    monkeypatch.setattr("scmag_muon._report.report", lambda mdata, path, **arguments: calls.append(arguments) or path)
    out, page = file.with_name("out.h5mu"), file.with_name("report.html")
    command = ["run", str(file), "-o", str(out), "--n-clusters", "3", "--labels", "cell_type", "--report", str(page)]
    assert main([*command, *SHORT]) == 0
    assert calls == [{"labels": "cell_type", "key": "scmag"}]
    assert f"wrote {page}" in capsys.readouterr().out
    assert main([*command[:-1], str(file.parent / "none" / "report.html"), "--force"]) == 2
    assert "There is no folder" in capsys.readouterr().err


def test_demo_writes_data_and_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "-o", str(tmp_path / "new"), "--n-obs", "200"]) == 0
    printed = capsys.readouterr().out
    scores = dict(line.split() for line in printed.splitlines() if line.startswith(("ARI", "NMI")))
    mdata = read(tmp_path / "new" / "demo.h5mu")
    assert float(scores["ARI"]) == round(clustering_scores(mdata.obs["cell_type"], mdata.obs["scmag"])["ARI"], 3)
    picture = matplotlib.image.imread(tmp_path / "new" / "demo.png")
    assert picture.shape[0] > 300
    assert picture.std() > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n-clusters", "1000"], "`n_clusters` must lie between 1 and the number of cells"),
        (["--batch-key", "plate"], "batch_key='plate' names no column"),
        (["--labels", "types"], "--labels='types' names no column"),
        (["--layer", "raw"], "No layer 'raw'"),
    ],
)
def test_wrong_arguments_end_with_a_plain_message(
    file: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = file.with_name("out.h5mu")
    assert main(["run", str(file), "-o", str(out), *arguments, *SHORT]) == 2
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("error: ")
    assert message in error
    assert "Traceback" not in error
    assert not out.exists()


@pytest.mark.parametrize("terminal", [True, False])
def test_lines_tell_of_the_progress_where_no_terminal_shows_a_bar(
    terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scmag_muon._cli._log.hidden", lambda *, shown: not terminal)
    with logged_to(None):
        say("printed")
        logging.getLogger("scmag_muon.tl").info("on the way")
        logging.getLogger("scmag_muon.tl").warning("careful")
    out, err = capsys.readouterr()
    assert out == "printed\n"
    assert err == ("careful\n" if terminal else "on the way\ncareful\n")


def test_missing_files_and_folders(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(tmp_path / "no.h5mu"), "-o", str(tmp_path / "out.h5mu")]) == 2
    assert "There is no file" in capsys.readouterr().err
    assert main(["run", str(file), "-o", str(tmp_path / "no" / "out.h5mu")]) == 2
    assert "There is no folder" in capsys.readouterr().err


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"scmag-muon {smm.__version__}\n"
    assert main([]) == 0
    assert "run" in capsys.readouterr().out


def test_every_option_has_a_help_text_and_its_default() -> None:
    parser = _parser()
    (commands,) = (action for action in parser._actions if action.choices)
    for command in commands.choices.values():
        text = " ".join(command.format_help().split())
        for action in command._actions:
            assert action.help, action
            if action.option_strings and action.default not in (None, False, argparse.SUPPRESS):
                assert f"(default: {action.default})" in text, action


def test_demo_does_not_replace_silently(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "demo.png").write_text("mine")
    assert main(["demo", "-o", str(tmp_path), "--n-obs", "50"]) == 2
    assert "demo.png exists already. Replace it with --force" in capsys.readouterr().err
    (tmp_path / "text").write_text("")
    assert main(["demo", "-o", str(tmp_path / "text"), "--n-obs", "50"]) == 2
    assert "is a file; a folder is needed" in capsys.readouterr().err
