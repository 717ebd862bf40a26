"""Time and memory beside peers and beside the least that the arithmetic takes, all in one run on one file.

Run with ``python tests/benchmarks/speed.py FILE.h5mu --threads 2 --output FOLDER`` on a machine that does nothing else. Each
part has a process of its own and is kept in the folder; ``--parts`` chooses some. Ratios are printed, and written to
``speed.md``. A machine that is shared with others changes its pace within seconds, so steps are timed in turn with their
products, and epochs with those of the peer. Networks, ours and the peer's, are on a GPU where PyTorch finds one;
``CUDA_VISIBLE_DEVICES=`` before the command keeps them off it.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import results

import scmag_muon as smm  # before torch, whose threads then wait as this package asks for

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData

COMMAND = "python tests/benchmarks/speed.py pbmc10k_citeseq.h5mu --output FOLDER --results tests/benchmarks/results/speed.json"
PARTS = ("import", "step", "epochs", "fit", "wnn", "brute_force", "growth", "whole", "profile")
_EPOCHS = ("epoch", "epoch_bf16", "peer_epoch")
_NAMES = {"TOTALVI": "totalVI", "MULTIVI": "MultiVI"}
_BATCH_SIZE = 256
_TIMED_EPOCHS = 20
_P = 15
_GROWTH = (10_000, 30_000, 100_000)  # cells


def main() -> None:
    arguments = _arguments()
    if arguments.child:
        print(json.dumps(_child(arguments)))
        return
    arguments.output.mkdir(parents=True, exist_ok=True)
    found = {}
    for part in arguments.parts:
        kept = arguments.output / f"{arguments.file.stem}-{part}-{arguments.threads}.json"
        if not kept.exists() or arguments.again:
            kept.write_text(_in_process(part))
        found[part] = json.loads(kept.read_text())
        print(f"{part}: {found[part]}", flush=True)
    rows = _rows(found)
    if arguments.results:
        columns = ("what", "ratio", "first", "second")
        named = [dict(zip(columns, row, strict=True)) for row in rows]
        results.merge(arguments.results, named, command=COMMAND, n_keys=1)
    table = _table(rows, arguments.file.stem) + _profiles(found.get("profile", {}))
    (arguments.output / "speed.md").write_text(table)
    print(table)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="MuData file with raw counts")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, metavar="PART")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=30, help="steps to time")
    parser.add_argument("--again", action="store_true", help="repeat what is kept")
    parser.add_argument("--output", type=Path, default=Path("speed"), help="folder of results")
    parser.add_argument("--results", type=Path, help="JSON file of the docs' table to put the rows into")
    parser.add_argument("--child", choices=(*PARTS, *_EPOCHS), help=argparse.SUPPRESS)
    return parser.parse_args()


def _command(part: str) -> list[str]:
    return [sys.executable, __file__, *sys.argv[1:], "--child", part]  # of several --child the last one counts


def _in_process(part: str) -> str:
    done = subprocess.run(_command(part), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{part} failed:\n{done.stderr[-3000:]}")
    return done.stdout.splitlines()[-1]


def _child(arguments: argparse.Namespace) -> dict[str, Any]:
    warnings.simplefilter("ignore")
    if arguments.child == "import":
        return _of_import()
    if arguments.child == "epochs":
        return _of_epochs()
    import torch

    from scmag_muon._mudata import no_pull_on_update

    torch.set_num_threads(arguments.threads)
    import mudata

    with no_pull_on_update():
        mdata = mudata.read_h5mu(arguments.file)
    work: Callable[[MuData, int], dict[str, Any]] = globals()[f"_of_{arguments.child}"]
    before = _peak_mb()
    return {**work(mdata, arguments.repeats), "peak_mb": _peak_mb(), "peak_mb_before": before}


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _seconds(work: Callable[[], object], repeats: int, warm_up: int = 2) -> dict[str, float]:
    return _seconds_in_turn({"": work}, repeats, warm_up)[""]


def _seconds_in_turn(works: dict[str, Callable[[], object]], repeats: int, warm_up: int = 2) -> dict[str, Any]:
    """One after the other in each repeat: a processor whose clock changes is as slow for all of them."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(warm_up + repeats):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            _wait_for_device()
            times[name].append(time.perf_counter() - started)
    return {name: _spread(each[warm_up:]) for name, each in times.items()}


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _wait_for_device() -> None:
    """A GPU goes on working when the call that gave it the work is over."""
    if "torch" in sys.modules and _device() == "cuda":
        import torch

        torch.cuda.synchronize()


