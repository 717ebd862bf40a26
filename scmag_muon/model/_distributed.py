"""Several processes that train one network, by Lightning's own strategies."""

from __future__ import annotations

from typing import Any

_DDP = "ddp_find_unused_parameters_true"  # the gate has no part in the loss before stage 3
_CHILDREN = ("spawn", "fork", "notebook")


def strategy_of(given: Any, devices: Any, num_nodes: int) -> Any:
    """The strategy for Lightning's trainer: as given, with what the network needs of ``"ddp"``; ``"auto"`` for one device.

    Raises
    ------
    ValueError
        Where the strategy trains in child processes alone, from which no result comes back.
    """
    if isinstance(given, str) and any(word in given for word in _CHILDREN):
        raise ValueError(
            f"strategy={given!r} trains copies of the model in child processes, and the model would stay as it is. "
            'Take strategy="ddp" in a script: python script.py.'
        )
    if given == "ddp" or (given in (None, "auto") and (_n_devices(devices) > 1 or num_nodes > 1)):
        return _DDP
    return "auto" if given is None else given


def _n_devices(devices: Any) -> int:
    """How many are asked for by number; 1 where Lightning counts them."""
    if isinstance(devices, list | tuple):
        return len(devices)
    if isinstance(devices, str):
        return len(devices.split(",")) if "," in devices else _n_devices(int(devices)) if devices.isdecimal() else 1
    return max(int(devices), 1)
