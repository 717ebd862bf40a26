"""Rows that fail today, and why."""

from __future__ import annotations

PENDING: dict[str, str] = {
    "2 cells - smm.tl.scmag(mdata, n_clusters=2, **short)": "a mend is under way",
    "5 cells lack proteins - smm.tl.scmag(mdata, n_clusters=2, **short)": "a mend is under way",
    "nothing - smm.tl.markers(None)": "a mend is under way",
    "a layer for a modality that is not there - smm.tl.scmag(mdata, layer={'RNA': 'counts'}, **short)": "a mend is under way",
    "float16 - smm.pp.manifold_fit(mdata)": "a mend is under way",
    "CSR with unsorted indices - smm.pp.manifold_fit(mdata)": "a mend is under way",
    "CSR with unsorted indices - smm.tl.scmag(mdata, n_clusters=2, **short)": "a mend is under way",
    "CSR with entries stored in two parts - smm.pp.manifold_fit(mdata)": "a mend is under way",
    "CSR with entries stored in two parts - smm.tl.scmag(mdata, n_clusters=2, **short)": "a mend is under way",
    "`max_epochs=2.5` - smm.tl.scmag(mdata, n_clusters=2, max_epochs=2.5)": "a mend is under way",
    "`batch_size=0` - smm.tl.scmag(mdata, batch_size=0, **short)": "a mend is under way",
    "`learning_rate` of 0.1 - smm.tl.scmag(mdata, n_clusters=2, plan_kwargs={'learning_rate': 0.1}, **short)": "a mend is under way",
    "`lr` of float('nan') - smm.tl.scmag(mdata, n_clusters=2, plan_kwargs={'lr': float('nan')}, **short)": "a mend is under way",
    "a resolution of -1 - smm.tl.n_clusters(mdata, resolutions=[-1])": "a mend is under way",
    "a seed twice - smm.tl.stability(mdata, random_states=[1, 1])": "a mend is under way",
    "`n_dcs=0` - smm.tl.trajectory(mdata, root='0', n_dcs=0)": "a mend is under way",
}
