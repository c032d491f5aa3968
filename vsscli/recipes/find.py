"""Finding recipes: files, and those that ship with vss."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from vsscli.errors import VssError

SHIPPED = Path(__file__).parent / "shipped"
"""The repository's folder `recipes`, as installed by the wheel."""

SUFFIXES = (".yaml", ".yml")

LISTED = 8
"""Most of the user's own recipes that a hint lists."""


def shipped_folder() -> Path:
    """The folder of the shipped recipes: the wheel's, or that of a source checkout."""
    checkout = Path(__file__).parents[2]
    if not SHIPPED.is_dir() and (checkout / "pyproject.toml").is_file():
        return checkout / "recipes"
    return SHIPPED


def shipped_recipes() -> dict[str, Path]:
    """The shipped recipes by name, such as ``camvid/student``."""
    folder = shipped_folder()
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}


def find_recipe(source: str | Path) -> Path:
    """The file of a recipe.

    Parameters
    ----------
    source
        A file; if there is no such file, a recipe that ships with vss: ``recipes/camvid/student.yaml``,
        ``camvid/student.yaml`` or ``camvid/student``.

    Raises
    ------
    VssError
        There is neither; suggests similar names.
    """
    path = Path(os.path.expanduser(source))  # unlike Path.expanduser, leaves ~nobody alone
    return path if path.is_file() else _shipped(path, path)


def find_named(source: str, file: Path) -> Path:
    """The file of a recipe that another file names: relative to that file, else a shipped one."""
    named = Path(os.path.expanduser(source))
    path = file.parent / named
    if path.is_file():
        short = Path(os.path.normpath(path))  # `a/../b.yaml` is b.yaml, unless `a` is a link
        return short if short.is_file() and short.samefile(path) else path
    return _shipped(named, path)


def _shipped(path: Path, beside: Path) -> Path:
    """The shipped recipe of this name, or an error that suggests shipped recipes and the user's own near ``beside``."""
    shipped = shipped_recipes()
    if not path.is_absolute():
        name = path.with_suffix("") if path.suffix in SUFFIXES else path
        name = name.relative_to("recipes") if name.parts[:1] == ("recipes",) else name
        if name.as_posix() in shipped:
            return shipped[name.as_posix()]
    if path.is_dir():
        inside = sorted(str(file) for file in path.glob("*.yaml"))
        raise VssError(f"recipe {path} is a folder", f"name one of {', '.join(inside)}" if inside else "name a file")
    # The stem is compared too: `student-camvid.yaml` is near `camvid/student` to a person, but not to difflib.
    near = difflib.get_close_matches(path.with_suffix("").as_posix(), [*shipped, *(f"recipes/{n}" for n in shipped)])
    own = _own(beside)
    mine = [own[stem] for stem in difflib.get_close_matches(path.stem.lower(), list(own))]
    names = [*mine, *(f"recipes/{name.removeprefix('recipes/')}.yaml" for name in near)]
    if names:
        raise VssError(f"no recipe {path}", f"did you mean {', '.join(dict.fromkeys(names))}?")
    yours = f"yours are {', '.join(list(own.values())[:LISTED])}; " if own else ""
    listed = ", ".join(f"recipes/{name}.yaml" for name in shipped)
    raise VssError(f"no recipe {path}", f"{yours}give a YAML file, or one of {listed}")


def _own(path: Path) -> dict[str, str]:
    """The user's own recipes by stem: YAML files in the folder of a path, and in the working directory."""
    found: dict[str, str] = {}
    for folder in (path.parent, Path()):
        try:
            files = sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES and file.is_file())
        except OSError:
            continue
        for file in files:
            found.setdefault(file.stem.lower(), str(file))
    return found
