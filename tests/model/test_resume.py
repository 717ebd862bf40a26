from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from scmag_muon.model._training import SCMAGTrainingPlan

if TYPE_CHECKING:
    from collections.abc import Callable

    from scmag_muon.model._module import SCMAGModule


def optimizer_after_a_step(module: SCMAGModule, tensors: dict[str, torch.Tensor], **arguments: Any) -> Any:
    optimizer = SCMAGTrainingPlan(module, **arguments).configure_optimizers()["optimizer"]
    module(tensors)[2].loss.backward()
    optimizer.step()
    return optimizer


def test_optimizer_goes_on_where_it_stopped(
    make_module: Callable[..., SCMAGModule], tensors: dict[str, torch.Tensor]
) -> None:
    module = make_module()
    state = optimizer_after_a_step(module, tensors).state_dict()
    resumed = SCMAGTrainingPlan(module, optimizer_state=state).configure_optimizers()["optimizer"]
    for parameter, expected in zip(resumed.param_groups[0]["params"], state["param_groups"][0]["params"], strict=True):
        moments = state["state"].get(expected)
        if moments is not None:
            torch.testing.assert_close(resumed.state[parameter]["exp_avg"], moments["exp_avg"])
            assert resumed.state[parameter]["step"] == 1
    assert resumed.state


def test_learning_rate_of_the_new_call_counts(
    make_module: Callable[..., SCMAGModule], tensors: dict[str, torch.Tensor]
) -> None:
    module = make_module()
    state = optimizer_after_a_step(module, tensors, lr=1e-3).state_dict()
    resumed = SCMAGTrainingPlan(module, lr=0.05, optimizer_state=state).configure_optimizers()["optimizer"]
    assert resumed.param_groups[0]["lr"] == 0.05
