"""``vss show``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from vsscli.cli import options as opt


def show(
    store: Annotated[
        Path | None,
        Option(
            "--store", metavar="STORE|DIR", help="Store, or folder of <video>/<stem>.png. [default: the newest store]"
        ),
    ] = None,
    data: opt.DataRoot = None,
    video: Annotated[str | None, Option("--video", metavar="NAME", help="Draw this video.")] = None,
    videos: Annotated[
        int, Option("--videos", min=1, metavar="N", help="Without --video, draw N of them, evenly spaced.")
    ] = 1,
    frames: Annotated[int, Option("--frames", min=1, metavar="N", help="Frames per video, evenly spaced.")] = 4,
    every: Annotated[int | None, Option("--every", min=1, metavar="N", help="Draw every n-th frame instead.")] = None,
    stems: Annotated[
        list[str] | None, Option("--stem", metavar="NAME...", help="Draw the frames of these names.")
    ] = None,
    film: Annotated[
        Path | None,
        Option("--film", metavar="FILE", help="Draw a whole video, as .mp4, or .mkv without loss; with --every, less."),
    ] = None,
    width: Annotated[
        int | None,
        Option("--width", min=64, metavar="PIXELS", help="Pictures at most this wide: what does not fit goes below."),
    ] = None,
    out: Annotated[
        Path | None, Option("--out", metavar="DIR", help="Folder for the pictures. [default: WORKSPACE/pictures/STORE]")
    ] = None,
    workspace: opt.Workspace = opt.RUNS,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> None:
    """Draw predictions with class boundaries over their frames, and entropy and masks beside them.

    vss show
    vss show --film street.mp4 --video 0001TP
    vss show --store masks/ --data holiday.mp4 --every 25 --width 1200     # masks that `vss predict --input` left
    vss show --store runs/stores/camvid/val/fused.zarr --video 0001TP --frames 8 --out pictures/
    """
    from vsscli.cli.console import Console
    from vsscli.context import Context
    from vsscli.errors import VssError
    from vsscli.pipeline.pictures import draw_film, draw_pictures
    from vsscli.pipeline.workspace import newest_store

    console = Console(quiet=quiet)
    path = store or newest_store(workspace)
    folder = out or workspace / "pictures" / path.name.removesuffix(".zarr")
    if store is None:
        console.say(f"drawing the newest store, {path}")
    context = Context(workspace, data, talk=console)
    if film is not None:
        chosen = {"--out": out, "--stem": stems, "--width": width, "--videos": videos != 1, "--frames": frames != 4}
        if without := [option for option, given in chosen.items() if given]:
            raise VssError(f"--film draws one video into one file, so {without[0]} has no meaning", "leave it out")
        pictures = [draw_film(path, film, context=context, video=video, every=every or 1)]
    else:
        pictures = draw_pictures(
            path,
            folder,
            context=context,
            video=video,
            videos=videos,
            frames=frames,
            every=every,
            stems=stems or (),
            width=width,
        )
    if json:
        console.print_json({"store": path, "pictures": pictures})
    else:
        console.print(*map(str, pictures))
