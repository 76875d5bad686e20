"""The data set as one small file, for a machine that has no network and no npm client.

Takes `Pictures`; writes an .npz of lossless WebP (about 20 MB where the pixels alone are 875), or
reads one. `python -m training.rasterize --pack` writes it; as
`training/data/pictures_160px.packed.npz` every step finds it.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from training.pictures import Pictures


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
        **pictures.describe(),
    )
    aside.replace(path)


def read_packed(path: Path) -> Pictures:
    """Read a packed data set."""
    with np.load(path) as arrays:
        return Pictures.from_arrays(_decode(arrays), arrays)


def _decode(arrays: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Decode the pixels: uint8 [image, row, column, 3]."""
    documents = np.split(arrays["webp"], arrays["ends"][:-1])
    first = Image.open(io.BytesIO(documents[0].tobytes()))
    pixels = np.empty((len(documents), first.height, first.width, 3), np.uint8)
    for place, document in zip(pixels, documents, strict=True):
        place[:] = np.asarray(Image.open(io.BytesIO(document.tobytes())).convert("RGB"))
    return pixels
