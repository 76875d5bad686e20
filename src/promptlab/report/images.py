"""The images of a sheet, each once: its number, its id, and where its pixels are.

Takes the rows of all runs, returns the image columns of SheetData. Reads no pixels and knows no
page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from promptlab.report.enlarged import key_of


def collect_images(
    rows: Sequence[Mapping[str, Any]],
    run_of_row: np.ndarray,
    enlarged: Sequence[tuple[int, Mapping[str, Any]]],
) -> dict[str, Any]:
    """Return the image columns: each image once, from the first row that has its pixels.

    Images are numbered candidate by candidate: the first of every cell, then the second of every
    cell, and so on, so that a page of stacks loads little more than what it shows. Rows of one id
    whose pixels differ (a model that is not deterministic) are two images. Enlarged images, which
    have no rows of their own, come last.
    """
    number_from_key: dict[tuple[str, str | None], int] = {}
    image_of_row = np.empty(len(rows), np.int32)
    first_row: list[int] = []
    for i in _by_candidate(rows, run_of_row):
        row = rows[i]
        key = (row["image_id"], row["sha256"])
        number = number_from_key.setdefault(key, len(number_from_key))
        image_of_row[i] = number
        if number == len(first_row):
            first_row.append(i)
        elif rows[first_row[number]]["path"] is None and row["path"] is not None:
            first_row[number] = i
    num_rows, in_place_of = len(rows), np.full(len(first_row) + len(enlarged), -1, np.int32)
    for i, (_, row) in enumerate(enlarged, num_rows):
        in_place_of[number_from_key[row["source_id"], row["source_sha256"]]] = len(first_row)
        number_from_key[key_of(row)] = len(first_row)
        first_row.append(i)
    rows = [*rows, *(row for _, row in enlarged)]
    run_of_row = np.append(run_of_row, np.array([run for run, _ in enlarged], np.int32))
    return {
        "image_of_row": image_of_row,
        "image_ids": tuple(image_id for image_id, _ in number_from_key),
        "image_sha256": tuple(sha256 for _, sha256 in number_from_key),
        "image_paths": tuple(rows[i]["path"] for i in first_row),
        "image_run": run_of_row[first_row],
        "enlarged": in_place_of,
        "redraw_rows": tuple(rows[i] for i in first_row),
    }


def _by_candidate(rows: Sequence[Mapping[str, Any]], run_of_row: np.ndarray) -> list[int]:
    """Return all rows, the first candidates of all cells before the second ones."""
    num_seen: dict[tuple[int, str], int] = {}
    places = []
    for i, row in enumerate(rows):
        cell = (int(run_of_row[i]), row["cell_id"])
        place = num_seen.get(cell, 0)
        num_seen[cell] = place + 1
        places.append((place, i))
    return [i for _, i in sorted(places)]
