"""What the documentation shows is true: commands parse, recipes are valid, Python runs, and the site builds.

A block that can't be run says why in a comment before it: ``<!-- not run: … -->``.
"""

from __future__ import annotations

import doctest
import importlib
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from small import small_recipe, write_recipe

import vsscli
from vsscli.cli.app import build
from vsscli.models.build import build_network
from vsscli.recipes.load import load_pipeline, load_recipe

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"(?:<!-- not run: ([^>]+) -->\n+)?^```([^\n]*)\n(.*?)^```$", re.M | re.S)
LANGUAGES = {"sh", "text", "yaml", "python", "{toctree}", "{eval-rst}"}


@dataclass(frozen=True)
class Block:
    """A fenced block: where it stands, its language, its text, and why it is not run if it is not."""

    place: str
    language: str
    text: str
    excuse: str


def blocks() -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in FENCE.finditer(text):
            line = text[: match.start(2)].count("\n") + 1
            found.append(Block(f"{page.relative_to(ROOT)}:{line}", match[2], match[3], match[1] or ""))
    return found


BLOCKS = blocks()


def of(language: str) -> list[Any]:
    return [pytest.param(block, id=block.place) for block in BLOCKS if block.language == language and not block.excuse]


def test_every_block_says_what_it_is() -> None:
    assert {block.place: block.language for block in BLOCKS if block.language not in LANGUAGES} == {}
    assert len(BLOCKS) > 40