def _spread(times: list[float]) -> dict[str, Any]:
    return {"median": float(np.median(times)), "low": float(np.min(times)), "high": float(np.max(times)), "each": times}


def _of_import() -> dict[str, Any]:
    commands = {"import": "import scmag_muon", "first_use": "import scmag_muon; scmag_muon.tl.scmag"}
    return {
        name: _seconds(lambda code=code: subprocess.run([sys.executable, "-c", code], check=True), 5, 1)
        for name, code in commands.items()
    }


def _fitted_model(mdata: MuData) -> Any:
    from scmag_muon._mudata import complete_mudata, modality_names

    smm.pp.manifold_fit(mdata)
    names = modality_names(mdata)
    lean = complete_mudata(mdata, names, "manifold")
    smm.model.SCMAG.setup_mudata(lean, modalities=names)
    return smm.model.SCMAG(lean, n_clusters=8)


def _of_step(mdata: MuData, repeats: int) -> dict[str, Any]:
    """A training step of stage 2, recorded where a GPU is, and the matrix products of its linear layers alone."""
    import torch

    model = _fitted_model(mdata)
    module, tensors, step = _training_step(model)

    def step_bf16() -> None:
        with torch.autocast(_device(), torch.bfloat16):
            step(tensors)

    works = {"step": lambda: step(tensors), "products": _products(module), "step_bf16": step_bf16}
    if _device() == "cuda":
        from scmag_muon.model._recorded import RecordedSteps

        works["plain_step"] = works["step"]
        recorded = RecordedSteps(step)
        works["step"] = lambda: recorded(tensors)
    return _seconds_in_turn(works, repeats, warm_up=5)


def _of_epochs() -> dict[str, Any]:
    """Epochs of ours, in single and in half precision, and of the peer, in three processes that take turns."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    children = {name: subprocess.Popen(_command(name), **pipes) for name in _EPOCHS}
    times: dict[str, list[float]] = {name: [] for name in _EPOCHS}
    for _ in range(_TIMED_EPOCHS + 1):
        for name, child in children.items():
            child.stdin.write("go\n")
            child.stdin.flush()
            line = next(line for line in child.stdout if line.startswith("epoch "))
            times[name].append(float(line.split()[1]))
    rest = {name: json.loads(child.communicate()[0].splitlines()[-1]) for name, child in children.items()}
    return {name: {**rest[name], **_spread(times[name][1:])} for name in _EPOCHS}


def _epoch_clock() -> Any:
    """Callback that waits for its turn and prints the seconds of each epoch, ours and a peer's alike: all minibatches, without what comes before the first."""
    import lightning.pytorch as lightning

    class Clock(lightning.Callback):
        def on_train_epoch_start(self, *_: object) -> None:
            sys.stdin.readline()
            _wait_for_device()
            self.started = time.perf_counter()

        def on_train_epoch_end(self, *_: object) -> None:
            _wait_for_device()
            print(f"epoch {time.perf_counter() - self.started}", flush=True)

    return Clock()


def _of_epoch(mdata: MuData, repeats: int, precision: str = "32-true") -> dict[str, Any]:
    _fitted_model(mdata).train(
        max_epochs_pretrain=_TIMED_EPOCHS + 1,
        max_epochs=0,
        train_size=1.0,
        batch_size=_BATCH_SIZE,
        progress_bar=False,
        precision=precision,
        callbacks=[_epoch_clock()],
    )
    return {}


def _of_epoch_bf16(mdata: MuData, repeats: int) -> dict[str, Any]:
    return _of_epoch(mdata, repeats, "bf16-mixed")


def _training_step(model: Any) -> tuple[Any, dict[str, Any], Callable[[dict[str, Any]], Any]]:
    import torch

    module = model.module.train().to(_device())
    tensors = next(iter(model._make_data_loader(model.adata, indices=np.arange(_BATCH_SIZE), batch_size=_BATCH_SIZE)))
    tensors = {key: value.to(_device()) for key, value in tensors.items() if torch.is_tensor(value)}
    optimizer = torch.optim.Adam(module.parameters(), fused=True, capturable=_device() == "cuda")

    def step(batch: dict[str, Any]) -> Any:
        _, _, output = module(batch, inference_kwargs={"clustering": False}, loss_kwargs={"kl_weight": 0.01})
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        return output.loss.detach()

    return module, tensors, step


