"""Imports run downwards, and the rooms that promise to do without torch do."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vsscli

HOUSE = Path(vsscli.__file__).parent
# From the roof to the cellar; a room may import from the rooms below it.
ROOMS = [
    "cli",
    "api",
    "stages",
    "pipeline",
    "submission",
    "training",
    "recipes",
    "evaluation",
    "inference",
    "fusion",
    "report",
    "store",
    "models",
    "metrics",
    "data",
    "drawn",
]
CELLAR = {
    "errors",
    "talk",
    "context",
    "files",
    "structured",
    "yamltext",
    "names",
    "printable",
    "inside",
    "section",
    "threads",
}


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("vsscli.")}
    return rooms


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_from_the_rooms_below_it(room: str) -> None:
    below = set(ROOMS[ROOMS.index(room) :]) | CELLAR
    files = sorted((HOUSE / room).rglob("*.py"))
    assert files
    upwards = {str(path.relative_to(HOUSE)): sorted(imported_rooms(path) - below) for path in files}
    assert {path: rooms for path, rooms in upwards.items() if rooms} == {}


def test_models_know_no_recipe_and_no_store() -> None:
    for path in (HOUSE / "models").rglob("*.py"):
        assert not imported_rooms(path) & {"recipes", "store"}, path


@pytest.mark.parametrize("modules", ["metrics/*.py", "store/*.py", "recipes/*.py", "fusion/*.py", "**/config.py"])
def test_rooms_without_torch_and_what_recipes_say_do_not_import_it_on_any_way(modules: str) -> None:
    names = [
        "vsscli." + ".".join(path.relative_to(HOUSE).with_suffix("").parts)
        for path in sorted(HOUSE.glob(modules))
        if path.stem != "__init__"
    ]
    imports = "".join(f"import {name}\n" for name in names)
    script = f"import sys\n{imports}assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=HOUSE.parent, check=False)
    assert names
    assert done.returncode == 0, done.stderr
