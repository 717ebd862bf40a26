"""Other data from the same files: some types, a thousand cells, fewer counts, to see whether a result holds where it was not sought.

Run with ``python tests/benchmarks/subsets.py FILE.h5mu [FILE.h5mu ...] --output FOLDER``, then ``quality.py`` on what it wrote
there. Of each file three subsets are drawn: four, six and nine types of those with 40 cells or more, 1,000 of their cells, and
all, 30 and 50 % of their RNA counts (binomial thinning).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mudata
import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from common import known

from scmag_muon._mudata import make_mudata, modality_names, no_pull_on_update
from scmag_muon.manifold.information import split_counts

N_TYPES = (4, 6, 9)
KEPT = (1.0, 0.3, 0.5)
_MOST_CELLS = 1_000
_FEWEST_OF_TYPE = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="MuData files with raw counts and labels")
    parser.add_argument("--labels", default="cell_type", help="column of known labels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("subsets"), help="folder of subsets")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    for file in arguments.files:
        rng = np.random.default_rng(arguments.seed)
        with no_pull_on_update():
            mdata = mudata.read_h5mu(file)
            for n_types, share in zip(N_TYPES, KEPT, strict=True):
                part = subset(mdata, arguments.labels, n_types, share, rng)
                part.write(arguments.output / f"{file.stem}-{n_types}.h5mu")
                sizes = part.obs[arguments.labels].value_counts()
                print(f"{file.stem}, {share:.0%} of RNA: {part.n_obs} cells of {sizes.to_dict()}", flush=True)


def subset(mdata: mudata.MuData, labels: str, n_types: int, share: float, rng: np.random.Generator) -> mudata.MuData:
    """Cells of ``n_types`` types, or of all where there are fewer, with a share of their RNA counts; no feature without counts."""
    of_cells = known(mdata.obs[labels]).astype(str)
    sizes = of_cells.value_counts().sort_index()
    large = sizes.index[sizes >= _FEWEST_OF_TYPE]
    types = rng.choice(large, min(n_types, len(large)), replace=False)
    cells = of_cells.index[of_cells.isin(types)].to_numpy()
    chosen = np.sort(mdata.obs_names.get_indexer(rng.choice(cells, min(len(cells), _MOST_CELLS), replace=False)))
    rna, _ = names = modality_names(mdata)
    parts = {}
    for name in names:
        adata = mdata.mod[name]
        counts = sp.csr_array(adata.X[chosen])
        if name == rna and share < 1:
            counts = split_counts(counts, share=share, random_state=rng)[0]
        seen = np.asarray(counts.sum(axis=0)).ravel() > 0
        parts[name] = AnnData(sp.csr_matrix(counts[:, seen]), obs=adata.obs.iloc[chosen][[]], var=adata.var[seen])
    part = make_mudata(parts)
    for column in mdata.obs.columns.intersection([labels, "batch"]):
        part.obs[column] = mdata.obs[column].iloc[chosen].astype(str).to_numpy()
    return part


if __name__ == "__main__":
    main()
