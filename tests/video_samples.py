"""Small video files for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

SIZE = (48, 64)


def write_clip(
    path: Path,
    frames: int = 40,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    size: tuple[int, int] = SIZE,
    seed: int = 0,
) -> Path:
    """A clip of noise in which each frame differs from every other; at 25 frames a second, yuv420p."""
    import av

    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        base = rng.integers(0, 200, (*size, 3), np.uint8)
        for number in range(frames):
            image = np.roll(base, number, axis=1) + np.uint8(number)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path
