"""Semi-supervised video semantic segmentation: run the network once, decide many times.

>>> import vsscli
>>> model = vsscli.load("runs/student/last.pt")  # doctest: +SKIP
>>> label = model.label(frame)  # doctest: +SKIP

Every name is imported on first use, so that ``import vsscli`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vsscli.api.model import Model as Model
    from vsscli.api.model import load as load
    from vsscli.api.store import OpenStore as OpenStore
    from vsscli.api.store import open_store as open_store
    from vsscli.context import Context as Context
    from vsscli.errors import VssError as VssError
    from vsscli.pipeline.compare import compare as compare
    from vsscli.pipeline.ensemble import ensemble as ensemble
    from vsscli.pipeline.evaluate import evaluate as evaluate
    from vsscli.pipeline.export import export_labels as export_labels
    from vsscli.pipeline.incoming import import_labels as import_labels
    from vsscli.pipeline.pseudo import pseudo as pseudo
    from vsscli.pipeline.report import write_report as write_report
    from vsscli.pipeline.train import train as train
    from vsscli.recipes.load import load_recipe as load_recipe
    from vsscli.report.progress import Progress as Progress
    from vsscli.stages.run import run as run

__version__ = "0.1.0"

_HOMES = {
    "Context": "context",
    "Model": "api.model",
    "OpenStore": "api.store",
    "Progress": "report.progress",
    "VssError": "errors",
    "compare": "pipeline.compare",
    "ensemble": "pipeline.ensemble",
    "evaluate": "pipeline.evaluate",
    "export_labels": "pipeline.export",
    "import_labels": "pipeline.incoming",
    "load": "api.model",
    "load_recipe": "recipes.load",
    "open_store": "api.store",
    "pseudo": "pipeline.pseudo",
    "run": "stages.run",
    "train": "pipeline.train",
    "write_report": "pipeline.report",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