def _products(module: Any) -> Callable[[], None]:
    """Forward, and backward by weight and input, of each linear layer; the first layers' inputs need no derivative."""
    import torch

    layers = [layer for layer in module.modules() if isinstance(layer, torch.nn.Linear)]
    of_data = {id(own[0]) for own in module.encoder.own}
    shapes = {size for layer in layers for size in (layer.in_features, layer.out_features)}
    blocks = {size: torch.randn(_BATCH_SIZE, size, device=_device()) for size in shapes}

    def work() -> None:
        for layer in layers:
            weight, x, y = layer.weight.detach(), blocks[layer.in_features], blocks[layer.out_features]
            torch.nn.functional.linear(x, weight)
            torch.mm(y.T, x)
            if id(layer) not in of_data:
                torch.mm(y, weight)

    return work


def _of_peer_epoch(mdata: MuData, repeats: int) -> dict[str, Any]:
    """An epoch of totalVI or MultiVI with our batch size, threads and features, all cells in training."""
    from peers import peer_model

    model = peer_model(mdata, batch_key=None)
    model.train(
        max_epochs=_TIMED_EPOCHS + 1,
        train_size=1.0,
        batch_size=_BATCH_SIZE,
        early_stopping=False,
        enable_progress_bar=False,
        accelerator="auto",
        limit_val_batches=0,
        callbacks=[_epoch_clock()],
    )
    from scvi.model._utils import get_max_epochs_heuristic

    return {"peer": type(model).__name__, "default_epochs": get_max_epochs_heuristic(mdata.n_obs)}


def _of_fit(mdata: MuData, repeats: int) -> dict[str, Any]:
    return {"fit": _seconds(lambda: smm.pp.manifold_fit(mdata), 3, 1)}


def _of_wnn(mdata: MuData, repeats: int) -> dict[str, Any]:
    from peers import Options, wnn

    return {"wnn": _seconds(lambda: wnn(mdata, Options(0)), 2, 1)}


def _of_brute_force(mdata: MuData, repeats: int) -> dict[str, Any]:
    """Fitting as its equations stand: cells by cells, all features, each view by itself, once."""
    import scipy.sparse as sp

    from scmag_muon._mudata import ASSAYS, modality_kind
    from scmag_muon.manifold.kernels import poly_gamma, squared_distance
    from scmag_muon.manifold.modality import VIEWS, make_modality

    smm.pp.manifold_fit(mdata, n_neighbors=1)  # compiles what is compiled
    started = time.perf_counter()
    for name, adata in mdata.mod.items():
        assay = ASSAYS[modality_kind(name, adata)]
        chosen = adata.var["manifold"].to_numpy()
        modality = make_modality(
            name,
            modality_kind(name, adata),
            sp.csr_array(adata.X[:, chosen]),
            features=adata.var_names[chosen].to_numpy(),
            main=assay.main,
            scales=assay.scales,
        )
        views = modality.views()
        for transform, kernel in VIEWS.values():
            y = views[transform].toarray()
            distance = squared_distance(y, y, kernel, gamma=poly_gamma(y))
            lists = np.argsort(distance, axis=1)[:, :_P]
            table = np.zeros(distance.shape, dtype=np.float32)
            np.put_along_axis(table, lists, 1, axis=1)
            around = np.argsort(-(table @ table.T), axis=1, kind="stable")[:, :_P]
            operator = np.zeros(distance.shape, dtype=np.float32)
            np.put_along_axis(operator, around, 1 / _P, axis=1)
            operator @ y
    return {"brute_force": _spread([time.perf_counter() - started])}


