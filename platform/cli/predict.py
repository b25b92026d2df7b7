"""``wardround predict``: calibrated probabilities for single images, or an abstention."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from .console import ERR, OUT, one_line, percent, print_json


def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run folder.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE…", help="Image files.")],
    json_: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Print calibrated class probabilities of images, or abstain. Research use; not for diagnosis.

    Example: wardround predict runs/brain scan.png
    """
    from ..predicting import predict_images

    with ERR.status("encoding"):
        answer = predict_images(run, images)
    if json_:
        print_json([row.as_dict() for row in answer.rows])
    else:
        OUT.print(Text(f"{answer.study} · research use, not for diagnosis", style="italic"))
        for row in answer.rows:
            name = one_line(str(row.path))
            if row.probabilities is None:
                OUT.print(Text(f"{name}: unreadable: {one_line(row.reason)}"))
                continue
            shares = (f"{name} {percent(p)} %" for name, p in zip(answer.classes, row.probabilities, strict=True))
            OUT.print(
                Text(f"{name}: ").append(row.answer or "abstains", style="bold").append(f" ({', '.join(shares)})")
            )
        if answer.temperature is None and answer.temperature_source != "model":
            OUT.print("No temperature could be fitted: these probabilities are not calibrated.")
        if answer.synthetic:
            OUT.print("The model was trained on synthetic phantoms: it knows nothing of patients.")
    if any(row.probabilities is None for row in answer.rows):
        raise typer.Exit(1)
