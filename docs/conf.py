"""How the documentation becomes a site: ``nox -s docs``."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import vsscli

project, author, copyright = "vss", "the authors of vsscli", "the authors of vsscli, Apache-2.0"
version = release = vsscli.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme, html_title = "furo", "vss"
html_copy_source = False
exclude_patterns = ["_build"]
myst_heading_anchors = 3
suppress_warnings = ["misc.highlighting_failure"]  # YAML with an ellipsis in it
napoleon_google_docstring = False
autodoc_typehints, autodoc_member_order = "signature", "bysource"
autodoc_default_options = {"members": True, "special-members": "__len__"}
default_role = "code"  # names in single backticks


def write_commands(app: Any) -> None:
    """Make the reference of the command line: what ``--help`` says of every command."""
    from vsscli.cli.app import build

    program = build()
    pages = ["# Command line\n"]
    context: Any = program.make_context("vss", [], resilient_parsing=True)
    for name, command in program.commands.items():
        with command.context_class(command, info_name=name, parent=context, max_content_width=100) as own:
            pages.append(f"## vss {name}\n\n```text\n{command.get_help(own)}\n```\n")
    Path(app.srcdir, "reference", "commands.md").write_text("\n".join(pages))


def write_house(app: Any) -> None:
    """Make the list of files: what each says of itself in its first line."""
    house = Path(vsscli.__file__).parent
    pages = ["# The house, file by file\n"]
    for folder in sorted({path.parent for path in house.rglob("*.py")}):
        pages.append(f"## {folder.relative_to(house.parent)}/\n")
        for path in sorted(folder.glob("*.py")):
            words = ast.get_docstring(ast.parse(path.read_text()))
            if words:
                pages.append(f"- `{path.name}`: {words.partition(chr(10))[0]}")
        pages.append("")
    Path(app.srcdir, "reference", "house.md").write_text("\n".join(pages))


def setup(app: Any) -> None:
    app.connect("builder-inited", write_commands)
    app.connect("builder-inited", write_house)
