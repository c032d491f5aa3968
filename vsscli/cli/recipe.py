"""``vss recipe``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from vsscli.cli import options as opt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vsscli.cli.console import Console


def recipe(
    action: Annotated[Literal["ls", "show", "cp", "validate", "schema"], Argument(show_default=False)],
    names: Annotated[list[str] | None, Argument(metavar="[NAME...]", help="Recipes; for cp also the target.")] = None,
    assignments: opt.Assignments = None,
    files: Annotated[bool, Option("--files/--no-files", help="For validate: whether missing files are faults.")] = True,
    force: opt.Force = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> None:
    """List, show, copy and validate recipes: those that ship with vss, and your own.

    ls lists the shipped ones; show prints a recipe with all defaults, merged with those it extends; cp copies one for
    editing; validate lists every fault and exits with 2 if there is any; schema prints the JSON Schema.

      vss recipe ls
      vss recipe show camvid/student --set train.steps=200
      vss recipe cp camvid/student mine.yaml
      vss recipe validate mine.yaml --no-files
    """
    from vsscli.cli.console import Console
    from vsscli.errors import VssError

    console, named = Console(quiet=quiet), names or []
    wanted = {"ls": (0, 0), "show": (1, 1), "cp": (2, 2), "schema": (0, 0)}.get(action, (0, len(named)))
    if not wanted[0] <= len(named) <= wanted[1]:
        usage = {"show": "show NAME", "cp": "cp NAME DEST"}.get(action, action)
        raise VssError(f"vss recipe {action} does not take {len(named)} names", f"vss recipe {usage}")
    if assignments and action not in ("show", "validate"):
        raise VssError(f"vss recipe {action} takes no --set", "--set goes with show and validate")
    if action == "ls":
        _list(console, json=json)
    elif action == "show":
        _show(console, named[0], assignments or (), json=json)
    elif action == "cp":
        _copy(console, named[0], Path(named[1]), force=force, json=json)
    elif action == "validate":
        _validate(console, named, assignments or (), files=files, json=json)
    else:
        from vsscli.recipes.jsonschema import schema_text

        console.print_text(schema_text().rstrip("\n"))


def _list(console: Console, *, json: bool) -> None:
    from vsscli.recipes.shelf import list_recipes

    listed = list_recipes()
    if json:
        console.print_json([one._asdict() for one in listed])
    else:
        console.print_table(("name", "recipe of", "about"), listed)


def _show(console: Console, name: str, overrides: Sequence[str], *, json: bool) -> None:
    from vsscli.recipes.load import load_any
    from vsscli.recipes.text import dump_yaml

    values = load_any(name, overrides).model_dump(mode="json")
    if json:
        console.print_json(values)
    else:
        console.print_text(dump_yaml(values).rstrip("\n"))


def _copy(console: Console, name: str, destination: Path, *, force: bool, json: bool) -> None:
    from vsscli.recipes.shelf import copy_recipe

    copied = copy_recipe(name, destination, force=force)
    if json:
        console.print_json({"copied": copied})
    else:
        console.print(*map(str, copied))


def _validate(console: Console, names: Sequence[str], overrides: Sequence[str], *, files: bool, json: bool) -> None:
    from vsscli.errors import VssError
    from vsscli.recipes.find import shipped_recipes
    from vsscli.recipes.validate import validate_recipe
    from vsscli.stages.faults import value_faults

    chosen = names or list(shipped_recipes())
    faults = {name: validate_recipe(name, overrides, files=files, further=value_faults) for name in chosen}
    count = sum(map(len, faults.values()))
    if json:
        listed = [{"recipe": name, **fault._asdict()} for name, found in faults.items() for fault in found]
        console.print_json({"valid": not count, "faults": listed})
    else:
        for found in faults.values():
            for fault in found:
                console.print(str(fault))
    if count:
        wrong = sum(bool(found) for found in faults.values())
        raise VssError(
            f"{count} {'fault' if count == 1 else 'faults'} in {wrong} of {len(chosen)} recipes",
            "correct them; --no-files ignores missing files" if files else "correct them",
        )
    if not json:
        # Whether files exist is checked, what is in them is not.
        checked = "values, names of networks, and that files exist" if files else "values and names of networks"
        console.print(f"{len(chosen)} {'recipe' if len(chosen) == 1 else 'recipes'}, no faults")
        console.say(f"checked: {checked}; not checked: the data itself (`vss doctor --recipe FILE`)")
