"""``wardround data``: which data sets can be read, and how a study's images are divided."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from .console import OUT, RichWatcher, one_line, print_json, print_table
from .data_check import check

if TYPE_CHECKING:
    from ...medical_datasets.cohort import Dataset

WIDE = 150
"""Columns of a terminal from which the list shows all that it shows in a file."""

app = typer.Typer(no_args_is_help=True, help="Look at data before a study does. Example: wardround data list")
app.command("check")(check)


@app.command("list")
def list_datasets(
    key: Annotated[str, typer.Argument(metavar="[KEY]", help="Describe this one in full.")] = "",
    json_: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """List the data sets that Wardround reads, or describe one: layout, classes and codes, licence, where to get it.

    Example: wardround data list ham10000
    """
    from ...medical_datasets.catalog import DATASETS
    from ..study_cohort import known_dataset

    if json_:
        print_json(_as_json(known_dataset(key)) if key else [_as_json(data) for data in DATASETS.values()])
        return
    if key:
        _describe(known_dataset(key))
        return
    table = Table(title=f"{len(DATASETS)} data sets", title_justify="left", box=SIMPLE_HEAD)
    # What a narrow terminal has no room for stands in the description of each.
    narrow = OUT.is_terminal and OUT.width < WIDE
    for column in ("key", "classes", "pictures") if narrow else ("key", "classes", "pictures", "grouped by", "site"):
        table.add_column(column, no_wrap=column in ("key", "classes"))
    for data in DATASETS.values():
        classes = str(len(data.classes)) if data.classes else "the study's"
        cells = (data.key, classes, data.title, data.group_key, data.site_key or "–")
        table.add_row(*cells[: len(table.columns)])
    if OUT.is_terminal:
        OUT.print(table, soft_wrap=False)
    else:
        print_table(table)
    OUT.print("wardround data list KEY describes one: its folders, classes, codes, licence and where to get it.")


def _as_json(data: Dataset) -> dict[str, Any]:
    return {
        "key": data.key,
        "title": data.title,
        "modality": data.modality,
        "classes": list(data.class_names),
        "class_details": [
            {
                "name": label.name,
                "clinical_name": label.clinical_name,
                "codes": [{"system": code.system, "code": code.code, "display": code.display} for code in label.codes],
                "prompts": list(label.prompts),
                "aliases": list(label.aliases),
            }
            for label in data.classes
        ],
        "layout": list(data.layout),
        "group_key": data.group_key,
        "site_key": data.site_key,
        "subgroup_columns": list(data.subgroup_columns),
        "licence": data.licence,
        "citation": data.citation,
        "obtain": data.obtain,
    }


def _describe(data: Dataset) -> None:
    OUT.print(Text(data.key, style="bold").append(f"  {data.title}", style="not bold"))
    OUT.print("  folders and files:")
    for line in data.layout:
        OUT.print(Text(f"    {line}"))
    OUT.print("  classes, in label order:" if data.classes else "  classes: those that the study names, in its order")
    for number, label in enumerate(data.classes):
        codes = "; ".join(f"{code.system} {code.code} {code.display}" for code in label.codes)
        OUT.print(Text(f"    {number}  {label.name}: {label.clinical_name}" + (f" ({codes})" if codes else "")))
    facts = {
        "grouped by": data.group_key,
        "site": data.site_key or "not known: deal the images out, or name a column",
        "subgroups": ", ".join(data.subgroup_columns) or "none",
        "to get it": data.obtain,
        "licence": data.licence,
        "cite": data.citation,
    }
    for name, words in facts.items():
        OUT.print(Text(f"  {name}: {words}"))


@app.command("split")
def split_data(
    study_file: Annotated[Path, typer.Argument(metavar="STUDY.toml", help="A study of real images.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Write the split here; there must be no such file yet.")],
    json_: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Write down who trains, validates and tests on which groups, to use it again: data.split_file = "FILE".

    Groups stand in it as marks, not names, but whoever holds it can try names: it stays where the images are.
    Example: wardround data split brain.toml --out brain-split.json
    """
    from ...medical_datasets.split_file import write_split
    from ..cohorts import deal, plan_split
    from ..errors import StudyFileError
    from ..features import default_cache
    from ..image_index import image_index
    from ..study_cohort import read_cohort
    from ..study_file import load_study
    from ..watching import left_out

    study = load_study(study_file)
    if study.data.source == "phantoms":
        raise StudyFileError(
            "the study generates its images, and their split follows from its seed",
            where=str(study_file),
            remedy="There is nothing to keep",
        )
    if out.exists():
        raise StudyFileError("there is a file of that name already", where=str(out), remedy="Give another --out")
    if not out.resolve().parent.is_dir():
        raise StudyFileError("there is no such folder", where=str(out.resolve().parent), remedy="Make it first")
    with RichWatcher() as watcher:
        watcher.stage("reading data")
        with image_index(study, default_cache(), note=watcher.note) as reader:
            plan = deal(study, read_cohort(study, Path(), reader=reader, note=watcher.note))
        for told in (*plan.cohort.notes, *plan.notes):
            watcher.note(told)
        skipped = plan.cohort.skipped
        for words in left_out([(skip.path, skip.reason) for skip in skipped], brief=watcher.brief):
            watcher.note(words)
        if skipped:
            watcher.note(f"{len(skipped)} files or rows were left out, {len(plan.cohort.records)} images are divided")
    record = plan_split(study, plan)
    digest = write_split(record, out)
    records = plan.cohort.records
    parts = {site.name: {"train": site.train, "validation": site.validation, "test": site.test} for site in plan.sites}
    if plan.unseen is not None:
        parts[f"{plan.unseen.name} (unseen)"] = {"test": plan.unseen.test}
    if len(plan.reference):
        parts["reference set"] = {"reference": plan.reference}
    counts = {
        name: {
            side: {"groups": len({records[row].group for row in rows.tolist()}), "images": len(rows)}
            for side, rows in sides.items()
        }
        for name, sides in parts.items()
    }
    if json_:
        print_json({"file": str(out), "sha256": digest, "rule": record.rule, "left_out": len(skipped), "parts": counts})
        return
    table = Table(title=f"{study.name} · rule {record.rule} · groups (images)", title_justify="left", box=SIMPLE_HEAD)
    for column in ("site", "train", "validation", "test"):
        table.add_column(column, justify="left" if column == "site" else "right", no_wrap=True)
    for name, sides in counts.items():
        shown = {**sides, "train": sides.get("train") or sides.get("reference")}
        table.add_row(
            name,
            *(
                f"{each['groups']} ({each['images']})" if each else "–"
                for each in (shown.get("train"), shown.get("validation"), shown.get("test"))
            ),
        )
    print_table(table)
    OUT.print(Text(f"written: {one_line(str(out))}"))
    OUT.print(f"SHA-256: {digest}")
