"""A kind of stage is one object: one that is missing or incomplete is found on import."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, get_args

import pytest

from vsscli.recipes.pipeline import AnyStage, EvalStage, Pipeline, ShowStage, Stage
from vsscli.stages.job import Job
from vsscli.stages.kind import Kind
from vsscli.stages.kinds import KINDS, require_complete
from vsscli.stages.kinds.show import ShowKind

DECLARED = get_args(get_args(AnyStage)[0])


@pytest.mark.parametrize("declared", DECLARED)
def test_every_kind_that_a_pipeline_may_declare_has_its_object(declared: type[Stage]) -> None:
    stages = {"t": {"do": "train", "recipe": "r"}, "v": {"do": "predict", "model": "t"}}
    sections: dict[str, dict[str, Any]] = {
        "train": {"recipe": "r"},
        "predict": {"model": "t"},
        "ensemble": {"of": ["v", "v"]},
        "eval": {"rows": [{"name": "v", "of": "v"}]},
        "report": {"of": ["v"]},
    }
    (kind,) = get_args(declared.model_fields["do"].annotation)
    stage = {"do": kind, **sections.get(kind, {"of": "v"})}
    job = Job(Pipeline.model_validate({"name": "p", "stages": {**stages, "it": stage}}), {})
    assert type(job.kind("it")) is KINDS[declared]
    assert job.kind("it").stage.takes() == (() if kind == "train" else ("t",) if kind == "predict" else ("v",))


def test_a_kind_that_is_missing_or_leaves_something_unsaid_is_named() -> None:
    class Half(ShowKind):
        fault = Kind.fault  # type: ignore[assignment]

    with pytest.raises(TypeError, match=r"abstract method .?fault"):
        Half(Job(Pipeline.model_validate({"name": "p", "stages": {"t": {"do": "train", "recipe": "r"}}}), {}), "t")
    with pytest.raises(TypeError, match="ShowStage has no complete kind: fault"):
        require_complete({**KINDS, ShowStage: Half})
    with pytest.raises(TypeError, match="EvalStage has no complete kind"):
        require_complete({declared: kind for declared, kind in KINDS.items() if declared is not EvalStage})


def test_values_are_checked_without_torch() -> None:
    script = "import sys, vsscli.stages.faults\nassert not {'torch', 'scipy', 'skimage'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", script], check=True)
