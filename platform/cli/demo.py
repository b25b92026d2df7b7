"""``wardround demo``: a whole federated study on phantoms, from nothing."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .run import run_study


class DemoMethod(StrEnum):
    """The adapter methods: what they send is small enough for a demo."""

    FACMIC = "facmic"
    FAA_CLIP = "faa-clip"
    FEDCLIP = "fedclip"


class DemoStudy(StrEnum):
    """The two pictures of the pilots."""

    BRAIN = "brain"
    SKIN = "skin"


def demo(
    study: Annotated[DemoStudy, typer.Option("--study", help="Brain-tumour MRI or skin lesions.")] = DemoStudy.BRAIN,
    method: Annotated[DemoMethod, typer.Option("--method", help="The federated method.")] = DemoMethod.FACMIC,
    sites: Annotated[int, typer.Option("--sites", metavar="N", help="Training sites, at least 3.")] = 4,
    rounds: Annotated[int, typer.Option("--rounds", metavar="N", help="Federated rounds.")] = 10,
    epsilon: Annotated[
        float, typer.Option("--epsilon", metavar="E", help="Differential privacy of every site; 0: none.")
    ] = 0.0,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A new folder for the run.")] = Path("demo"),
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Phantoms, splits and start values.")] = 0,
) -> None:
    """Run a federated study on synthetic phantoms: sites with shifted scanners, one of them unseen.

    Example: wardround demo --study skin --out demo-skin
    """
    from ..demo_study import demo_study_values
    from ..study_file import parse_study

    values = demo_study_values(study.value, method=method.value, sites=sites, rounds=rounds, seed=seed, epsilon=epsilon)
    run_study(
        parse_study(values, where=Path("options of the demo"), remedy="wardround demo --help lists them"),
        out,
        resume=False,
    )
