"""Weights in each of torch's file formats, and compressed."""

from __future__ import annotations

import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import torch


def torch_zip(path: Path, content: Any) -> None:
    torch.save(content, path)


def torch_legacy(path: Path, content: Any) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def pickled_tensors(path: Path, content: Any) -> None:
    """As ``pickle.dump`` writes tensors: each storage a legacy file of torch in the pickle."""
    path.write_bytes(pickle.dumps(content))


def zip_of_file(path: Path, content: Any) -> None:
    torch.save(content, path.with_suffix(".inner"))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path.with_suffix(".inner"), "released/mask2former_beit_adapter_large.pth")


def tar_of_file(path: Path, content: Any) -> None:
    torch_legacy(path.with_suffix(".inner"), content)
    with tarfile.open(path, "w") as archive:
        archive.add(path.with_suffix(".inner"), "model.pth")


FORMATS = [torch_zip, torch_legacy, pickled_tensors, zip_of_file, tar_of_file]
