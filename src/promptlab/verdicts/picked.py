"""The picks of a run, with what a new sweep needs to draw each of them again.

Takes a run folder, joins its verdicts with its rows, returns picked images. Writes nothing; knows
nothing of pages, MLflow or models.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from promptlab.errors import NoPicksError
from promptlab.records import ROW_COLUMNS, Scalar
from promptlab.verdicts.picks import Pick, current_picks, pick_rating

_COPIED = ("image_id", "cell_id", "subject", "style", "template", "prompt", "seed", "model")


@dataclass(frozen=True, slots=True)
class PickedImage:
    """A pick with everything that a new sweep needs to draw it again."""

    image_id: str
    cell_id: str
    subject: str
    style: str
    template: str
    prompt: str
    seed: int
    model: str
    axes: Mapping[str, Scalar]  # values of the further axes
    params: Mapping[str, Scalar]  # every sampling parameter it was drawn with
    pick: Pick


def picked_images(
    run_root: str | os.PathLike[str], min_rating: int | None = None
) -> list[PickedImage]:
    """Return the picks of a run, in the order they were judged.

    Raises NoPicksError if there is none, with the ways to pick.
    """
    from promptlab.store import read_run

    threshold = pick_rating() if min_rating is None else min_rating
    picked = {i: p for i, p in current_picks(run_root).items() if p.is_pick(threshold)}
    if not picked:
        raise NoPicksError(
            f"{run_root} holds no picks to start from: mark images as favourites or rate them "
            f"{threshold} or better on its contact sheet, then `promptlab pick --import "
            "picks.json`, or use `promptlab pick IMAGE_ID --favourite`."
        )
    row_from_id: dict[str, dict[str, Any]] = {}
    for row in read_run(str(run_root)).table().to_pylist():
        if row["image_id"] in picked:
            row_from_id.setdefault(row["image_id"], row)
    return [_picked_image(row_from_id[i], picked[i]) for i in picked if i in row_from_id]


def _picked_image(row: Mapping[str, Any], pick: Pick) -> PickedImage:
    known = {*ROW_COLUMNS, "image", "path"}
    return PickedImage(
        **{name: row[name] for name in _COPIED},
        axes={name: value for name, value in row.items() if name not in known},
        params=json.loads(row["params"]),
        pick=pick,
    )
