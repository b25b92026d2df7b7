"""``wardround privacy``: what sites spent under differential privacy, and how much noise an epsilon needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from . import privacy_audit
from .console import ERR, OUT, RichWatcher, one_line, print_json, print_table
from .privacy_tables import noise_table, print_plot, releases_table, spent_table

if TYPE_CHECKING:
    from ..config import Study
    from ..noise_plan import NoisePlan

app = typer.Typer(no_args_is_help=True, help="Differential privacy. Example: wardround privacy show runs/brain")


@app.callback()
def group() -> None:
    """See what differential privacy costs, before a study and after."""


app.command("audit")(privacy_audit.audit)


@app.command("show")
def show(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, complete or under way.")],
    json_: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Show what each site of a run has spent of its privacy budget, on what, and what is left.

    Every budget is checked against the site's ledger first. Example: wardround privacy show runs/brain
    """
    from ..run_folder import RunFolder

    folder, study = RunFolder.open(run)
    if not study.private:
        from ..privacy_figures import check_nothing_spent

        check_nothing_spent(folder)
        if json_:
            print_json({"private": False})
        else:
            OUT.print(Text(f"{study.name}: trained without differential privacy; no site has spent anything."))
            OUT.print(Text("Set privacy.epsilon in a study to train with it; wardround privacy plan shows the noise."))
        return
    from dataclasses import asdict

    from ..privacy_figures import run_privacy

    with ERR.status("accounting"):
        sites = run_privacy(folder, study)
    complete = folder.summary.is_file()
    if json_:
        print_json(
            {
                "private": True,
                "study": study.name,
                "unit": study.privacy.unit,
                "rounds": study.rounds,
                "complete": complete,
                "sites": {site.site: {**asdict(site), "left": site.left} for site in sites},
            }
        )
        return
    from ...evaluation.privacy_view import covered, uncovered

    state = "complete" if complete else "not complete"
    OUT.print(Text(f"{study.name}: {study.method}, {study.rounds} rounds planned, {state}", style="bold"))
    print_table(spent_table(sites))
    print_table(releases_table(sites))
    OUT.print(
        Text("noise: standard deviation over the most that one unit can change; drawn: its chance to be in a step")
    )
    OUT.print(Text("Releases cost less together than the sum of what each one costs alone."))
    OUT.print()
    print_plot(sites)
    OUT.print()
    unit = study.privacy.unit
    OUT.print(Text(covered(unit)))
    OUT.print(Text("Not protected:"))
    for sentence in uncovered(unit):
        OUT.print(Text(f"- {sentence}"))


@app.command("plan")
def plan(
    study: Annotated[
        Path | None,
        typer.Argument(metavar="STUDY.toml", help="Plan this study, with all that it releases; else gradients alone."),
    ] = None,
    epsilon: Annotated[
        list[float] | None,
        typer.Option("--epsilon", metavar="E", min=0.01, max=1000.0, help="Of the whole study; repeat for several."),
    ] = None,
    units: Annotated[
        list[int] | None,
        typer.Option(
            "--units",
            metavar="N",
            min=1,
            max=10**9,
            help="Units, such as patients, in training at a site; repeat for several.",
        ),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option("--rounds", metavar="N", min=1, max=10_000, help="Instead of the study's.")
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option("--batch", metavar="N", min=1, max=4096, help="Units of a step, instead of the study's."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", metavar="N", min=1, max=100, help="In a round, instead of the study's.")
    ] = None,
    delta: Annotated[
        float | None, typer.Option("--delta", metavar="D", min=1e-15, max=0.09, help="Instead of the study's.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Print how much noise an epsilon needs, by the number of units at a site; nothing is trained.

    Example: wardround privacy plan study.toml --epsilon 4 --epsilon 8 --units 500
    """
    from dataclasses import asdict

    from ..noise_plan import EPSILONS, UNITS, bare_study, noise_plan
    from ..study_file import load_study

    given = load_study(study) if study is not None else bare_study()
    own = (given.privacy.epsilon,) if given.private else ()
    wanted = sorted(set(epsilon or (*EPSILONS, *own)))
    with RichWatcher() as watcher:
        watcher.stage("searching for the noise")
        planned = noise_plan(
            _changed(given, rounds, batch, epochs, delta),
            wanted,
            sorted(set(units or UNITS)),
            lambda done, total: watcher.progress(done, total, "searches"),
        )
    if json_:
        print_json({"study": given.name if study is not None else None, **asdict(planned)})
        return
    if study is not None:
        asked = f"epsilon {own[0]:g}" if own else "differential privacy off"
        OUT.print(Text(f"{given.name}: {given.method}, {asked}", style="bold"))
    _explain(planned)


def _changed(study: Study, rounds: int | None, batch: int | None, epochs: int | None, delta: float | None) -> Study:
    """The study with what the command line gives instead."""

    def known(**values: Any) -> dict[str, Any]:
        return {key: value for key, value in values.items() if value is not None}

    return study.model_copy(
        update={
            **known(rounds=rounds),
            "training": study.training.model_copy(update=known(batch_size=batch, local_epochs=epochs)),
            "privacy": study.privacy.model_copy(update=known(delta=delta)),
        }
    )


def _explain(planned: NoisePlan) -> None:
    from ...evaluation.privacy_model import groups_of

    if planned.problem:
        ERR.print(
            Text("note: ", style="bold yellow").append(f"the study cannot be trained so: {one_line(planned.problem)}")
        )
    for release in groups_of(planned.beside):
        cost = f"epsilon {release.cost:.4f}{' each' if release.count > 1 else ''} by itself"
        OUT.print(Text(f"released beside gradients: {release.title}, noise {release.noise_multiplier:.3f}, {cost}"))
    if planned.beside:
        OUT.print(Text(f"all of these together: epsilon {planned.beside_epsilon:.4f}, part of every epsilon below"))
    print_table(noise_table(planned))
    for why in dict.fromkeys(cell.why for cell in planned.cells if cell.why):
        OUT.print(Text(f"none: {why}"))
    for line in _WORDS:
        OUT.print(Text(line))


_WORDS = (
    "The noise multiplier is the standard deviation over the most that one unit can change in a step.",
    "Training feels it over the units of an average step, in brackets: the smaller, the better it learns.",
    "Less noise for one epsilon: more units at each site, fewer rounds or epochs, larger batches.",
)
