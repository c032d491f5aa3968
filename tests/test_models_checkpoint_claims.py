"""Checkpoints that claim more memory than their size are refused before anything is allocated."""

from __future__ import annotations

import struct
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from checkpoint_samples import rewritten, tiny

from vsscli.errors import VssError
from vsscli.models.checkpoints import (
    load_checkpoint,
    save_checkpoint,
)
from vsscli.models.torchfile import read_torch


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "last.pt"


class TestWhatClaimsMoreThanItWeighs:
    """Nothing here allocates the memory that it claims; it is not the memory limit of the process that stops it."""

    def refuse(self, path: Path, message: str) -> None:
        assert path.stat().st_size < 50_000
        tracemalloc.start()
        try:
            with pytest.raises(VssError, match=message) as caught:
                load_checkpoint(path)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 100 * 2**20
        assert "weights_only" not in caught.value.message + caught.value.hint

    @pytest.mark.parametrize("times", [1, 8])
    def test_bytes_by_number(self, times: int, path: Path) -> None:
        one = b"cbuiltins\nbytearray\nJ" + struct.pack("<i", 2**31 - 1) + b"\x85R"
        save_checkpoint(path, tiny())
        rewritten(path, {"archive/data.pkl": b"\x80\x02](" + one * times + b"e."})
        self.refuse(path, "bytes are a int")

    def test_a_deflated_pickle(self, path: Path) -> None:
        save_checkpoint(path, tiny())
        rewritten(path, {"archive/data.pkl": b"\x80\x02" + b"N0" * 10_000_000 + b"N."}, zipfile.ZIP_DEFLATED)
        self.refuse(path, "its records are compressed")

    def test_a_second_pickle(self, path: Path) -> None:
        save_checkpoint(path, tiny())
        rewritten(path, {"other/data.pkl": b"\x80\x02N."})
        self.refuse(path, "it holds 2 pickles")

    def test_a_record_twice(self, path: Path) -> None:
        save_checkpoint(path, tiny())
        with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
            warnings.simplefilter("ignore")
            archive.writestr("archive/data.pkl", b"\x80\x02N.")
        self.refuse(path, "two records of one name")

    def test_a_stretched_tensor(self, path: Path) -> None:
        path.parent.mkdir()
        torch.save({"vss": "{}", "weights": {"w": torch.ones(1).expand(2**30)}}, path)
        self.refuse(path, "a storage of 1")

    def test_many_tensors_that_are_stretched_a_little(self, path: Path) -> None:
        path.parent.mkdir()
        one = torch.ones(1).expand(2**23)
        torch.save({"vss": "{}", "weights": [one[number:] for number in range(100)]}, path)
        self.refuse(path, "its tensors claim more than it holds")

    def test_a_pickle_whose_bytes_are_not_those_of_its_checksum(self, path: Path) -> None:
        save_checkpoint(path, tiny())
        whole = bytearray(path.read_bytes())
        whole[whole.index(b'"step"') + 1] ^= 1
        path.write_bytes(whole)
        self.refuse(path, "does not match its checksum")


def test_a_tensor_that_is_stretched_a_little_is_read(path: Path) -> None:
    path.parent.mkdir()
    torch.save({"w": torch.ones(1, 2).expand(30, 2)}, path)
    assert torch.equal(read_torch(path, "weights")["w"], torch.ones(30, 2))
