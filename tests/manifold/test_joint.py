from __future__ import annotations

import numpy as np
import pytest

from scmag_muon.manifold.joint import check_linked, foretell, linked

NAMES = ["rna", "prot", "atac", "adt"]


def patterns(*rows: str) -> np.ndarray:
    return np.array([[sign == "x" for sign in row] for row in rows])


@pytest.mark.parametrize(
    ("rows", "reached"),
    [
        (("xxxx",), "xxxx"),
        (("xx..", ".xx.", "..xx"), "xxxx"),
        (("..xx", "xx..", ".xx."), "xxxx"),  # whatever the order
        (("xx..", "..xx"), "xx.."),
        (("x...", ".xxx"), "x..."),
        (("x..x", ".xx."), "x..x"),
    ],
)
def test_chains_of_any_length_link_modalities(rows: tuple[str, ...], reached: str) -> None:
    present = patterns(*rows)
    assert linked(present).tolist() == patterns(reached)[0].tolist()
    if "." not in reached:
        check_linked(present, NAMES)
        return
    apart = NAMES[reached.index(".")]
    with pytest.raises(ValueError, match=f"'{apart}' shares no cell with 'rna', and no chain of other modalities"):
        check_linked(present, NAMES)


def test_cells_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match=r"1 cells have none of the modalities .*, the first is number 1"):
        check_linked(patterns("xxxx", "...."), NAMES)


def test_blocks_are_imputed_over_two_steps() -> None:
    """RNA and chromatin share no cell: what cells of one lack of the other is found by way of proteins."""
    rng = np.random.default_rng(0)
    place = rng.uniform(size=(300, 1))
    blocks = [(place * [1, sign]).astype(np.float32) for sign in (1, -1, 2)]
    present = np.repeat(patterns("xx.", ".xx", "x..", "..x"), [100, 100, 50, 50], axis=0)
    measured = [block * present[:, i : i + 1] for i, block in enumerate(blocks)]
    filled = foretell(measured, present, measured, present, np.ones(3) / np.sqrt(3))
    for i, block in enumerate(blocks):
        lacking = ~present[:, i]
        np.testing.assert_array_equal(filled[i][~lacking], block[~lacking])
        for cells in (lacking & present[:, 1], lacking & ~present[:, 1]):
            if cells.any():
                assert np.corrcoef(filled[i][cells][:, 0], block[cells][:, 0])[0, 1] > 0.99
    with pytest.raises(ValueError, match="shares no cell with the modalities"):
        foretell(measured, present, measured, present & patterns("x.."), np.ones(3))
