"""Python files for annotation tools that ask for labels themselves: CVAT's command line, Label Studio's ML backend.

They are written as text, because what they import is the tool's own library, which vss does without.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vsscli.errors import VssError

CVAT, LABEL_STUDIO = "cvat-function", "label-studio-backend"
FUNCTIONS = (CVAT, LABEL_STUDIO)


@dataclass(frozen=True)
class Answering:
    """What answers: a prediction store, or a checkpoint whose network is run; and how sure a label must be."""

    store: Path | None = None
    model: Path | None = None
    min_certainty: float = 0.0


def function_text(kind: str, answering: Answering) -> str:
    """The text of the file for a tool.

    Raises
    ------
    VssError
        There is no such tool, or a model is asked how sure it is.
    """
    if kind not in FUNCTIONS:
        raise VssError(f"--to {kind}: no such function", f"it is one of {', '.join(FUNCTIONS)}")
    if answering.model is None:
        place, source = answering.store, STORE
    else:
        place, source = answering.model, MODEL
        if answering.min_certainty:
            raise VssError("--min-certainty needs a store, which knows how sure its labels are", "leave out --model")
    assert place is not None
    text = (CVAT_FILE if kind == CVAT else LABEL_STUDIO_FILE).replace("# SOURCE\n", source)
    return text.replace("PLACE", repr(str(place.resolve()))).replace("MIN_CERTAINTY", repr(answering.min_certainty))


STORE = """from vsscli.exchange.answers import StoreAnswers, outlines

ANSWERS = StoreAnswers(PLACE, min_certainty=MIN_CERTAINTY)
CLASSES = ANSWERS.table.names
numbering = ANSWERS.numbering


def label_of(name, image):
    return ANSWERS.label(name, image.shape[:2])
"""

MODEL = """import vsscli
from vsscli.exchange.answers import outlines

MODEL = vsscli.load(PLACE)
CLASSES = MODEL.classes


def numbering(video, first=None):
    return first or 0


def label_of(name, image):
    return MODEL.label(image)
"""

CVAT_FILE = '''"""Answers CVAT's automatic annotation with masks of vss; `vss export --to cvat-function` wrote it.

In an environment that has vsscli and cvat-cli:

    cvat-cli task auto-annotate TASK --function-file THIS_FILE --allow-unmatched-labels

Frames are found by name. For a task made from a video, whose frames are called frame_000000 and so on, say which video
it is: -p video=str:NAME; and if its frames are numbered from 1 on, as in many folders of images: -p first=int:1. Frames
that the prediction does not hold get nothing.
"""

import re

import cvat_sdk.auto_annotation as cvataa
import numpy as np
from cvat_sdk.masks import encode_mask
# SOURCE

class Function:
    def __init__(self, video="", first=None):
        self.video, self.first = video, numbering(video, first) if video else 0
        labels = [cvataa.label_spec(name, index, type="mask") for index, name in enumerate(CLASSES)]
        self.spec = cvataa.DetectionFunctionSpec(labels=labels)

    def detect(self, context, image):
        name = context.frame_name
        if self.video:
            number = re.fullmatch(r"frame_(\\d+)", name)
            name = f"{self.video}/{int(number[1]) + self.first if number else name}"
        label = label_of(name, np.asarray(image.convert("RGB")))
        found = []
        for index in range(len(CLASSES)) if label is not None else ():
            mask = label == index
            if not mask.any():
                continue
            if context.conv_mask_to_poly:
                found += [cvataa.polygon(index, points) for points in outlines(mask)]
            else:
                found.append(cvataa.mask(index, encode_mask(mask)))
        return found


def create(video="", first=None):
    return Function(video, first)
'''

LABEL_STUDIO_FILE = '''"""Answers Label Studio with brushes of vss; `vss export --to label-studio-backend` wrote it.

In an environment that has vsscli and label-studio-ml:

    label-studio-ml init my-backend --script THIS_FILE
    label-studio-ml start my-backend

The project's labeling configuration has an Image and BrushLabels with the names of the classes, as the labels.xml has
that `vss export --to label-studio` writes. Frames are found by the name of a task's image.
"""

import numpy as np
from label_studio_ml.model import LabelStudioMLBase
from PIL import Image

from vsscli.exchange.labelstudio import BRUSH, image_of, result
from vsscli.exchange.rle import pack_brush
# SOURCE

class VssBackend(LabelStudioMLBase):
    def predict(self, tasks, *args, **kwargs):
        return [{"model_version": "vss", "score": 1.0, "result": self.brushes(task)} for task in tasks]

    def brushes(self, task):
        name = image_of(task)
        with Image.open(self.get_local_path(name)) as image:
            frame = np.asarray(image.convert("RGB"))
        label = label_of(name, frame)
        found = []
        for index, of in enumerate(CLASSES) if label is not None else ():
            mask = label == index
            if mask.any():
                value = {"format": "rle", "rle": pack_brush(mask), BRUSH: [of]}
                found.append({**result(f"b{index}", BRUSH, value, mask.shape), **self.control()})
        return found

    def control(self):
        """The names of the brush and of the image in the labeling configuration."""
        for name, tag in self.parsed_label_config.items():
            if tag["type"].lower() == BRUSH:
                return {"from_name": name, "to_name": tag["to_name"][0]}
        return {}
'''
