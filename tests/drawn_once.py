"""Drawn videos that are copies of others, drawn once in every process: a twentieth of the time."""

from __future__ import annotations

import shutil
import tempfile
from hashlib import sha256
from pathlib import Path

from vsscli.drawn.config import Scene
from vsscli.drawn.scene import draw_scene
from vsscli.talk import SILENCE, Talk

_drawn = tempfile.TemporaryDirectory(prefix="vss-drawn-")


def copy_scene(scene: Scene, root: Path, talk: Talk = SILENCE) -> None:
    """What `draw_scene` does."""
    kept = Path(_drawn.name, sha256(scene.model_dump_json().encode()).hexdigest())
    if not root.exists():
        draw_scene(scene, kept)
        try:
            shutil.copytree(kept, root)
        except OSError:  # a full disk, a folder that can't be written: what is tested
            shutil.rmtree(root, ignore_errors=True)
    draw_scene(scene, root, talk)
