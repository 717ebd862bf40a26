from __future__ import annotations

import scmag_muon as smm
from scmag_muon._feature_names import is_housekeeping, is_isotype_control, plain_name


def test_the_list_is_sound() -> None:
    table = smm.datasets.blood_markers()
    assert list(table) == ["type", "modality", "feature", "weight", "aliases", "references"]
    assert set(table["modality"]) == {"rna", "protein"}
    assert set(table["weight"]) == {1.0, -1.0}
    assert not table.duplicated(["type", "modality", "feature"]).any()
    assert (table["references"] != "").all()
    positive = table[table["weight"] > 0].groupby(["type", "modality"]).size().unstack()
    assert (positive >= 3).all().all()
    assert not is_isotype_control(table["feature"]).any()
    assert not is_housekeeping(table["feature"]).any()


def test_no_name_stands_for_two_antibodies() -> None:
    table = smm.datasets.blood_markers()
    proteins = table[table["modality"] == "protein"].drop_duplicates("feature")
    homes: dict[str, str] = {}
    for row in proteins.itertuples():
        for name in {plain_name(text) for text in [row.feature, *row.aliases.split()]}:
            assert homes.setdefault(name, row.feature) == row.feature, name
