"""Several processes of one command."""

from __future__ import annotations

from datetime import timedelta

import pytest
from lightning_fabric import Fabric

from vsscli.inference.processes import _launched


def test_processes_wait_for_the_first_one_as_long_as_a_validation_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fabric, "launch", lambda fabric: None)  # nothing is started
    fabric = _launched.__wrapped__("cpu", 2, "32")
    # What Fabric gives to torch.distributed.init_process_group; without it this is half an hour.
    assert fabric.strategy._timeout >= timedelta(days=1)
    assert fabric.strategy.distributed_sampler_kwargs["num_replicas"] == 2
