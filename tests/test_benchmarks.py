"""Every benchmark starts: what it needs of the package is there."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "benchmarks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))
SHARED = {"bench", "steps"}
"""Parts of others, and no programs."""


@pytest.mark.parametrize("name", NAMES)
def test_it_starts(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert name not in sys.stdlib_module_names  # which the programs beside it would import in its place
    for other in NAMES:
        monkeypatch.delitem(sys.modules, other, raising=False)
    monkeypatch.syspath_prepend(FOLDER)
    module = importlib.import_module(name)
    if name in SHARED:
        return
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 0
    assert "usage: " in capsys.readouterr().out
