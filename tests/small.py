"""A recipe that trains in seconds, and ways to run ``vss`` as a user does."""

from __future__ import annotations

from pathlib import Path

import yaml

from vsscli.recipes.schema import Recipe

SCENE = {"videos": 2, "unlabelled_videos": 2, "val_videos": 1, "frames": 6, "size": [48, 64]}


def small_recipe(root: Path, name: str = "small", **train: object) -> Recipe:
    """A recipe on drawn videos under ``root``; ``train`` overrides its training section."""
    return Recipe.model_validate(
        {
            "name": name,
            "data": {
                "name": "street",
                "root": str(root),
                "classes": "classes.json",
                "unlabelled": ["unlabelled"],
                "scene": SCENE,
            },
            "model": {"encoder": "resnet10t", "channels": 16, "pretrained": "none", "dropout": 0.1},
            "augment": {"crop": [48, 64], "scale": [0.75, 1.5]},
            "train": {
                "steps": 6,
                "batch_size": 4,
                "lr": 1e-3,
                "workers": 0,
                "threads": 1,
                "log_every": 1,
                "checkpoint_every": 2,
                **train,
            },
        }
    )


def write_recipe(path: Path, recipe: Recipe) -> Path:
    """A recipe as a file for the command line."""
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    return path
