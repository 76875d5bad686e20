"""Where an image's bytes are: in its own PNG file, or only in the run's Parquet.

Takes a run and image numbers of the sheet, yields bytes or paths. Knows nothing of thumbnails.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from promptlab.report.data import SheetData
    from promptlab.store import Run


def numbers_with_pixels(data: SheetData) -> list[int]:
    """Return the numbers of all images that were drawn, in the order of the sheet."""
    enlarged = data.enlarged[data.enlarged >= 0]
    return np.union1d(data.image_of_row[data.has_image], enlarged).tolist()


def locate_images(
    run: Run, data: SheetData, numbers: Collection[int]
) -> Iterator[tuple[int, Path | bytes]]:
    """Yield (number, path of the PNG or its bytes) for images of one run.

    PNG files come first, in order; images without a file are then read from Parquet, as a stream.
    """
    without_file: dict[str, int] = {}
    for number in numbers:
        relative = data.image_paths[number]
        path = Path(run.paths.root, relative) if relative else None
        if path is not None and path.is_file():
            yield number, path
        else:
            without_file[data.image_ids[number]] = number
    if without_file:
        for image_id, content in run.iter_images(list(without_file)):
            yield without_file[image_id], content


def read_images(run: Run, data: SheetData, numbers: Collection[int]) -> Iterator[tuple[int, bytes]]:
    """Yield (number, bytes) for images of one run."""
    for number, place in locate_images(run, data, numbers):
        yield number, place if isinstance(place, bytes) else place.read_bytes()
