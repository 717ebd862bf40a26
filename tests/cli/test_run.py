from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import mudata
import pandas as pd
import pytest

import scmag_muon as smm
from scmag_muon import _mudata
from scmag_muon._cli import main
from scmag_muon._cli._tables import cluster_table, write_csv
from scmag_muon.model._checkpoint import Checkpoint

if TYPE_CHECKING:
    from mudata import MuData

Calls = list[dict[str, Any]]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main(["run", *map(str, words)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def linked(file: Path, how: str) -> Path:
    other = file.with_name(f"other{file.suffix}")
    if how == "the same":
        return file
    if how == "hard link":
        other.hardlink_to(file)
    elif how == "link":
        other.symlink_to(file)
    elif how == "folder link":
        folder = file.parent / "linked"
        folder.symlink_to(file.parent)
        return folder / file.name
    else:
        return Path(os.path.relpath(file))
    return other


@pytest.mark.parametrize("how", ["the same", "link", "hard link", "folder link", "relative"])
@pytest.mark.parametrize("option", ["-o", "--log"])
def test_the_input_is_never_written_to(
    file: Path, calls: Calls, option: str, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = linked(file, how)
    before = contents(file.parent)
    outputs = {"-o": file.with_name("out.h5mu")} | {option: other}
    error = refused(capsys, file, *(word for pair in outputs.items() for word in pair), "--force")
    assert f"{option} {other} leads to the input" in error
    assert contents(file.parent) == before
    assert not calls


@pytest.mark.parametrize("folder", [".", "..", "in.h5mu"])
def test_the_folder_of_tables_does_not_hold_the_input(
    file: Path, calls: Calls, folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(capsys, file, "-o", file.with_name("out.h5mu"), "--csv", file.parent / folder, "--force")
    assert "is or holds the input" in error
    assert [path.name for path in file.parent.iterdir()] == ["in.h5mu"]
    assert not calls


@pytest.mark.parametrize("option", ["-o", "--report", "--csv", "--log"])
def test_nothing_is_written_into_a_zarr_input(
    counts: MuData, tmp_path: Path, calls: Calls, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "in.zarr"
    counts.write_zarr(store)
    name = {"-o": "out.h5mu", "--report": "page.html", "--csv": "tables", "--log": "log.txt"}[option]
    outputs = {"-o": tmp_path / "out.h5mu"} | {option: store / name}
    before = contents(store)
    assert "the input" in refused(capsys, store, *(word for pair in outputs.items() for word in pair), "--force")
    assert contents(store) == before
    assert not calls


@pytest.mark.parametrize(
    ("option", "name"), [("-o", "x.h5mu"), ("-o", "x.zarr"), ("--report", "x.html"), ("--log", "x.log"), ("--csv", "x")]
)
def test_what_exists_is_replaced_only_by_force(
    file: Path, calls: Calls, tmp_path: Path, option: str, name: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("scmag_muon._report.report", lambda mdata, path, **_: Path(path).write_text("new") and path)
    place = tmp_path / "results" / name
    old = {"x.zarr": place / "zarr.json", "x": place / "markers.csv"}.get(name, place)
    old.parent.mkdir(parents=True)
    old.write_text("old")
    outputs = {"-o": tmp_path / "out.h5mu"} | {option: place}
    words = [word for pair in outputs.items() for word in pair]
    assert "exists already. Replace it with --force" in refused(capsys, file, *words)
    assert old.read_text() == "old"
    assert not calls
    assert main(["run", str(file), *map(str, words), "--force"]) == 0
    assert not old.exists() or old.read_bytes() != b"old"


def test_two_results_do_not_share_a_place(file: Path, calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    out = file.with_name("out.h5mu")
    assert "-o" in refused(capsys, file, "-o", out, "--log", out)
    page = file.with_name("a.html")
    assert "lead to the same place" in refused(capsys, file, "-o", out, "--report", page, "--log", page)
    assert "lead to the same place" in refused(
        capsys, file, "-o", file.with_name("o.zarr"), "--log", file.with_name("o.zarr") / "log"
    )
    assert not calls


@pytest.mark.parametrize(
    "words",
    [
        ("-o", "o.h5mu", "--model", "o.h5mu"),
        ("-o", "o.zarr", "--model", "o.zarr"),
        ("-o", "o.zarr", "--csv", "o.zarr"),
        ("-o", "o.h5mu", "--csv", "both", "--model", "both"),
        ("-o", "o.h5mu", "--csv", "both", "--log", "both"),
        ("-o", "o.h5mu", "--csv", "both", "--checkpoint", "both"),
        ("-o", "o.h5mu", "--model", "both", "--checkpoint", "both"),
        ("-o", "o.h5mu", "--model", "both", "--log", "both"),
        ("-o", "o.h5mu", "--csv", "a.html", "--report", "a.html"),
    ],
    ids=" ".join,
)
def test_folders_of_results_are_no_other_result(
    file: Path, calls: Calls, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [word if word.startswith("-") else str(file.with_name(word)) for word in words]
    error = refused(capsys, file, *paths)
    assert "lead to the same place" in error or "lies in the folder of --checkpoint" in error
    assert not calls
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_model_does_not_replace_other_files(file: Path, calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    folder = file.with_name("results")
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    error = refused(capsys, file, "-o", file.with_name("o.h5mu"), "--model", folder, "--force")
    assert "'notes.txt'" in error
    assert not calls


def test_what_another_run_wrote_meanwhile_is_not_replaced(
    file: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cluster, (out, page, tables) = smm.tl.scmag, (file.with_name(name) for name in ("o.h5mu", "r.html", "tables"))

    def slow(mdata: MuData, **arguments: Any) -> None:
        cluster(mdata, **arguments)
        tables.mkdir()
        for path in (out, page, tables / "markers.csv"):
            path.write_text("another's")

    monkeypatch.setattr(smm.tl, "scmag", slow)
    words = ["run", file, "-o", out, "--report", page, "--csv", tables]
    assert main(list(map(str, words))) == 0
    assert {path.read_text() for path in (out, page, tables / "markers.csv")} == {"another's"}
    assert "scmag" in mudata.read_h5mu(file.with_name("o-2.h5mu")).obs
    assert file.with_name("r-2.html").exists()
    assert file.with_name("tables-2").exists()
    assert f"This one writes {file.with_name('o-2.h5mu')}" in caplog.text


def test_tables_model_page_and_data_may_lie_in_one_folder(file: Path, calls: Calls) -> None:
    folder = file.with_name("results")
    folder.mkdir()
    words = [
        "run",
        file,
        "-o",
        folder / "o.h5mu",
        "--csv",
        folder,
        "--log",
        folder / "log",
        "--model",
        folder / "model",
    ]
    assert main([str(word) for word in [*words, "--checkpoint", folder / "checkpoint"]]) == 0
    assert {path.name for path in folder.iterdir()} >= {"o.h5mu", "log", "clusters.csv"}


@pytest.mark.parametrize("name", ["x.csv", "x.h5ad", "x", "x.h5mu.gz", "x.loom", ".h5mu"])
def test_the_ending_says_the_format(file: Path, calls: Calls, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(capsys, file, "-o", file.with_name(name))
    assert ".h5mu or .zarr" in error
    assert not calls


@pytest.mark.parametrize("name", ["page.h5mu", "page", "page.csv"])
def test_the_report_is_named_as_a_page(file: Path, calls: Calls, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "must end in .html" in refused(
        capsys, file, "-o", file.with_name("o.h5mu"), "--report", file.with_name(name)
    )
    assert not calls


def test_places_that_can_not_be_written(file: Path, calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    folder = file.parent
    (folder / "folder.h5mu").mkdir()
    (folder / "data.zarr").mkdir()
    (folder / "data.zarr" / "thesis.txt").write_text("years")
    (folder / "text").write_text("")
    assert "is a folder" in refused(capsys, file, "-o", folder / "folder.h5mu", "--force")
    assert "no zarr store" in refused(capsys, file, "-o", folder / "data.zarr", "--force")
    assert "is no folder" in refused(capsys, file, "-o", folder / "text" / "out.h5mu")
    assert "There is no folder" in refused(capsys, file, "-o", folder / "no" / "out.h5mu")
    assert "is a file; a folder is needed" in refused(capsys, file, "-o", folder / "o.h5mu", "--csv", folder / "text")
    assert "File name too long" in refused(capsys, file, "-o", folder / f"{'x' * 300}.h5mu")
    assert "no ordinary file" in refused(capsys, file, "-o", folder / "o.h5mu", "--log", "/dev/null", "--force")
    assert (folder / "data.zarr" / "thesis.txt").read_text() == "years"
    assert not calls


def test_a_folder_without_rights(
    file: Path, calls: Calls, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", denied)
    assert "can't be written to the folder" in refused(capsys, file, "-o", file.with_name("o.h5mu"))
    assert not calls


def test_too_little_space_is_told_before_training(
    file: Path, calls: Calls, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    assert "Make room" in refused(capsys, file, "-o", file.with_name("o.h5mu"))
    assert not calls


@pytest.mark.parametrize("suffix", [".h5mu", ".zarr"])
@pytest.mark.parametrize(
    ("layers", "kept"),
    [("none", set()), ("fitted", {"manifold"}), ("denoised", {"scmag"}), ("all", {"manifold", "scmag"})],
)
def test_layers_and_formats(file: Path, calls: Calls, suffix: str, layers: str, kept: set[str]) -> None:
    out = file.with_name(f"out{suffix}")
    assert main(["run", str(file), "-o", str(out), "--layers", layers]) == 0
    mdata = mudata.read_h5mu(out) if suffix == ".h5mu" else mudata.read_zarr(out)
    assert all(set(adata.layers) == kept for adata in mdata.mod.values())
    assert mdata.obs["scmag"].value_counts().tolist() == [70, 50, 40, 20]


def test_no_layers_are_made_or_written_unless_asked_for(file: Path, calls: Calls) -> None:
    out = file.with_name("out.h5mu")
    assert main(["run", str(file), "-o", str(out)]) == 0
    assert calls[0]["write_layers"] == "none"
    assert not any(adata.layers.keys() - {None} for adata in mudata.read_h5mu(out).mod.values())


def test_tables(file: Path, calls: Calls, tmp_path: Path) -> None:
    folder = tmp_path / "tables"
    words = ["run", str(file), "-o", str(tmp_path / "o.h5mu"), "--csv", str(folder), "--labels", "cell_type"]
    assert main(words) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["cluster_summary.csv", "clusters.csv", "markers.csv"]
    clusters = pd.read_csv(folder / "clusters.csv", index_col="cell", dtype={"scmag": str})
    assert clusters["scmag"].value_counts().tolist() == [70, 50, 40, 20]
    assert pd.read_csv(folder / "cluster_summary.csv")["commonest cell_type"].tolist()[0] == "T cells"
    markers = pd.read_csv(folder / "markers.csv")
    assert 0 < len(markers) < 4 * 70  # features that stand out, not a row for each of 70 features and 4 clusters
    assert markers["is_marker"].all()
    best = markers.query("cluster == 1 and modality == 'rna'").nlargest(8, "auroc")
    assert set(best["feature"]) == {f"g{i}" for i in range(8, 16)}


@pytest.mark.parametrize("labels", [None, "unknown"])
def test_labels_of_which_none_is_known_are_told_before_training(
    counts: MuData, tmp_path: Path, calls: Calls, labels: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    counts.obs["type"] = pd.Series(labels, index=counts.obs_names, dtype=object).astype("category")
    with _mudata.no_pull_on_update():
        counts.write_h5mu(tmp_path / "in.h5mu")
    error = refused(capsys, tmp_path / "in.h5mu", "-o", tmp_path / "o.h5mu", "--labels", "type")
    assert "--labels='type' is missing for all 180 cells" in error
    assert not calls


def test_a_cluster_without_known_labels_has_no_commonest(finished: MuData) -> None:
    known = finished.obs["cell_type"].astype(str)
    finished.obs["cell_type"] = known.where((finished.obs["scmag"] != "1").to_numpy())
    table = cluster_table(finished, "cell_type")
    assert table.loc["1", ["commonest cell_type", "share"]].tolist() == ["–", 0.0]
    assert table.loc["0", "share"] > 0.5


def test_clusters_of_one_cell_each_have_an_empty_table_of_markers(finished: MuData, tmp_path: Path) -> None:
    finished.obs["scmag"] = pd.Categorical([str(i) for i in range(finished.n_obs)])
    write_csv(finished, tmp_path / "tables", None)
    assert len(pd.read_csv(tmp_path / "tables" / "markers.csv")) == 0


def test_names_that_the_screen_has_no_letters_for(file: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    monkeypatch.setattr("sys.stdout", screen)
    out = file.with_name("zellen-ä.h5mu")
    assert main(["run", str(file), "-o", str(out), "--csv", str(file.with_name("tables"))]) == 0
    assert b"zellen-\\xe4.h5mu" in screen.buffer.getvalue()
    assert file.with_name("tables").exists()


def test_a_run_goes_on_where_nobody_reads_what_it_prints(file: Path, calls: Calls) -> None:
    reading, writing = os.pipe()
    before = os.dup(1)
    os.close(reading)  # as of `| head`, which has ended
    os.dup2(writing, 1)
    os.close(writing)
    try:
        with open(1, "w", closefd=False) as screen, pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.stdout", screen)
            assert (
                main(["run", str(file), "-o", str(file.with_name("o.h5mu")), "--csv", str(file.with_name("csv"))]) == 0
            )
    finally:
        os.dup2(before, 1)
        os.close(before)
    assert file.with_name("csv").exists()


def test_pictures_need_no_screen(file: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    monkeypatch.setattr("scmag_muon._report.report", lambda _, path, **__: used.append(mpl.get_backend()) or path)
    mpl.use("svg")
    try:
        assert (
            main(["run", str(file), "-o", str(file.with_name("o.h5mu")), "--report", str(file.with_name("r.html"))])
            == 0
        )
    finally:
        mpl.use("agg")
    assert used == ["agg"]


def test_the_log_file_holds_what_is_printed(
    file: Path, calls: Calls, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "run.log"
    assert main(["run", str(file), "-o", str(tmp_path / "o.h5mu"), "--log", str(log)]) == 0
    printed = capsys.readouterr().out
    assert "reading" in printed
    assert "writing" in printed
    assert all(line in log.read_text() for line in printed.splitlines())
    assert (
        main(["run", str(file), "-o", str(tmp_path / "p.h5mu"), "--log", str(log), "--force", "--layer", "no=x"]) == 2
    )
    assert "names the modality 'no'" in log.read_text()


@pytest.mark.parametrize(
    ("words", "layer"),
    [
        ([], None),
        (["counts"], "counts"),
        (["rna=counts"], {"rna": "counts", "prot": None}),
        (["rna=counts", "prot=raw"], {"rna": "counts", "prot": "raw"}),
        (["prot=X", "counts"], {"rna": "counts", "prot": None}),
        (["rna=a=b"], {"rna": "a=b", "prot": None}),
    ],
)
def test_layer_by_modality(file: Path, calls: Calls, words: list[str], layer: object) -> None:
    options = [word for each in words for word in ("--layer", each)]
    assert main(["run", str(file), "-o", str(file.with_name("o.h5mu")), *options, "--mask-var", "chosen"]) == 0
    assert calls[0]["layer"] == layer
    assert calls[0]["mask_var"] == "chosen"


@pytest.mark.parametrize("words", [[], ["--round-counts"]])
def test_round_counts(file: Path, calls: Calls, words: list[str]) -> None:
    assert main(["run", str(file), "-o", str(file.with_name("o.h5mu")), *words]) == 0
    assert calls[0]["round_counts"] == bool(words)


def test_kinds(file: Path, calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    out = file.with_name("o.h5mu")
    assert main(["run", str(file), "-o", str(out), "--kinds", "rna=atac", "prot=protein"]) == 0
    assert calls[0]["kinds"] == {"rna": "atac", "prot": "protein"}
    assert "--kinds rna=atac" in refused(capsys, file, "-o", out, "--force", "--kinds", "atac")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rna:counts"], "write --layer rna=counts"),
        (["a", "b"], "--layer rna=a --layer prot=b"),
        (["RNA=counts"], "names the modality 'RNA', but the data have ['rna', 'prot']"),
        (["rna=a", "rna=b"], "names the modality 'rna' twice"),
    ],
)
def test_layers_that_say_nothing_clear(
    file: Path, calls: Calls, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [word for each in words for word in ("--layer", each)]
    assert message in refused(capsys, file, "-o", file.with_name("o.h5mu"), *options)
    assert not calls


@pytest.mark.parametrize(
    "error",
    [TypeError("no"), MemoryError("Unable to allocate 9 GiB"), ImportError("pip install x"), OSError(28, "full")],
)
def test_errors_end_in_one_line(
    file: Path, error: Exception, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(smm.tl, "scmag", fail)
    refused(capsys, file, "-o", file.with_name("o.h5mu"))
    assert [path.name for path in file.parent.iterdir()] == ["in.h5mu"]


def test_interrupted(file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(smm.tl, "scmag", stop)
    assert main(["run", str(file), "-o", str(file.with_name("o.h5mu"))]) == 130
    assert capsys.readouterr().err == "interrupted, nothing written\n"
    assert [path.name for path in file.parent.iterdir()] == ["in.h5mu"]


def test_a_report_that_fails_costs_no_clusters(
    file: Path, calls: Calls, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("no page")

    monkeypatch.setattr("scmag_muon._report.report", fail)
    out = file.with_name("o.h5mu")
    assert main(["run", str(file), "-o", str(out), "--report", str(file.with_name("r.html"))]) == 2
    told = capsys.readouterr()
    assert f"wrote {out}" in told.out
    assert "no page" in told.err
    assert "scmag" in mudata.read_h5mu(out).obs


def test_names_of_strings_that_may_be_missing(counts: MuData, tmp_path: Path, calls: Calls) -> None:
    import anndata

    for part in (counts, *counts.mod.values()):
        part.obs.index = part.obs.index.astype("string")
        part.var.index = part.var.index.astype("string")
    path, out = tmp_path / "in.h5mu", tmp_path / "out.h5mu"
    with anndata.settings.override(allow_write_nullable_strings=True):
        counts.write_h5mu(path)
    assert main(["run", str(path), "-o", str(out)]) == 0
    assert mudata.read_h5mu(out).obs["scmag"].value_counts().tolist() == [70, 50, 40, 20]


def test_the_output_is_compressed(file: Path, calls: Calls) -> None:
    out = file.with_name("out.h5mu")
    assert main(["run", str(file), "-o", str(out), "--layers", "all"]) == 0
    plain = file.with_name("plain.h5mu")
    mudata.read_h5mu(out).write_h5mu(plain)
    assert out.stat().st_size < plain.stat().st_size


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux does")
@pytest.mark.parametrize("suffix", [".h5mu", ".zarr"])
def test_a_full_disk_leaves_the_old_file(counts: MuData, tmp_path: Path, suffix: str, full_disk: Any) -> None:
    path = tmp_path / f"out{suffix}"
    _mudata.write_mudata(counts, path)
    before = contents(tmp_path)
    unchanged = r"could not be written: File too large\. What was there before is unchanged"
    with full_disk(2000), pytest.raises(OSError, match=unchanged):
        _mudata.write_mudata(counts, path)
    assert contents(tmp_path) == before


def test_an_interrupted_run_goes_on_and_its_checkpoint_is_deleted_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, folder, output = (tmp_path / name for name in ("in.h5mu", "checkpoint", "out.h5mu"))
    smm.datasets.simulate_citeseq(n_obs=60, n_vars=20, n_prot=6, n_clusters=2).write_h5mu(file)
    log = tmp_path / "log.txt"
    options = ["--n-clusters", "2", "--max-epochs-pretrain", "2", "--max-epochs", "1", "--checkpoint", str(folder)]
    options += ["--log", str(log)]
    command = ["run", str(file), "-o", str(output), *options]
    write = Checkpoint._write

    def write_and_stop(*arguments: Any) -> None:
        write(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "_write", write_and_stop)
        assert main(command) == 130
    assert len(list(folder.iterdir())) == 1
    assert main(command) == 0
    before, resumed, _ = log.read_text().partition("Resumed from the end of epoch 1")
    assert "KeyboardInterrupt" in before
    assert resumed
    assert output.exists()
    assert not folder.exists()


def test_nothing_is_written_into_the_folder_of_checkpoints(
    file: Path, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = file.with_name("checkpoint")
    folder.mkdir()
    error = refused(capsys, file, "-o", folder / "out.h5mu", "--checkpoint", folder)
    assert "lies in the folder of --checkpoint" in error
    assert "is a file; a folder is needed" in refused(
        capsys, file, "-o", file.with_name("out.h5mu"), "--checkpoint", _a_file(file)
    )
    assert "holds the input" in refused(capsys, file, "-o", folder / "out.h5mu", "--checkpoint", file.parent)
    assert not calls


def _a_file(file: Path) -> Path:
    other = file.with_name("notes.txt")
    other.touch()
    return other
