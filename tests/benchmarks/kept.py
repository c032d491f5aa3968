"""Reading frames of a video file in random order: decoded each time, kept decoded, and as PNGs, in one run.

python tests/benchmarks/kept.py --size 360 480 --frames 200
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from vsscli.data.kept import read_kept
from vsscli.data.videos import Frame


def write_clip(path: Path, frames: int, size: tuple[int, int]) -> None:
    """A textured scene that moves, with key frames as ffmpeg places them."""
    rng = np.random.default_rng(0)
    wide = gaussian_filter(rng.random((size[0], size[1] + 2 * frames, 3)), (2, 2, 0))
    wide = ((wide - wide.min()) / np.ptp(wide) * 255).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        for number in range(frames):
            picture = np.ascontiguousarray(wide[:, 2 * number : 2 * number + size[1]])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, nargs=2, default=(360, 480))
    parser.add_argument("--frames", type=int, default=200)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        os.environ["VSS_CACHE"] = f"{place}/cache"
        clip = Path(place, "clip.mp4")
        write_clip(clip, given.frames, tuple(given.size))
        order = np.random.default_rng(1).permutation(given.frames)
        frames = [Frame("clip", f"{number:06d}", clip, number=int(number)) for number in order]
        frames[0].read()  # makes the index
        images = []
        for frame in frames:
            images.append(Frame("clip", frame.stem, Path(place, f"{frame.stem}.png")))
        for frame, image in zip(frames, images, strict=True):
            assert image.image is not None
            Image.fromarray(read_kept(frame)).save(image.image)

        def each(read: Callable[[Frame], np.ndarray], what: list[Frame]) -> float:
            start = time.perf_counter()
            for frame in what:
                read(frame)
            return 1000 * (time.perf_counter() - start) / len(what)

        decoded, kept, png = each(Frame.read, frames), each(read_kept, frames), each(Frame.read, images)
        print(f"decoded {decoded:.1f} ms, kept {kept:.1f} ms, PNG {png:.1f} ms; decoded / kept {decoded / kept:.0f}")


if __name__ == "__main__":
    main()
