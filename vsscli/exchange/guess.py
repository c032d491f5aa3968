"""Which format a source is in, by what lies in it."""

from __future__ import annotations

from pathlib import PurePosixPath

from vsscli.data.masks import MODES
from vsscli.data.png import SIGNATURE, parse_png
from vsscli.errors import VssError
from vsscli.exchange.catalogue import READ
from vsscli.exchange.colour import LABELMAP
from vsscli.exchange.source import Source

HEAD = 2**16


def guess_format(source: Source) -> str:
    """The name of the format of a source.

    Raises
    ------
    VssError
        It is none that is known, or could be several.
    """
    names = [name.lower() for name in source.names]
    found = []
    if any(name.endswith(".xml") and _begins(source, name, b"<annotations") for name in source.names):
        found.append("cvat")
    if any(b'"dm_format_version"' in _head(source, name) for name in source.matching("*.json")[:32]):
        raise VssError(
            f"{source.path} is in Datumaro's own format, which is only written",
            "let Datumaro convert it (`datum convert -i FOLDER -if datumaro -f coco -o NEW`), and import NEW",
        )
    if any("segmentationclass/" in name and name.endswith(".png") for name in names):
        found.append("voc")
    jsons = source.matching("*.json")[:32]
    found += dict.fromkeys(kind for name in jsons if (kind := _json_kind(source, name)))
    if not found and source.named("data.yaml") and source.matching("*.txt"):
        found.append("yolo")
    if not found:
        found += _mask_kind(source)
    if len(found) == 1:
        return found[0]
    what = f"could be {' or '.join(found)}" if found else "is in no format that is known"
    raise VssError(f"{source.path} {what}", f"say which by --from: {', '.join(READ)}")


def _begins(source: Source, name: str, mark: bytes) -> bool:
    return mark in _head(source, name)


def _head(source: Source, name: str) -> bytes:
    with source.open(name) as file:
        return file.read(HEAD)


def _json_kind(source: Source, name: str) -> str:
    head = _head(source, name)
    if b'"segments_info"' in head or PurePosixPath(name).name.lower().startswith("panoptic"):
        return "coco-panoptic"
    if (b'"shapes"' in head and b'"imagePath"' in head) or b'"shape_type"' in head:
        return "labelme"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):  # the runs of a task may come before its data
        return "label-studio" if any(key in head for key in (b'"data"', b'"annotations"', b'"predictions"')) else ""
    return "coco" if b'"images"' in head or b'"annotations"' in head or b'"categories"' in head else ""


def _mask_kind(source: Source) -> list[str]:
    """Index or colour, by the first mask: a palette whose values have names is an index, other colours are colours."""
    first = next(iter(source.matching("*.png")), None)
    if first is None:
        return []
    data = source.read(first)
    try:
        png = parse_png(data) if data.startswith(SIGNATURE) else None
    except ValueError:
        png = None
    if png is None:
        return []
    return ["colour" if png.colour in MODES or (source.named(LABELMAP) and not png.classes) else "png"]
