"""Imports run downwards, and the rooms that must not import torch do not."""

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
    "project",
    "stages",
    "pipeline",
    "submission",
    "training",
    "recipes",
    "evaluation",
    "inference",
    "fusion",
    "exchange",
    "page",
    "report",
    "store",
    "models",
    "metrics",
    "data",
    "drawn",
    "engine",
]
CELLAR = {
    "errors",
    "talk",
    "context",
    "files",
    "structured",
    "yamltext",
    "jsonparts",
    "names",
    "printable",
    "inside",
    "section",
    "threads",
}


def imported_modules(path: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module)
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
    return {name for name in modules if name.startswith("vsscli.")}


def imported_rooms(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imported_modules(path)}


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


def test_what_depends_on_a_family_of_networks_asks_its_configuration() -> None:
    """Outside of the families' folders only the catalogue knows their classes, and recipes know the default."""
    families = {path.parent.name for path in (HOUSE / "models").glob("*/config.py")}
    assert {"light", "mask2former", "mmseg"} <= families
    known = {
        path.relative_to(HOUSE).as_posix()
        for path in HOUSE.rglob("*.py")
        if not {path.parent.name} & {*families, "official"}
        and any(
            name.split(".")[1:2] == ["models"] and name.split(".")[2] in families for name in imported_modules(path)
        )
    }
    assert known == {"models/catalogue.py", "recipes/schema.py"}


@pytest.mark.parametrize(
    "modules",
    [
        *("metrics/*.py", "store/*.py", "exchange/*.py", "recipes/*.py", "fusion/*.py", "engine/*.py", "**/config.py"),
        *("evaluation/*.py", "pipeline/ensemble.py", "pipeline/evaluate.py", "pipeline/export.py"),
    ],
)
def test_what_works_from_stores_and_what_recipes_say_do_not_import_torch_on_any_way(modules: str) -> None:
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


def test_the_page_of_the_house_and_readme_know_every_room() -> None:
    there = {path.name + "/" for path in HOUSE.iterdir() if (path / "__init__.py").is_file()}
    there |= {path.name for path in HOUSE.glob("*.py")} - {"__init__.py", "__main__.py"}
    table = (HOUSE.parent / "docs" / "architecture.md").read_text().partition("## Rooms")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert {name.strip("` ") for row in rows for name in row.split(",")} == there
    tree = (HOUSE.parent / "README.md").read_text().partition("## The house")[2].partition("\n## ")[0]
    assert {name for name in there if name.endswith("/")} <= set(tree.split())


def test_every_file_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(HOUSE))
        for path in HOUSE.rglob("*.py")
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []
