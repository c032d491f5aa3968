"""The summary of a run of a pipeline, as two files: ``summary.json`` for programs, ``table.md`` for people."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import vsscli
from vsscli.files import write_text
from vsscli.inside import Inside
from vsscli.pipeline.environment import inspect_environment
from vsscli.recipes.graph import in_order
from vsscli.report.table import markdown_table
from vsscli.stages.job import Job
from vsscli.stages.record import Record, Result
from vsscli.stages.scores import ScoreTable
from vsscli.structured import digest_of

TABLE = "table.md"


@dataclass(frozen=True)
class Outcome:
    """A stage that ran or was cached, why it ran, and its result."""

    name: str
    status: Literal["cached", "done"]
    reason: str
    record: Record | None
    result: Result


def tables_of(job: Job, outcomes: Sequence[Outcome]) -> list[ScoreTable]:
    """The tables of those outcomes that have one."""
    tables = (job.kind(outcome.name).table(outcome.result) for outcome in outcomes)
    return [table for table in tables if table is not None]


def write_summary(
    job: Job, outcomes: Sequence[Outcome], command: Sequence[str], seconds: float, *, write: bool = True
) -> tuple[Path, Path | None]:
    """Write ``summary.json`` and, if there are scores, ``table.md``; else that is removed. Returns both paths.

    ``command`` is the command line, which took ``seconds``. Without ``write`` nothing is written.
    """
    order = in_order(job.pipeline.stages)
    outcomes = sorted(outcomes, key=lambda outcome: order.index(outcome.name))
    tables = tables_of(job, outcomes)
    summary, table = job.home / "summary.json", job.home / TABLE if tables else None
    if write:
        values = summary_values(job, outcomes, tables, command, seconds)
        write_text(summary, json.dumps(values, indent=1, allow_nan=False) + "\n")
        if table is None:
            Inside(job.workspace).unlink(job.home / TABLE)
        else:
            texts = [markdown_table(*scores.cells()) for scores in tables]
            if len(tables) > 1:
                texts = [f"## {scores.name}\n\n{text}" for scores, text in zip(tables, texts, strict=True)]
            write_text(table, "\n\n".join(texts) + "\n")
    return summary, table


def summary_values(
    job: Job, outcomes: Sequence[Outcome], tables: Sequence[ScoreTable], command: Sequence[str], seconds: float
) -> dict[str, Any]:
    """The summary as plain JSON values."""
    found = inspect_environment(job.workspace)
    return {
        "pipeline": job.pipeline.name,
        "about": job.pipeline.about,
        "command": shlex.join(command),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "seconds": round(seconds, 1),
        "commit": commit(),
        "versions": found.versions,
        "machine": {"cores": found.cores, "memory": found.memory, "gpus": list(found.gpus)},
        "stages": [_stage_values(job, outcome) for outcome in outcomes],
        "tables": {scores.name: scores.to_json() for scores in tables},
    }


def commit() -> str | None:
    """The commit of the package's checkout, with ``+`` if files were changed; `None` for an installed wheel."""
    folder = Path(vsscli.__file__).parents[1]
    if not (folder / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20, check=True
        )
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _stage_values(job: Job, outcome: Outcome) -> dict[str, Any]:
    record, result = outcome.record, outcome.result
    return {
        "name": outcome.name,
        "do": job.stage(outcome.name).do,
        "status": outcome.status,
        "reason": outcome.reason,
        "key": digest_of(record.key) if record is not None else None,
        "seconds": record.seconds if record is not None else None,
        "flops": record.flops if record is not None else None,
        "result": os.path.relpath(result.path, job.workspace),
        "fingerprint": result.fingerprint,
        "facts": result.facts,
    }
