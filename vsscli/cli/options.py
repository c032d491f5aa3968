"""Options that several commands share, and the class of commands that lets an option take several values.

Commands declare their options with the types below, so that ``--device`` is parsed and explained the same everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer
from typer import Argument, Exit, Option
from typer.core import TyperCommand, TyperGroup, TyperOption

from vsscli import __version__

if TYPE_CHECKING:
    from vsscli.context import Context

RUNS = Path("runs")
"""The workspace if neither ``--workspace`` nor ``VSS_WORKSPACE`` names one."""

# What a network runs on. Commands that run one take all of these.
Device = Annotated[str, Option("--device", metavar="NAME", help="Where the network runs: auto, cpu, cuda or cuda:N.")]
Devices = Annotated[
    int, Option("--devices", min=1, metavar="N", help="Parallel processes on each machine, one per device.")
]
Nodes = Annotated[int, Option("--nodes", min=1, metavar="N", help="Machines, whose processes torchrun or srun starts.")]
Strategy = Annotated[
    Literal["auto", "ddp", "sharded"],
    Option("--strategy", help="Whether each process keeps all weights (ddp, auto) or a share of them (sharded)."),
]
Precision = Annotated[
    Literal["32", "bf16", "16"] | None,
    Option("--precision", help="Arithmetic of the network. [default: the recipe's]"),
]
BatchSize = Annotated[
    int, Option("--batch-size", min=1, metavar="N", help="Images at a time; halved automatically if memory is short.")
]
Tta = Annotated[bool, Option("--tta", help="Test-time augmentation, by the recipe's plan.")]
TtaPlan = Annotated[
    str | None, Option("--tta-plan", metavar="NAME|FILE", help="Another plan: paper, flip, none or a YAML file.")
]

# Where things are.
RecipeFile = Annotated[
    str | None, Option("--recipe", metavar="FILE", help="Recipe: a YAML file, or one that ships with vss (teacher, …).")
]
RecipeAlone = Annotated[
    str | None, Argument(metavar="[RECIPE]", show_default=False, help="The same as --recipe RECIPE.")
]
Assignments = Annotated[
    list[str] | None, Option("--set", metavar="KEY=VALUE...", help="Change the recipe: --set train.steps=200.")
]
DataRoot = Annotated[Path | None, Option("--data", metavar="ROOT", help="Folder of the data set.")]
Split = Annotated[str | None, Option("--split", metavar="NAME", help="Split of the data set: train, val, ….")]
RecipeOfData = Annotated[str | None, Option("--recipe", metavar="FILE", help="Recipe that defines the data set.")]
Prediction = Annotated[
    Path | None,
    Option("--pred", metavar="STORE|DIR", help="Store, or folder of <video>/<stem>.png. [default: the newest store]"),
]
ProtocolName = Annotated[
    str, Option("--protocol", metavar="NAME", help="Way of counting: vspw, mapped, pooled or cffm.")
]


def _workspace(place: Path) -> Path:
    """Check the workspace before any work is done."""
    from vsscli.inside import require_folder

    require_folder(place, "workspace")
    return place


Workspace = Annotated[
    Path,
    Option(
        "--workspace",
        envvar="VSS_WORKSPACE",
        show_envvar=True,
        metavar="DIR",
        help="Where results go.",
        callback=_workspace,
    ),
]

# Several values each.
Models = Annotated[
    list[Path] | None,
    Option("--models", metavar="FILE...", help="Checkpoints, or recipes of networks of mmsegmentation."),
]
Stores = Annotated[list[Path] | None, Option("--stores", metavar="STORE...", help="Prediction stores.")]
Weights = Annotated[list[float] | None, Option("--weights", metavar="W...", help="One weight each, in order.")]

SIDES = "N|H W"
Crop = Annotated[
    list[str] | None,
    Option("--crop", metavar=SIDES, help="Side of the images, or height and width: 640, 64 96 or 64x96."),
]

FirstFrame = Annotated[
    int | None,
    Option(
        "--first-frame",
        min=0,
        metavar="N",
        help="Number that labels give the first frame of a video file. [default: 1 if they must, else 0]",
    ),
]

# How much is said, and how.
Workers = Annotated[
    int | None,
    Option("--workers", min=1, metavar="N", help="Processes, by video. [default: up to one per core]"),
]
EngineName = Annotated[
    str, Option("--engine", metavar="NAME", help="Where videos are shared out: local, ray or ray://HOST:PORT.")
]


def require_one_place(context: Context) -> None:
    """Refuse numbers of processes here for work that a cluster shares out."""
    if context.on_cluster and context.devices * context.nodes > 1:
        from vsscli.errors import VssError

        raise VssError(
            f"--engine {context.engine} predicts on the cluster, --devices and --nodes are for processes without it",
            "leave them out: a process for each GPU of the cluster predicts, or at most --workers N",
        )


Track = Annotated[
    str,
    Option(
        "--track",
        envvar="VSS_TRACK",
        show_envvar=True,
        metavar="NAME,...",
        help="Send the figures of trainings there, too: wandb, mlflow.",
    ),
]
Share = Annotated[
    str,
    Option("--part", metavar="I/N", help="Only the I-th of N shares of the videos; other jobs write the others."),
]
Force = Annotated[bool, Option("--force", help="Replace existing results.")]
ForceStore = Annotated[
    bool, Option("--force", help="If another store is in the way, write a new one beside it; nothing is replaced.")
]
Json = Annotated[bool, Option("--json", help="Print one JSON object on stdout.")]
Quiet = Annotated[bool, Option("--quiet", "-q", help="Show warnings and errors only.")]
Debug = Annotated[bool, Option("--debug", help="Show the traceback of an error.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"vss {__version__}")
        raise Exit


Version = Annotated[bool, Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")]


def before_the_command(version: Version = False, debug: Debug = False) -> None:
    """The options between ``vss`` and the command."""


NEGATIVE_NUMBER = re.compile(r"-\.?\d")
MANY = 1_000_000


class Program(TyperGroup):
    """The program, as a group of commands."""

    def get_params(self, ctx: Any) -> list[Any]:
        params = super().get_params(ctx)
        for param in params:
            if isinstance(param, TyperOption) and param.is_flag and param.default is None:
                param.default = False  # for None typer imports pydantic, which takes longer than all of `--help`
        return params


class Command(TyperCommand):
    """A command whose list options take several values: up to the next option, separated by commas, or repeated.

    ``--metric miou vc8,vc16`` becomes ``--metric miou --metric vc8 --metric vc16`` before typer sees it. Commas do not
    split paths or ``KEY=VALUE``; a word without ``=`` ends a list of those. A positional argument directly after any
    other list option would be swallowed, so commands with such options take none. In the help text, paragraphs that are
    indented or consist of command lines keep their lines.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        rest = super().parse_args(ctx, list(self._spread(ctx, args)))
        if ctx.resilient_parsing:
            # Shell completion: an option stays open as long as it may take further values.
            for option in self._several():
                option.nargs = MANY
        return rest

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        self.help = _keep_examples(self.help or "")
        super().format_help_text(ctx, formatter)

    def get_short_help_str(self, limit: int = 45) -> str:
        return super().get_short_help_str(200)  # whole sentences, wrapped, in the list of commands

    def _several(self) -> list[TyperOption]:
        return [param for param in self.params if isinstance(param, TyperOption) and param.multiple]

    def _spread(self, ctx: typer.Context, args: Sequence[str]) -> Iterator[str]:
        """The same arguments, with the option's name repeated before every value of a list option."""
        # An option without a value is refused here: typer would take the next option's name as its value.
        named = {name: option for option in self._several() for name in option.opts}
        known = {name for param in self.get_params(ctx) for name in (*param.opts, *param.secondary_opts)}
        taking = {
            name
            for param in self.params
            if isinstance(param, TyperOption) and not (param.is_flag or param.multiple)
            for name in param.opts
        }
        waiting = ""  # the option that has no value yet
        current = ""  # the list option that takes the values to come
        for index, argument in enumerate(args):
            name, equals, value = argument.partition("=")
            if waiting in taking and name not in known:
                waiting = ""
                yield argument
                continue
            optional = argument[:1] == "-" and argument != "-" and not NEGATIVE_NUMBER.match(argument)
            if optional and waiting and not ctx.resilient_parsing:
                ctx.fail(f"Option {waiting!r} requires a value.")
            if argument == "--":
                yield from args[index:]
                return
            if name in named:
                current = waiting = name
                values = _values(named[name], value) if equals else []
            elif optional:
                current, waiting = "", "" if equals or name not in taking else name
                yield argument
                continue
            elif current and (waiting or _takes(named[current], argument)):
                values = _values(named[current], argument)
            else:
                current = ""
                yield argument
                continue
            for value in values:
                waiting = ""
                yield from (current, value)
        if waiting and not ctx.resilient_parsing:
            ctx.fail(f"Option {waiting!r} requires a value.")


