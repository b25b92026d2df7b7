"""The command line: one door for errors, so that a traceback reaches a user only with --debug."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from ... import __version__
from ...evaluation.errors import EvaluationError
from ...medical_datasets.errors import DataError
from ...privacy.errors import PrivacyError
from ..errors import PlatformError
from . import (
    audit,
    bench,
    compare,
    consortium,
    coordinator,
    data,
    demo,
    doctor,
    evaluate,
    predict,
    privacy,
    report,
    run,
    site,
)
from .console import OUT, show_error, tolerate_encoding

DEBUG_VARIABLE = "WARDROUND_DEBUG"
INTERRUPTED = 130

app = typer.Typer(
    name="wardround",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Privacy-hardened federated medical imaging. Example: wardround demo",
)
app.command("demo")(demo.demo)
app.command("run")(run.run)
app.command("compare")(compare.compare)
app.command("predict")(predict.predict)
app.command("evaluate")(evaluate.evaluate)
app.command("doctor")(doctor.doctor)
app.add_typer(data.app, name="data")
app.add_typer(report.app, name="report")
app.add_typer(privacy.app, name="privacy")
app.add_typer(audit.app, name="audit")
app.add_typer(consortium.app, name="consortium")
app.add_typer(coordinator.app, name="coordinator")
app.add_typer(site.app, name="site")
app.add_typer(bench.app, name="bench")


def _version(asked: bool) -> None:
    if asked:
        OUT.print(f"wardround {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks (also WARDROUND_DEBUG=1).")] = False,
) -> None:
    """Privacy-hardened federated medical imaging: hospitals train a small adapter on a frozen CLIP together."""
    if debug:
        os.environ[DEBUG_VARIABLE] = "1"


def _interrupted() -> None:
    show_error(
        "interrupted",
        "",
        "A run whose folder was begun continues: wardround run DIR/study.toml --out DIR --resume; "
        "a comparison and everything else, with the same command again",
    )


def main() -> None:
    """Entry point: exit code 0 for success, 1 for an error, 2 for wrong usage, 130 when interrupted."""
    tolerate_encoding()
    try:
        app()
    except SystemExit as leaving:
        if leaving.code == INTERRUPTED:  # typer turns Ctrl-C into this code and says nothing
            _interrupted()
        raise
    except (PlatformError, PrivacyError, DataError, EvaluationError) as error:
        if os.environ.get(DEBUG_VARIABLE) == "1":
            raise
        show_error(error.what, error.where, error.remedy)
        sys.exit(1)
    except KeyboardInterrupt:
        _interrupted()
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output (head, less) has gone; writing more would fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if os.environ.get(DEBUG_VARIABLE) == "1":
            raise
        place = str(error.filename) if error.filename else ""
        show_error(
            error.strerror or type(error).__name__, place, "Check path, rights and free space, then run it again"
        )
        sys.exit(1)
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE) == "1":
            raise
        show_error(
            f"internal error: {type(error).__name__}: {error}",
            "",
            "Run it again with --debug before the command and report what it prints; "
            "a run that was under way continues with --resume",
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
