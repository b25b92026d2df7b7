"""``wardround predict``: calibrated probabilities and prediction sets for single images, or an abstention."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from .console import ERR, OUT, one_line, percent, print_json

if TYPE_CHECKING:
    from ..predicting import Answers, ImageAnswer

KINDS = {
    "none": "a calibration",
    "temperature": "a temperature",
    "vector": "vector scaling",
    "isotonic": "isotonic regression",
}


def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run folder.")],
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE…", help="Image files; FILE#PART for one of several in a file.")
    ],
    site: Annotated[
        str | None, typer.Option(metavar="NAME", help="Use this site's own calibration instead of the federation's.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Print calibrated class probabilities of images, or abstain. Research use; not for diagnosis.

    Of a volume or a multi-frame file, name the picture: scan.nii.gz#axial=77, cine.dcm#frame=3.
    Example: wardround predict runs/brain scan.png --site alder
    """
    from ..predicting import predict_images

    with ERR.status("encoding"):
        answers = predict_images(run, images, site=site)
    if json_:
        print_json([row.as_dict() for row in answers.rows])
        for sentence in _warnings(answers):
            ERR.print(Text("note: ", style="bold yellow").append(sentence, style="default"))
    else:
        OUT.print(Text(f"{answers.study} · research use, not for diagnosis", style="italic"))
        for row in answers.rows:
            _print_row(row)
        for sentence in (*_explanations(answers), *_warnings(answers)):
            OUT.print(Text(sentence))
    if any(row.probabilities is None for row in answers.rows):
        raise typer.Exit(1)


def _print_row(row: ImageAnswer) -> None:
    name = one_line(str(row.path))
    if row.probabilities is None:
        OUT.print(Text(f"{name}: unreadable: {one_line(row.reason)}"))
        return
    shares = (f"{name} {percent(p)} %" for name, p in zip(row.classes, row.probabilities, strict=True))
    OUT.print(
        Text(f"{name}: ")
        .append(row.answer or "abstains", style="bold")
        .append(f", {row.reason}" if row.reason else "")
        .append(f" ({', '.join(shares)})")
    )
    if row.prediction_set is not None:
        held = row.prediction_set
        every = len(held) == len(row.classes)
        words = (
            "all classes" if every else ", ".join(held) or "no class: none is as probable as the true class usually is"
        )
        OUT.print(Text(f"  prediction set: {words}"))


def _explanations(answers: Answers) -> list[str]:
    """What the calibration is, and what a prediction set promises."""
    calibrator = answers.calibrator
    sentences = []
    if calibrator.calibrated:
        words = calibrator.words.replace("this site's", f"{answers.site}'s own")
        images = f"; fitted on {calibrator.n} validation images" if calibrator.n is not None else ""
        sentences.append(f"Calibration: {words}{images}.")
    sets = calibrator.sets
    if sets is not None and answers.rows:
        few = [name for name, limit in zip(answers.classes, sets.by_class, strict=True) if limit is None]
        of = "of images of each class" if sets.each_class else "of images, all classes together"
        if not sets.each_class and sets.marginal is None:
            sentences.append("Prediction sets: too few validation images to rule a class out, so all are in every set.")
        else:
            sentences.append(f"Prediction sets: made to hold the true class in {percent(sets.nominal)} % {of}.")
            if few:
                sentences.append(f"Too few validation images for a promise about each class: {', '.join(few)}.")
    if calibrator.abstain_risk is not None and calibrator.risk_reached:
        sentences.append(
            f"It answers from a top probability of {percent(calibrator.abstain_below)} % up, chosen so that at most "
            f"{percent(calibrator.abstain_risk)} % of its answers are wrong, with 95 % confidence."
        )
    return sentences


def _warnings(answers: Answers) -> list[str]:
    """What a reader must know before using a probability."""
    calibrator = answers.calibrator
    whose = answers.site or "The federation"
    sentences = []
    if not calibrator.calibrated:
        why = f" ({answers.note})" if answers.note else ""
        sentences.append(f"No temperature was fitted{why}: these probabilities are not calibrated.")
    elif calibrator.kind != calibrator.wanted or (answers.site and calibrator.source == "federated"):
        sentences.append(
            f"{whose} has too few validation images of its own for {KINDS[calibrator.wanted or 'none']}: "
            f"a temperature{'' if calibrator.source == 'site' else ' of all sites'} is used."
        )
    if calibrator.abstain_risk is not None and not calibrator.risk_reached:
        sentences.append(
            f"No threshold {'was looked for' if answers.note else 'was found'} at which at most "
            f"{percent(calibrator.abstain_risk)} % of answers are wrong; it abstains below "
            f"{percent(calibrator.abstain_below)} %."
        )
    if answers.synthetic:
        sentences.append("The model was trained on synthetic phantoms: it knows nothing of patients.")
    return sentences