def _of_growth(mdata: MuData, repeats: int) -> dict[str, Any]:
    """Fitting of simulated cells; the exponent is the slope of log time over log cells."""
    from pynndescent import NNDescent

    NNDescent(np.random.default_rng(0).standard_normal((5000, 50), dtype=np.float32), n_neighbors=60)  # compiles
    times = {}
    for n_obs in _GROWTH:
        simulated = smm.datasets.simulate_citeseq(n_obs=n_obs, n_vars=2000, n_prot=30)
        smm.pp.manifold_fit(simulated[: _GROWTH[0] // 10].copy())
        times[str(n_obs)] = _seconds(lambda simulated=simulated: smm.pp.manifold_fit(simulated), 1, 0)
    medians = [times[str(n)]["median"] for n in _GROWTH]
    return {"growth": times, "exponent": float(np.polyfit(np.log(_GROWTH), np.log(medians), 1)[0])}


def _of_whole(mdata: MuData, repeats: int) -> dict[str, Any]:
    results = {}
    few = mdata[:1000].copy()
    smm.tl.scmag(few, max_epochs_pretrain=2, max_epochs=1, progress_bar=False)  # compiles what is compiled
    for precision in ("32-true", "bf16-mixed"):
        copy = mdata.copy()
        started = time.perf_counter()
        smm.tl.scmag(copy, precision=precision, progress_bar=False)
        results[precision] = _spread([time.perf_counter() - started])
        del copy
        gc.collect()  # an AnnData and its layers hold each other
    return results


def _of_profile(mdata: MuData, repeats: int) -> dict[str, Any]:
    from speed_profile import shares_of_fit, shares_of_run, shares_of_step

    raw = mdata.copy()
    _, tensors, step = _training_step(_fitted_model(mdata))
    step(tensors)
    return {"step": shares_of_step(lambda: step(tensors)), "fit": shares_of_fit(mdata), "run": shares_of_run(raw)}


def _table(rows: list[list[str]], name: str) -> str:
    lines = [[name, "ratio", "first, s", "second, s"], ["---"] * 4, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _rows(found: dict[str, dict[str, Any]]) -> list[list[str]]:
    rows = []

    def row(what: str, first: dict[str, Any], second: dict[str, Any] | None = None, *, in_turn: bool = False) -> None:
        ratio = ""
        if second and in_turn:
            each = np.divide(first["each"], second["each"])
            ratio = "{:.3f} ({:.3f} to {:.3f})".format(*np.percentile(each, (50, 25, 75)))
        elif second:
            ratio = f"{first['median'] / second['median']:.3f}"
        rows.append([what, ratio, _cell(first), _cell(second) if second else ""])

    if "import" in found:
        row("`import scmag_muon`", found["import"]["import"])
        row("first use of `tl`, with all libraries", found["import"]["first_use"])
    if "step" in found:
        step = found["step"]
        row("training step over its matrix products", step["step"], step["products"], in_turn=True)
        if "plain_step" in step:
            row(
                "the step as Python takes it over its matrix products",
                step["plain_step"],
                step["products"],
                in_turn=True,
            )
        row("step in half precision over that in single", step["step_bf16"], step["step"], in_turn=True)
    if "epochs" in found:
        epochs = found["epochs"]
        peer = epochs["peer_epoch"]
        row(f"epoch over that of {_NAMES[peer['peer']]}", epochs["epoch"], peer, in_turn=True)
        row(f"epoch in half precision over that of {_NAMES[peer['peer']]}", epochs["epoch_bf16"], peer, in_turn=True)
    if {"whole", "epochs"} <= set(found):
        peer = found["epochs"]["peer_epoch"]
        training = {key: peer[key] * peer["default_epochs"] for key in ("median", "low", "high")}
        over = f"over {peer['default_epochs']} epochs of {_NAMES[peer['peer']]}"
        row(f"whole run {over}", found["whole"]["32-true"], training)
        row(f"whole run in half precision {over}", found["whole"]["bf16-mixed"], training)
    for part, what in (("wnn", "WNN neighbours"), ("brute_force", "the brute-force reference")):
        if {"fit", part} <= set(found):
            row(f"`pp.manifold_fit` over {what}", found["fit"]["fit"], found[part][part])
    for n_obs, times in found.get("growth", {}).get("growth", {}).items():
        row(f"`pp.manifold_fit` of {int(n_obs):,} simulated cells", times)
    return rows + _other_rows(found)


def _cell(times: dict[str, float]) -> str:
    median, low, high = (f"{times[key]:.3g}" for key in ("median", "low", "high"))
    return median if low == high else f"{median} ({low} to {high})"


def _other_rows(found: dict[str, dict[str, Any]]) -> list[list[str]]:
    rows = []
    if "growth" in found:
        rows.append(["growth exponent of `pp.manifold_fit`", f"{found['growth']['exponent']:.2f}", "", ""])
    measured = {**found, **found.get("epochs", {})}
    for part in ("whole", "peer_epoch", "wnn"):
        if part in measured:
            extra = measured[part]["peak_mb"] - measured[part]["peak_mb_before"]
            rows.append([f"peak memory beyond libraries and data, {part}, MB", f"{extra:.0f}", "", ""])
    return rows


def _profiles(profile: dict[str, Any]) -> str:
    titles = {"step": "training step, calling thread", "fit": "`pp.manifold_fit`", "run": "whole run"}
    text = ""
    for key, title in titles.items() if profile else ():
        text += f"\n| {title} | share |\n|---|---|\n"
        text += "".join(f"| {what} | {share:.0%} |\n" for what, share in profile[key].items())
    return text


if __name__ == "__main__":
    main()
