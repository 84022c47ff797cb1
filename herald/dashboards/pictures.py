"""Pictures for the documentation: small enough for git."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

MAX_BYTES = 300_000


def shrink(path: Path, max_bytes: int = MAX_BYTES) -> int:
    """Rewrite a PNG with a palette, smaller if need be, below a size; returns its bytes.

    Charts have few colours: a palette of 256 shows no loss, and takes a third of the space.
    """
    with Image.open(path) as image:
        picture = image.convert("RGB")
    while True:
        palette = picture.quantize(colors=256, method=Image.Quantize.MEDIANCUT)
        palette.save(path, optimize=True)
        size = path.stat().st_size
        if size <= max_bytes or picture.width < 800:
            return size
        scaled = (round(picture.width * 0.9), round(picture.height * 0.9))
        picture = picture.resize(scaled, Image.Resampling.LANCZOS)
