"""Rows about features: empty, constant, chosen."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData

from scmag_muon._mudata import make_mudata
from tests.odd.shapes import FIT, RUN
from tests.odd.table import Row, changed, refused, sound, sound_fit, with_counts, works

FEATURES = [
    works(
        "a gene without a count",
        FIT,
        lambda _, mdata: not mdata["rna"].var["manifold"].iloc[0] and sound_fit(None, mdata),
        make=with_counts(lambda x: x * (np.arange(20) > 0)),
        says="It takes no part.",
    ),
    works(
        "a gene with the same count in every cell",
        FIT,
        sound_fit,
        make=with_counts(lambda x: np.where(np.arange(20) == 0, np.float32(7), x)),
        says="The layers are finite.",
    ),
    works(
        "a cell without any RNA",
        RUN,
        sound,
        make=with_counts(lambda x: x * (np.arange(40) > 0)[:, None]),
        says="It has a cluster by its proteins.",
    ),
    works(
        "a cell without any count at all",
        RUN,
        sound,
        make=changed(
            lambda mdata: make_mudata(
                {
                    name: AnnData(adata.X.toarray() * (np.arange(40) > 0)[:, None], obs=adata.obs, var=adata.var)
                    for name, adata in mdata.mod.items()
                }
            )
        ),
        says="Every cell has a cluster.",
    ),
    works(
        "every count of the RNA is 3",
        RUN,
        sound,
        make=with_counts(lambda x: np.full_like(x, 3)),
        says="Every cell has a cluster by its proteins.",
    ),
    works(
        "40 copies of one cell",
        RUN,
        sound,
        make=changed(
            lambda mdata: make_mudata(
                {
                    name: AnnData(np.repeat(adata.X[:1].toarray(), 40, axis=0), obs=adata.obs, var=adata.var)
                    for name, adata in mdata.mod.items()
                }
            )
        ),
        says="Every cell has a cluster; nothing is divided by a distance of 0.",
    ),
    refused(
        "`mask_var` names no column",
        "smm.pp.manifold_fit(mdata, mask_var='chosen')",
        KeyError,
        "mask_var='chosen'",
        "'rna'",
        says="names argument and modalities.",
    ),
    refused(
        "`highly_variable` is false everywhere",
        FIT,
        ValueError,
        "'rna'",
        "highly_variable",
        make=changed(lambda mdata: mdata["rna"].var.__setitem__("highly_variable", False)),
        says="names modality and column.",
        fix="del mdata['rna'].var['highly_variable']",
    ),
    works(
        "`highly_variable` holds true and nothing",
        FIT,
        lambda _, mdata: mdata["rna"].var["manifold"].tolist() == [True, False] * 10 and sound_fit(None, mdata),
        make=changed(
            lambda mdata: mdata["rna"].var.__setitem__(
                "highly_variable", pd.Series([True, None] * 10, dtype=object).to_numpy()
            )
        ),
        says="Genes that are missing there are not chosen.",
    ),
    works(
        "`highly_variable` is a nullable boolean without gaps",
        FIT,
        lambda _, mdata: mdata["rna"].var["manifold"].sum() == 10,
        make=changed(
            lambda mdata: mdata["rna"].var.__setitem__("highly_variable", pd.array([True, False] * 10, dtype="boolean"))
        ),
        says="It is taken.",
    ),
]

TABLE: dict[str, list[Row]] = {
    "Features": FEATURES,
}