def read_names(text: str) -> tuple[str, ...]:
    """Names that are separated by commas."""
    return tuple(filter(None, (name.strip() for name in text.split(","))))


def read_crop(values: Sequence[str] | None) -> tuple[int, int] | None:
    """Height and width from ``--crop``: the side of a square, two sides, or both in one word."""
    from vsscli.errors import VssError

    if not values:
        return None
    text = " ".join(values)
    sides = [part for part in re.split(r"[x×,\s]+", text.strip().lower()) if part]
    if not 1 <= len(sides) <= 2 or not all(re.fullmatch(r"-?\d{1,6}", side) for side in sides):
        raise VssError(f"--crop {text} is not a size", "give the side of a square, --crop 640, or --crop HEIGHT WIDTH")
    return int(sides[0]), int(sides[-1])


def _takes(option: TyperOption, argument: str) -> bool:
    """Whether a word may be a further value of a list option; a positional argument may follow some of them."""
    if "=" in (option.metavar or ""):
        return "=" in argument
    return option.metavar != SIDES or re.fullmatch(r"\d[\dx×,]*", argument) is not None


def _values(option: TyperOption, text: str) -> list[str]:
    whole = Path in get_args(option.type_descriptor.annotation) or "=" in (option.metavar or "")
    parts = [text] if whole else text.split(",")
    return [part.strip() for part in parts if part.strip()]


def _keep_examples(text: str) -> str:
    """Mark paragraphs that are examples, indented or command lines, so that their lines are not rewrapped."""
    paragraphs = []
    for paragraph in text.split("\n\n"):
        lines = paragraph.split("\n")
        if all(line.startswith("vss ") for line in lines):  # indented too, but for inspect.cleandoc
            lines = [f"  {line}" for line in lines]
        if all(line.startswith("  ") for line in lines):
            lines = ["\b", *lines]
        paragraphs.append("\n".join(lines))
    return "\n\n".join(paragraphs)
