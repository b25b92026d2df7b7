"""``wardround site forget`` and ``wardround site purge``: what leaves a site's own disks, and what does not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from .console import ERR, OUT, one_line, print_json, size

if TYPE_CHECKING:
    from ..forgetting import Group
    from ..purging import PurgePlan

Home = Annotated[Path, typer.Option("--home", metavar="HOME", help="The site's home; in a simulation RUN/homes/SITE.")]
Cache = Annotated[
    Path | None, typer.Option("--cache", metavar="DIR", help="The feature cache; default: WARDROUND_CACHE.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Json = Annotated[bool, typer.Option("--json", help="For scripts; what would go is then listed on standard error.")]

_FOLDER_AGAIN = (
    "`wardround compare` and `wardround data check` read the data's folder itself and know no homes: compare trains on "
    "these images and puts them back into cache and index, data check may put features of them back into the cache. "
    "Take the images out of the folder and its table."
)
_SPLITS = (
    "Marks of the group's name, against which names can be tried: split.json in this home and in the run's folder, "
    "whose hash is in the ledger, and split files kept elsewhere. "
    "`wardround site purge` removes the first two once the study is over."
)


def forget(
    group: Annotated[
        str, typer.Argument(metavar="GROUP", help="The patient's or lesion's group, as the data name it.")
    ],
    home: Home,
    study: Annotated[
        Path | None,
        typer.Option("--study", metavar="STUDY.toml", help="Whose data name the group; default: the run's study."),
    ] = None,
    cache: Cache = None,
    yes: Yes = False,
    json_: Json = False,
) -> None:
    """Leave a patient out of all that this site does from now on; says what cannot be undone.

    Example: wardround site forget patient:0413 --home runs/brain/homes/a
    """
    from ..features import default_cache
    from ..forgetting import Removed, UnknownGroupError, find_group, settle, study_of
    from ..forgetting import forget as carry_out
    from ..held_home import hold

    folder = cache or default_cache()
    with hold(home) as held:
        if settle(held, folder).noted:
            ERR.print("an earlier withdrawal had been interrupted; it is finished now")
        values, file = study_of(held, study)
        try:
            found = find_group(held, values, group, folder, where=str(file))
        except UnknownGroupError as error:
            _show_near(error.near)
            raise
        nothing = found.known and not found.cached
        out = ERR if json_ else OUT
        if not nothing:
            _print_group(out, found, folder)
            _ask(yes)
        done = Removed() if nothing else carry_out(held, found, folder)
    if json_:
        print_json(
            {
                "site": held.home.site,
                "known": found.known,
                "groups": found.groups,
                "joined": found.joined,
                "records": found.records,
                "train": found.train,
                "validation": found.validation,
                "test": found.test,
                "reference": found.reference,
                "features_removed": done.rows,
                "updates_removed": done.updates,
                "moments_removed": done.moments,
                "files": 0 if nothing else found.files,
                "ledger_entry": done.noted,
                "stays": _stays(found),
            }
        )
        return
    if nothing:
        OUT.print("This group was withdrawn before, and nothing of it is in the cache: nothing was left to do.")
    else:
        OUT.print(
            f"Done: {_count(done.rows, 'cached feature')} and {_count(done.updates, 'stored update')} removed, "
            f"Adam's moments taken out of {done.moments}; the ledger says how much, and not of whom."
        )
    OUT.print("Not removed:")
    for sentence in _stays(found):
        OUT.print(Text(f"- {sentence}"))


def purge(
    home: Home,
    cache: Cache = None,
    ledger: Annotated[
        bool,
        typer.Option(
            "--ledger", help="Ledger, checkpoints and rosters too, once the policy's retention_days are over."
        ),
    ] = False,
    yes: Yes = False,
    json_: Json = False,
) -> None:
    """Remove cached features and the state of closed studies; what would go is listed first.

    Example: wardround site purge --home runs/brain/homes/a
    """
    from ..features import default_cache
    from ..held_home import hold
    from ..purging import Purged, plan_purge, settle
    from ..purging import purge as carry_out

    folder = cache or default_cache()
    with hold(home) as held:
        if settle(held).noted:
            ERR.print("an earlier purge had been interrupted; it is finished now")
        plan = plan_purge(held, folder, ledger=ledger)
        _print_plan(ERR if json_ else OUT, plan, folder, held.folder)
        if plan.items:
            _ask(yes)
        done = carry_out(held, plan) if plan.items else Purged()
    if json_:
        print_json(
            {
                "site": held.home.site,
                "files": done.files,
                "bytes": done.size,
                "cache_files": len(plan.of("cache")),
                "state_files": len(plan.of("state")),
                "ledger_files": len(plan.of("ledger")),
                "closed": list(plan.closed),
                "open": plan.open_studies,
                "ledger_entry": done.noted,
            }
        )
        return
    if plan.items:
        OUT.print(f"Done: {_count(done.files, 'file')}, {size(done.size)}; the ledger says so.")


def _ask(yes: bool) -> None:
    """Go on only when a person says so; the answer is asked for on standard error."""
    if not yes and not typer.confirm("Remove this for good?", err=True):
        ERR.print("Nothing was removed.")
        raise typer.Exit(1)


def _show_near(near: tuple[str, ...]) -> None:
    """Names of groups are names of patients: shown to who sits at the terminal, and to no file."""
    if near and ERR.is_terminal:
        ERR.print(Text("near:  ", style="bold").append(one_line(", ".join(near)), style="default"))


def _print_group(out: Console, found: Group, cache: Path) -> None:
    parts = f"{found.train} in training, {found.validation} in validation, {found.test} in test"
    groups = "this group" if found.groups < 2 else f"{found.groups} groups of one patient or lesion"
    out.print(f"{_count(found.records, 'image')} of {groups} at this site: {parts}.")
    if found.groups > 1:
        out.print("Equal identifiers at one site count as one patient, from whichever source they are; all of them go.")
    if found.joined:
        out.print(
            f"{_count(found.joined, 'image')} of these in groups that join several names, because an identifier is "
            "shared or pictures look alike: it cannot be told whose each is, and all of them go."
        )
    out.print("What goes:")
    if not found.known:
        out.print("- the group, under all its names, out of every later round and study of this site")
    cached = f"{_count(found.cached, 'cached feature')} in {_count(found.shards, 'file')}"
    out.print(Text(f"- {cached} of {one_line(str(cache))}"))
    if found.updates or found.moments:
        out.print(f"- {_count(found.updates, 'older stored update')}, and Adam's moments in {found.moments}")
    for study in found.stuck:
        out.print(
            f"note: study {study[:8]} was asked for class means that are not known to be summed. Its sums cannot be "
            "given a second time without these images: if it does not go on, start it anew"
        )


def _stays(found: Group) -> list[str]:
    """What forgetting does not reach, in sentences without a name."""
    lines = [
        "What was released before is not unlearned: adapters keep what they learned of these images, at every site.",
        "So do the site's own models, the tensors that stay with it, and class means that were summed.",
        "The images themselves, and what other programs, backups and other cache folders hold of them.",
        _FOLDER_AGAIN,
        "A comparison's cells that were run before: right or wrong by image, groups as numbers.",
        _SPLITS,
        "A finished run's report of this site: predictions by image, without names.",
        "The update of a round under way: a retry must be about the same one. The next round's replaces it.",
    ]
    if found.counted:
        lines.append(
            "The signed number of training images or patients of studies under way. Leave the image files where they "
            "are until these studies have ended: they are counted, and not used."
        )
    if found.kept:
        lines.append("Stored releases with noise, which epsilon covers: they are paid for and cannot be made again.")
    if found.reference:
        lines.append(f"{_count(found.reference, 'image')} of the group in the public reference set.")
    return lines


def _print_plan(out: Console, plan: PurgePlan, cache: Path, home: Path) -> None:
    for kind, title in (
        ("cache", f"cached features in {cache}, of all sites and studies that use it"),
        ("state", "state of closed studies"),
        ("ledger", "ledger, checkpoints and rosters"),
    ):
        items = plan.of(kind)  # type: ignore[arg-type]
        if not items:
            continue
        total = size(sum(item.size for item in items))
        out.print(Text(f"{_count(len(items), 'file')}, {total}: {one_line(title)}"))
        for item in items:
            base = cache if kind == "cache" else home
            shown = item.path.relative_to(base) if item.path.is_relative_to(base) else item.path
            out.print(Text(f"  {one_line(str(shown))}"))
    for study, why in plan.open_studies.items():
        out.print(f"kept: state of study {study[:8]}: {why}")
    for study in plan.closed:
        out.print(f"kept of closed study {study[:8]}: what it signed and entered, and its models")
    if not plan.ledger:
        out.print("kept: ledger, checkpoints, rosters, policy, budget, keys and the list of withdrawn groups")
    if not plan.items:
        out.print("Nothing is there to remove.")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