def commands(text: str) -> list[list[str]]:
    """The commands of a block, each as its words, without variables before it and comments behind it."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(re.sub(r"[\[\]]", "", line), comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words.pop(0)
        if words:
            found.append(words)
    return found


@pytest.mark.parametrize("block", of("sh"))
def test_commands_parse_and_what_they_name_of_ours_is_there(block: Block) -> None:
    program: Any = build()
    for words in commands(block.text):
        for word in words:
            if re.fullmatch(r"(recipes|tests)/[\w./-]+\.\w+", word):
                assert (ROOT / word).is_file(), word
        if words[0] == "nox" and "-s" in words:
            assert f"def {words[words.index('-s') + 1]}(" in (ROOT / "noxfile.py").read_text()
        if words[0] == "vss" and len(words) > 1:
            command = program.commands[words[1]]
            command.make_context(words[1], words[2:])  # what the command refuses is an error here


def test_files_that_contributing_names_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(r"`((?:vsscli|tests|docs|recipes)/[\w/.-]+)`", text)
    assert len(named) > 15
    assert [name for name in named if not (ROOT / name).exists()] == []
    for name, file in re.findall(r"its line in `(\w+)`|its name in `(\w+)`", text):
        assert re.search(
            rf"^{name or file}\b", "\n".join((ROOT / one).read_text() for one in named if one.endswith(".py")), re.M
        )


def test_what_contributing_sets_up_is_there() -> None:
    named = re.search(r'-e "\.\[([\w,]+)\]"', (ROOT / "CONTRIBUTING.md").read_text())
    assert named
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(named[1].split(",")) <= extras.keys()
    assert (ROOT / ".pre-commit-config.yaml").is_file()


@pytest.mark.parametrize("block", of("yaml"))
def test_recipes_are_valid(block: Block, tmp_path: Path) -> None:
    values = yaml.safe_load(block.text)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"name": "mine", **values}, sort_keys=False))
    if "stages" in values:
        for name in ("teacher", "student", "retrain"):
            shutil.copy(ROOT / "recipes" / "demo" / f"{name}.yaml", tmp_path)
        assert load_pipeline(path).stages
    else:
        assert load_recipe(path).name == values.get("name", "mine")


def prepared(page: str, home: Path) -> dict[str, Any]:
    """What a reader of a page has at hand when they come to its Python."""
    if page == "docs/models.md":
        config = {"family": "mask2former", "backbone": "swin_tiny", "pretrained": "none"}
        network = build_network(config, 5, load_pretrained=False)
        return {"network": network, "torch": torch, "images": torch.zeros(1, 3, 64, 64), "height": 64, "width": 64}
    if page == "docs/store.md":
        shutil.copytree(ROOT / "tests" / "fixtures" / "format4" / "prediction.zarr", home / "predictions.zarr")
        return {}
    for folder in ("runs/demo", "recipes/demo"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(("teacher", "student")):
        recipe = small_recipe(home / "data", name).model_copy(update={"seed": seed})
        vsscli.train(recipe, home / "runs" / "demo" / name)
    again = small_recipe(home / "data", "retrained", steps=2).model_dump(mode="json")
    again["unlabelled"] = {"batch_size": 2}
    for name in ("recipes/demo/retrain.yaml", "mine.yaml"):
        write_recipe(home / name, vsscli.load_recipe(_written(home, again)))
    return {"frame": np.zeros((48, 64, 3), np.uint8)}


def _written(home: Path, values: dict[str, Any]) -> Path:
    path = home / "values.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.parametrize("block", of("python"))
def test_python_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = prepared(block.place.partition(":")[0], tmp_path)
    exec(compile(block.text, block.place, "exec"), names)


@pytest.mark.parametrize("path", sorted(path for path in (ROOT / "vsscli").rglob("*.py") if ">>>" in path.read_text()))
def test_examples_in_docstrings_are_so(path: Path) -> None:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert result.attempted or "doctest: +SKIP" in path.read_text()
    assert not result.failed


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built without a warning."""
    home = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "docs", home / "docs", ignore=shutil.ignore_patterns("_build"))
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    done = subprocess.run(
        [*command, home / "docs", home / "html"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    return (home / "html").resolve()


def test_the_reference_is_made_from_the_code(site: Path) -> None:
    commands_page = (site / "reference" / "commands.html").read_text()
    assert all(f"vss {command}" in commands_page for command in build().commands)
    assert "predict_files" in (site / "reference" / "python.html").read_text()


class Article(HTMLParser):
    """The text of a page, its first heading, and the pages that it links to, without navigation, head and foot."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.page, self.inside, self.heading = page, 0, ""
        self.words: list[str] = []
        self.links: list[Path] = []
        self._in_heading = False
        self.feed(page.read_text())
        self.text = "".join(self.words)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside += tag == "article"
        self._in_heading = tag == "h1"
        target = (dict(attrs).get("href") or "").partition("#")[0]
        if tag == "a" and self.inside and target and "//" not in target:
            self.links.append((self.page.parent / target).resolve())

    def handle_endtag(self, tag: str) -> None:
        self.inside -= tag == "article"
        self._in_heading = self._in_heading and tag != "h1"

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.words.append(data)
            self.heading += data if self._in_heading else ""


def clicks(site: Path, begin: list[Path]) -> dict[Path, int]:
    """How many clicks each page is away: those to begin with are one."""
    away = dict.fromkeys(begin, 1)
    waiting = list(begin)
    for page in waiting:
        for link in Article(page).links:
            if link not in away and link.suffix == ".html":
                away[link] = away[page] + 1
                waiting.append(link)
    return away


@pytest.mark.parametrize("door", ["README.md", "index.html"])
def test_first_steps_and_the_papers_recipes_are_two_clicks_away(site: Path, door: str) -> None:
    if door == "README.md":
        named = re.findall(r"\]\(docs/([\w-]+)\.md", (ROOT / door).read_text())
        begin = [site / f"{name}.html" for name in dict.fromkeys(named)]
    else:
        begin = list(dict.fromkeys(Article(site / door).links))
    away = clicks(site, begin)
    first, paper = (Article(site / f"{name}.html") for name in ("first-steps", "paper"))
    assert away[first.page] <= 2
    assert first.heading.startswith("First steps: clips of your own")
    assert {"vss init", "vss run", "vss export"} <= set(first.text.splitlines())
    assert away[paper.page] <= 2
    assert paper.heading.startswith("The paper’s figures, and the recipe behind each")
    recipes = [path for path in (ROOT / "recipes").glob("pvuw2024*/*.yaml") if path.name.startswith("table")]
    recipes += (ROOT / "recipes").glob("pvuw2024*.yaml")
    assert len(recipes) == 5
    assert [path for path in recipes if str(path.relative_to(ROOT)) not in paper.text] == []
