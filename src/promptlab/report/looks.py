"""How alike images look: an order for walls of candidates, and which of them nearly repeat another.

Takes one descriptor an image (a thumbnail of 8 × 8 px) and the cells that images belong to;
returns a place and a twin for every row. Knows no files and no axes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

SIDE_PX = 8  # of a descriptor: enough to tell where things are and their color
TWIN_DISTANCE = 5.0  # root mean square in levels of 255; seeds of one prompt are 20 to 80 apart
MAX_ORDERED = 2_000  # candidates of one cell; beyond, the sweep's order stays


def describe_look(image: Image.Image) -> bytes:
    """Return what an RGB image looks like from afar: uint8 [SIDE_PX * SIDE_PX * 3]."""
    from PIL import Image

    return image.resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX).tobytes()


def order_by_look(
    cell_of_row: np.ndarray, image_of_row: np.ndarray, look_from_image: Mapping[int, bytes]
) -> tuple[np.ndarray, np.ndarray]:
    """Return (place, twin) of every row, both int32 [row].

    Places count within a cell so that neighbours look alike: from the first candidate always to
    the nearest one left. A row's twin is the first candidate of its cell that it nearly equals,
    itself if there is none. Images without a descriptor keep their order at the end.
    """
    place = np.zeros(len(cell_of_row), np.int32)
    twin = np.arange(len(cell_of_row), dtype=np.int32)
    order = np.argsort(cell_of_row, kind="stable")
    starts = np.flatnonzero(np.diff(cell_of_row[order], prepend=-1))
    for rows in np.split(order, starts[1:]):
        known = [row for row in rows.tolist() if int(image_of_row[row]) in look_from_image]
        rest = [row for row in rows.tolist() if int(image_of_row[row]) not in look_from_image]
        if 1 < len(known) <= MAX_ORDERED:
            found = [look_from_image[int(image_of_row[row])] for row in known]
            looks = np.frombuffer(b"".join(found), np.uint8).reshape(len(known), -1)
            chain, twins = _chain(looks.astype(np.float32))
            for row, first in zip(known, twins.tolist(), strict=True):
                twin[row] = known[first]
            known = [known[i] for i in chain]
        place[[*known, *rest]] = np.arange(len(rows))
    return place, twin


def _chain(looks: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Return an order in which each comes after a near one, and the first near twin of each."""
    count = len(looks)
    squares = (looks**2).sum(axis=1)
    apart = squares[:, None] + squares[None, :] - 2 * looks @ looks.T
    distance = np.sqrt(np.maximum(apart, 0) / looks.shape[1])
    twins = np.argmax(distance <= TWIN_DISTANCE, axis=1)  # the first one within reach
    is_left = np.ones(count, bool)
    chain = [0]
    is_left[0] = False
    for _ in range(count - 1):
        nearest = int(np.argmin(np.where(is_left, distance[chain[-1]], np.inf)))
        chain.append(nearest)
        is_left[nearest] = False
    return chain, twins
