"""Train the embedded CLIP model from nothing but drawings.

Usage: ``python -m wardround.platform.embedded.train --out FOLDER``.

Seeded and offline. Captions and pictures are drawn by this package; no outside image or text is used. Three terms train
the first stage: the contrastive one of CLIP (Radford et al. 2021, section 2.3) with several positives per row, as in
UniCL (Yang et al. 2022, equation 3), where every caption that is true of a picture is a positive; linear heads that
name the picture's attributes; and the agreement of two augmented views of a picture (SimCLR, Chen et al. 2020), for
which pictures of nothing are drawn beside the phantoms. Heads are thrown away at the end.

The contrastive loss leaves the features in a dozen directions, because the captions differ in no more, and an
adapter then finds little else to learn from. So a second, short stage freezes the image tower, replaces its learnt
projection by a ridge-whitened one (fitted on phantoms, ``pooling.spread``), and lets the text tower and the temperature
learn to speak to these features.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ...privacy.atomic import write_atomic
from .architecture import WEIGHTS
from .recipe import Recipe
from .trainer import Trainer

Report = Callable[[int, dict[str, float]], None]
FIRST_STAGE = "first-stage.safetensors"


def train(
    recipe: Recipe,
    out: Path,
    *,
    workers: int = 2,
    start: Path | None = None,
    save_every: int = 0,
    report: Report | None = None,
) -> Trainer:
    """Train by a recipe and write weights, vocabulary and configuration into ``out``.

    Args:
        recipe: what to do.
        out: folder, made if it is missing.
        workers: processes that draw pictures; 0 draws in this one.
        start: ``first-stage.safetensors`` of the same recipe; that stage is then skipped.
        save_every: also write the weights every so many steps; 0 only after each stage.
        report: called as ``report(step, figures)`` after every step; steps count through both stages.

    Returns:
        The trainer after the last step.

    Raises:
        ValueError: numbers that no training can run on, or a ``start`` that does not fit the recipe.
        OSError, SafetensorError: ``start`` cannot be read, or ``out`` cannot be made or written.
    """
    stored = None if start is None else load_file(start)  # before anything is written
    trainer = Trainer(recipe, out, workers=workers)
    trainer.model.train()
    if stored is not None:
        try:
            trainer.model.load_state_dict(stored)  # copied into the float32 parameters
        except RuntimeError as error:
            raise ValueError(f"{start} is no first stage of this recipe: {error}") from error
    for step in range(1 if start is None else recipe.steps + 1, recipe.steps + recipe.align_steps + 1):
        if step > recipe.steps and not trainer.aligning:
            trainer.begin_aligning()
        figures = trainer.step()
        if report is not None:
            report(step, figures)
        if step == recipe.steps:
            write_atomic(out / FIRST_STAGE, trainer.weights(), mode=0o644)
        elif save_every and step % save_every == 0:
            write_atomic(out / WEIGHTS, trainer.weights(), mode=0o644)
    write_atomic(out / WEIGHTS, trainer.weights(), mode=0o644)
    return trainer


def main() -> None:
    """Command line of the training script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for weights, vocabulary and configuration")
    parser.add_argument("--start", type=Path, help="weights of the first stage, to do only the second")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="processes that draw the pictures")
    parser.add_argument("--save-every", type=int, default=250)
    recipe = Recipe()
    for field in fields(Recipe):
        kind = type(getattr(recipe, field.name))
        if kind in (int, float):
            parser.add_argument(
                f"--{field.name.replace('_', '-')}",
                type=kind,
                default=getattr(recipe, field.name),
                help="of the recipe, see recipe.py (default %(default)s)",
            )
    options = parser.parse_args()
    for name, least in (("threads", 1), ("workers", 0), ("save_every", 0)):
        if getattr(options, name) < least:
            parser.error(f"--{name.replace('_', '-')} must be at least {least}, not {getattr(options, name)}")
    if options.out.exists() and not options.out.is_dir():
        parser.error(f"--out {options.out} is a file: name a folder")
    # A vocabulary of one training beside the weights of another would be no model.
    if (options.out / WEIGHTS).exists() and options.start is None:
        parser.error(f"--out {options.out} holds a model already: name another folder")
    torch.set_num_threads(options.threads)
    given = {field.name: getattr(options, field.name) for field in fields(Recipe) if hasattr(options, field.name)}
    recipe = replace(recipe, **given)
    try:
        recipe.check()
    except ValueError as error:
        parser.error(str(error))
    begun = time.monotonic()
    sums: dict[str, float] = {}

    def report(step: int, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            sums[name] = sums.get(name, 0.0) + value
        if step % 25 == 0:
            text = " ".join(f"{name} {value / 25:.3f}" for name, value in sums.items())
            sys.stderr.write(f"step {step}/{recipe.steps} {text} seconds {time.monotonic() - begun:.0f}\n")
            sys.stderr.flush()
            sums.clear()

    try:
        train(
            recipe,
            options.out,
            workers=options.workers,
            start=options.start,
            save_every=options.save_every,
            report=report,
        )
    except (OSError, SafetensorError, ValueError) as error:
        parser.error(f"{options.start or options.out} cannot be used: {error}")
    sys.stderr.write(f"wrote {options.out / WEIGHTS}\n")


if __name__ == "__main__":
    main()
