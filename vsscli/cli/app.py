"""``vss``: the list of commands, and how the program starts and ends.

Nothing heavy is imported here or at the top of a command's file: ``vss COMMAND --help`` must answer at once.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn, cast

from vsscli.cli.signals import drop_output, end_at_once, ended_like_interrupted, hold_streams, unbroken_talk

if TYPE_CHECKING:
    from typer.core import TyperGroup

HELP = """Semi-supervised video semantic segmentation: run the network once, decide many times.

\b
    vss demo                                        the whole loop on drawn videos, in minutes
    vss train --recipe recipes/teacher.yaml         train a network
    vss pseudo --models t.pt s.pt --tta             predict unlabelled video, fuse, threshold
    vss eval --metric miou vc8 vc16                 score the newest prediction
"""


CONTINUED = ("init", "remap", "train", "predict", "pseudo", "ensemble", "run", "demo")
"""Commands that keep finished work when they are interrupted; the others start over."""


@cache
def build() -> TyperGroup:
    """The program with all its commands, in the order of ``vss --help``; made once, which takes a twentieth of a
    second."""
    from typer import Typer
    from typer.main import get_command

    from vsscli.cli import cache as caches
    from vsscli.cli import (
        classes,
        compare,
        convert,
        demo,
        doctor,
        ensemble,
        export,
        imports,
        init,
        model,
        predict,
        pseudo,
        recipe,
        remap,
        report,
        run,
        runs,
        show,
        submit,
        train,
        vc,
    )
    from vsscli.cli import eval as evaluation
    from vsscli.cli import next as advice
    from vsscli.cli.options import Command, Program, before_the_command

    app = Typer(
        name="vss",
        cls=Program,
        help=HELP,
        rich_markup_mode=None,  # plain help takes half the time, and also reads well without a terminal
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
    )
    for name, function in (
        ("init", init.init),
        ("classes", classes.classes),
        ("recipe", recipe.recipe),
        ("remap", remap.remap),
        ("model", model.model),
        ("convert", convert.convert),
        ("train", train.train),
        ("predict", predict.predict),
        ("pseudo", pseudo.pseudo),
        ("ensemble", ensemble.ensemble),
        ("eval", evaluation.evaluate),
        ("vc", vc.consistency),
        ("compare", compare.compare),
        ("show", show.show),
        ("report", report.report),
        ("submit", submit.submit),
        ("next", advice.advise),
        ("import", imports.imports),
        ("export", export.export),
        ("run", run.run),
        ("runs", runs.runs),
        ("demo", demo.demo),
        ("cache", caches.cache),
        ("doctor", doctor.doctor),
    ):
        app.command(name, cls=Command)(function)

    app.callback()(before_the_command)
    return cast("TyperGroup", get_command(app))


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run ``vss`` with ``sys.argv``, which is left unchanged because further processes of a run read it too."""
    hold_streams()
    code = run(sys.argv[1:] if arguments is None else arguments)
    end_at_once()
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command.

    Parameters
    ----------
    arguments
        What follows ``vss``; nothing means ``--help``.

    Returns
    -------
    int
        Exit code: 0, or as `vsscli.cli.failure.explain` says.
    """
    debug = "--debug" in arguments
    _wait_briefly()
    with unbroken_talk():
        code = _run(arguments, debug=debug)
        drop_output()
        return code


def _run(arguments: Sequence[str], *, debug: bool) -> int:
    command = None
    try:
        with ended_like_interrupted(), _only_our_own_words(debug=debug):
            command = build()
            if "_VSS_COMPLETE" in os.environ:
                command.main(prog_name="vss")
            with command.make_context("vss", list(arguments) or ["--help"]) as context:
                command.invoke(context)
            sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as cause:
        try:
            from vsscli.cli.failure import explain

            return explain(cause, debug=debug, go_on=_how_to_go_on(command, arguments) if command else "")
        except KeyboardInterrupt:
            return 130
    return 0


def _wait_briefly() -> None:
    """Let torch's threads look for work for some microseconds and then sleep, unless the user says otherwise.

    By default they spin for milliseconds, which takes the core from the thread that they wait for when another program
    runs beside; sleeping at once costs a quarter of the speed on an idle machine (`tests/benchmarks/waiting.py`).
    OpenMP reads the variables when torch is loaded.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "passive"
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def _how_to_go_on(command: TyperGroup, arguments: Sequence[str]) -> str:
    """What happens when an interrupted command is run again."""
    name = next((word for word in arguments if word in command.commands), None)
    if name is None:
        return ""
    if "--resume" not in arguments and any("--resume" in param.opts for param in command.commands[name].params):
        return "run the same command with --resume to continue"
    if name in CONTINUED and "--sweep" not in arguments:
        return "run the same command again to continue"
    return "the same command starts over"


@contextmanager
def _only_our_own_words(*, debug: bool) -> Iterator[None]:
    """Hide log messages and warnings of libraries, which address programmers; ours go through the console."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")  # a name that the terminal can't show must not stop the program
    if debug or sys.warnoptions:
        yield
        return
    logging.disable(logging.INFO)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(logging.NOTSET)
