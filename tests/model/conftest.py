from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from scmag_muon.model._components import PANEL, WIDE
from scmag_muon.model._module import SCMAGModule, counts_key, input_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    import numpy as np


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    """tests/reference/network.py, by its path, since tests are no package."""
    path = Path(__file__).parents[1] / "reference" / "network.py"
    spec = importlib.util.spec_from_file_location("reference_network", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture
def make_module() -> Callable[..., SCMAGModule]:
    """Network of 12 genes and 5 proteins with random centres; arguments replace those of the constructor."""

    def make(**changes: Any) -> SCMAGModule:
        arguments = {
            "n_clusters": 3,
            "n_batch": 1,
            "median_totals": (20.0, 50.0),
            "noise_scale": (0.0, 0.0),
            "residual_weight": 0.3,
            "dispersion": "gene-cell",
            "reduction": "sum",
            "gate_bias": 3.0,
            "relative_distance": False,
        }
        n_inputs, widths = changes.pop("n_inputs", [12, 5]), changes.pop("widths", [WIDE, PANEL])
        module = SCMAGModule(n_inputs, widths, **{**arguments, **changes})
        module.centers.normal_()
        return module

    return make


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    """A minibatch of 40 cells from two batches, as scvi-tools' loader gives it to the network of ``make_module``."""
    counts = [torch.poisson(torch.full((40, n), rate)) for n, rate in ((12, 1.5), (5, 9.0))]
    inputs = [torch.randn(40, n) for n in (12, 5)]
    minibatch = {"batch": torch.arange(40).remainder(2).unsqueeze(1)}
    for i in (0, 1):
        minibatch |= {counts_key(i): counts[i], input_key(i): inputs[i]}
    return minibatch


@pytest.fixture(scope="session")
def weights() -> Callable[[torch.nn.Module], list[tuple[np.ndarray, np.ndarray]]]:
    """Weight and bias of each layer in turn, in double precision."""

    def read(module: torch.nn.Module) -> list[tuple[np.ndarray, np.ndarray]]:
        arrays = [value.double().numpy() for value in module.state_dict().values()]
        return list(zip(arrays[::2], arrays[1::2], strict=True))

    return read
