"""Sites are called as their tables have them as far as that can be a name; what cannot is refused with its row."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wardround.medical_datasets.errors import TableError
from wardround.platform.config import NAME, Study
from wardround.platform.site_names import SiteNameError, plain_site, plain_sites
from wardround.platform.study_cohort import read_cohort

from ..medical_datasets.pictures import pattern, save


@pytest.mark.parametrize(
    ("written", "name"),
    [("St Mary", "st_mary"), (" Client  3 ", "client_3"), ("vidir_modern", "vidir_modern"), ("A.1-b", "a.1-b")],
)
def test_case_and_spaces_are_made_plain(written: str, name: str) -> None:
    assert plain_site(written) == name


@pytest.mark.parametrize(
    ("written", "proposed"),
    [
        ("Hôpital Nord", "'hopital_nord'"),
        ("anterior/torso", "'anterior_torso'"),
        ("St. Mary (Köln)", "'st_mary_koln'"),
        ("_7", "'7'"),
        ("Coordinator", "'coordinator-site'"),
        ("x" * 70, f"'{'x' * 63}'"),
    ],
)
def test_other_characters_are_refused_with_a_name_to_use(written: str, proposed: str) -> None:
    with pytest.raises(SiteNameError) as refused:
        plain_site(written)
    assert repr(written) in refused.value.what
    assert proposed in refused.value.remedy


@given(st.text(max_size=80))
def test_every_answer_is_a_name_and_every_proposal_is_accepted(written: str) -> None:
    try:
        name = plain_site(written)
    except SiteNameError as refused:
        proposed = re.search(r", as '(.*)'$", refused.remedy)
        name = plain_site(proposed[1]) if proposed else "none"
    assert NAME.fullmatch(name)
    assert plain_site(name) == name


def test_spellings_of_one_site_are_refused_and_different_sites_are_not() -> None:
    for pair in (("St. Mary", "st mary"), ("site-1", "site_1"), ("A", "a")):
        with pytest.raises(SiteNameError, match="differ in their spelling only"):
            plain_sites(pair)
    assert plain_sites(("site-1.1", "site-11", "Site 2")) == {
        "site-1.1": "site-1.1",
        "site-11": "site-11",
        "Site 2": "site_2",
    }


def test_a_name_that_the_study_gives_may_be_meant_by_the_data() -> None:
    assert plain_sites(["St Mary"], ["st_mary"])["St Mary"] == "st_mary"
    with pytest.raises(SiteNameError, match="spelling only") as refused:
        plain_sites(["St. Mary"], ["st_mary"])
    assert refused.value.written == "St. Mary"
    with pytest.raises(SiteNameError, match="spelling only"):
        plain_sites([], ["st-mary", "st_mary"])


def test_sites_of_a_table_are_named_and_refused_by_row(tmp_path: Path, toy_study: Callable[..., Study]) -> None:
    rows = ["path,label,patient,site,ward"]
    for at in range(4):
        save(tmp_path / f"{at}.png", pattern(at, 32))
        rows.append(f"{at}.png,{'ab'[at % 2]},p{at},St Mary,{'North' if at < 3 else 'North/East'}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))

    def study(**sites: object) -> Study:
        data = {"dataset": "csv", "path": str(tmp_path), "classes": ["a", "b"]}
        return toy_study(data=data, sites={"unseen": "", **sites})

    assert {each.site for each in read_cohort(study(partition="column"), tmp_path).records} == {"st_mary"}
    with pytest.raises(TableError, match="'North/East' cannot be a site's name") as refused:
        read_cohort(study(partition="column", column="ward"), tmp_path)
    assert "labels.csv, row 5" in refused.value.where
    assert "'north_east'" in refused.value.remedy
    # Where sites are dealt out, nobody asks what the table calls them.
    (tmp_path / "labels.csv").write_text("\n".join(rows).replace("St Mary", "St/Mary"))
    assert len(read_cohort(study(), tmp_path).records) == 4
