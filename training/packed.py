"""The data set as one small file, for a machine that has no network and no npm client.

Takes `Pictures`; leaves an .npz of lossless WebP (about 20 MB where the pixels alone are 875), or
reads one. Put it as `training/data/pictures_160px.packed.npz` and every step finds it.

    python -m training.packed
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from training.rasterize import Pictures


def packed_path(path: Path) -> Path:
    """Where the packed form of a cached data set lies."""
    return path.with_suffix(".packed.npz")


def pack(pictures: Pictures, path: Path) -> None:
    """Write a data set; its pixels come back bit for bit."""
    documents = []
    for picture in pictures.pixels:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "webp", lossless=True, method=4, quality=60)
        documents.append(buffer.getvalue())
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".tmp.npz")
    np.savez(
        aside,
        webp=np.frombuffer(b"".join(documents), np.uint8),
        ends=np.cumsum([len(document) for document in documents]),
        **describe(pictures),
    )
    aside.replace(path)


def describe(pictures: Pictures) -> dict[str, Any]:
    """Everything of a data set but its pixels, as arrays."""
    return {
        "subject": pictures.subject,
        "style": pictures.style,
        "is_held_out": pictures.is_held_out,
        "subjects": np.array(pictures.subjects),
        "aliases": np.array(["|".join(aliases) for aliases in pictures.aliases]),
    }


def read_packed_pixels(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Decode a packed data set's pixels: uint8 [image, row, column, 3]."""
    with np.load(path) as arrays:
        documents = np.split(arrays["webp"], arrays["ends"][:-1])
    first = Image.open(io.BytesIO(documents[0].tobytes()))
    pixels = np.empty((len(documents), first.height, first.width, 3), np.uint8)
    for place, document in zip(pixels, documents, strict=True):
        place[:] = np.asarray(Image.open(io.BytesIO(document.tobytes())).convert("RGB"))
    return pixels


def main() -> None:
    """Pack the cached data set."""
    from training.rasterize import cache_path, load_pictures

    path = packed_path(cache_path())
    pack(load_pictures(), path)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
