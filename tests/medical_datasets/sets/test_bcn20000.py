from __future__ import annotations

from pathlib import Path

from wardround.medical_datasets.sets.bcn20000 import BCN20000

from .skin_trees import by_stem, images, listed, reasons, table

COLUMNS = (
    "bcn_filename",
    "age_approx",
    "anatom_site_general",
    "diagnosis",
    "lesion_id",
    "capture_date",
    "sex",
    "split",
)
ROWS = (
    ("BCN_0000000001.jpg", "55.0", "anterior torso", "MEL", "BCN_0003884", "2012-05-16", "male", "train"),
    ("BCN_0000000003.jpg", "50.0", "anterior torso", "MEL", "BCN_0003884", "2012-05-17", "female", "train"),
    ("BCN_0000000004.jpg", "", "", "SCC", "", "2014-01-01", "", "val"),
    ("BCN_0000000006.jpg", "85.0", "head/neck", "bcc", "BCN_0004730", "2011-03-30", "female", "test"),
    ("BCN_0000000007.jpg", "85.0", "head/neck", "OOD", "BCN_0004731", "2011-03-30", "female", "test"),
    ("BCN_0000000008.jpg", "85.0", "head/neck", "", "BCN_0004732", "2011-03-30", "female", "elsewhere"),
)


def test_the_published_layout(tmp_path: Path) -> None:
    table(tmp_path / "bcn_20k_train.csv", COLUMNS, ROWS)
    images(tmp_path / "BCN_20k_train" / "bcn_20k_train", [row[0] for row in ROWS])
    listing = listed(BCN20000, tmp_path)
    items = by_stem(listing)
    assert {stem[-1]: (BCN20000.class_names[item.label], item.group, item.split) for stem, item in items.items()} == {
        "1": ("MEL", "lesion_id:BCN_0003884", "train"),
        "3": ("MEL", "lesion_id:BCN_0003884", "train"),
        "4": ("SCC", None, "validation"),
        "6": ("BCC", "lesion_id:BCN_0004730", "test"),
    }
    assert dict(items["BCN_0000000001"].subgroups) == {
        "sex": "male",
        "age_band": "40-59",
        "localisation": "anterior torso",
    }
    assert {item.site for item in items.values()} == {None}
    assert reasons(listing) == {
        "BCN_0000000007.jpg": "out of distribution (OOD), which is no class",
        "BCN_0000000008.jpg": "has no diagnosis",
    }
