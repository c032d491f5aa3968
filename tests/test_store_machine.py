"""A store under any order of writes, crashes, damage, repair, clearing and deletion, with a dict as the model."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from store_crashes import CRASHES, at_step
from store_samples import class_table, stems

from vsscli.errors import VssError
from vsscli.store.header import Header
from vsscli.store.reader import open_store
from vsscli.store.upkeep import collect, measure
from vsscli.store.verify import repair, verify
from vsscli.store.writer import StoreWriter

SIZE = (3, 4)
LENGTHS = {"alley": 3, "lane": 64, "street": 130}
HEADER = Header("pseudo", class_table(), "", {"level": 1}, {})

videos = st.sampled_from(sorted(LENGTHS))


def truth(video: str) -> np.ndarray:
    """A video's labels, whenever they are written."""
    generator = np.random.default_rng(LENGTHS[video])
    return generator.integers(0, 5, (LENGTHS[video], *SIZE)).astype(np.uint8)


class Stores(RuleBasedStateMachine):
    """The model is a dict from each video in the store to the numbers of its recorded segments."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "a.zarr"
        self.model: dict[str, set[int]] = {}
        self.sync = os.fsync

    @initialize()
    def start(self) -> None:
        os.fsync = lambda handle: None

    def teardown(self) -> None:
        os.fsync = self.sync
        shutil.rmtree(self.folder)

    def _write(self, video: str, segments: int) -> None:
        with StoreWriter(self.path, HEADER) as writer:
            for segment in writer.pending(video, stems(LENGTHS[video]), SIZE)[:segments]:
                writer.write(video, segment, {"pseudo_label": truth(video)[segment.start : segment.stop]})

    @rule(video=videos, segments=st.integers(0, 3))
    def put(self, video: str, segments: int) -> None:
        self._write(video, segments)
        there = self.model.setdefault(video, set())
        missing = [number for number in range(-(-LENGTHS[video] // 64)) if number not in there]
        there.update(missing[:segments])

    @rule(video=videos, step=st.integers(0, 45))
    def crash(self, video: str, step: int) -> None:
        child = os.fork()
        if child == 0:
            try:
                with at_step(step, lambda: os._exit(9), CRASHES):
                    self._write(video, 3)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        # Only the record shows how far it came; it can only have added segments.
        before = self.model.get(video, set())
        if (self.path / video / "zarr.json").is_file():
            now = set(open_store(self.path).record(video).segments)
            assert before <= now <= set(range(-(-LENGTHS[video] // 64)))
            self.model[video] = now
        else:
            assert video not in self.model

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        video = data.draw(st.sampled_from(sorted(self.model)))
        shutil.rmtree(self.path / video)
        del self.model[video]

    @precondition(lambda self: any(self.model.values()))
    @rule(data=st.data(), how=st.sampled_from(["flip", "truncate", "delete"]))
    def damage_and_repair(self, data: st.DataObject, how: str) -> None:
        video = data.draw(st.sampled_from(sorted(name for name, there in self.model.items() if there)))
        number = data.draw(st.sampled_from(sorted(self.model[video])))
        shard = self.path / video / "pseudo_label" / "c" / str(number) / "0" / "0"
        whole = shard.read_bytes()
        if how == "delete":
            shard.unlink()
        else:
            place = data.draw(st.integers(0, len(whole) - 1))
            flipped = whole[:place] + bytes([whole[place] ^ 8]) + whole[place + 1 :]
            shard.write_bytes(flipped if how == "flip" else whole[:place])
        store = open_store(self.path)
        damaged = verify(store)
        assert [(damage.video, damage.segment) for damage in damaged] == [(video, number)]
        repair(store, damaged)
        self.model[video].discard(number)

    @rule()
    def gc(self) -> None:
        collect(self.path)
        if self.path.exists():
            assert measure(self.path).leftovers == 0
        assert {entry.name for entry in self.folder.iterdir()} <= {"a.zarr"}

    @invariant()
    def what_is_recorded_is_read_and_nothing_else(self) -> None:
        if not self.path.exists():
            assert self.model == {}
            return
        store = open_store(self.path)  # every time anew
        assert set(store.videos(complete=False)) == set(self.model)
        for video, there in self.model.items():
            assert store.record(video).is_complete == (len(there) == -(-LENGTHS[video] // 64))
            for start in range(0, LENGTHS[video], 64):
                frames = slice(start, min(start + 64, LENGTHS[video]))
                if start // 64 in there:
                    assert (store.read(video, "pseudo_label", frames) == truth(video)[frames]).all()
                else:
                    with pytest.raises(VssError, match="not there yet"):
                        store.read(video, "pseudo_label", frames)
        assert verify(store) == []


TestStores = Stores.TestCase
TestStores.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
