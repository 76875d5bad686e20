"""Verification: are the stored images those that were drawn, and do they come out again?

Takes a run and some of its rows; draws them again and returns what differs. Under the numerics
that a row names its bits must be equal; under others its pixels must be close. Prints and writes
nothing.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from promptlab.engine import draw_all
from promptlab.errors import StoreError
from promptlab.flow.sources import Sources
from promptlab.machine import describe_numerics
from promptlab.models.registry import open_model
from promptlab.planning.plan import PlannedModel
from promptlab.planning.redraw import RecordedModel, recorded_model
from promptlab.planning.requests import request_of_row
from promptlab.png import hash_pixels
from promptlab.records import Request
from promptlab.store import Run

Row = Mapping[str, Any]
# Of 255: two kinds of processors may draw the same image with values so far apart.
MAX_LEVELS = 16


@dataclass
class Verification:
    """What a verification found, image by image."""

    problems: list[tuple[str, str]] = field(default_factory=list)  # image_id, what is wrong
    levels: dict[str, int] = field(default_factory=dict)  # image_id -> largest difference, of
    #   images that another kind of processor drew with nearly the same pixels
    unpromised: set[str] = field(default_factory=set)  # models that promise no equal pixels


def verify(run: Run, rows: Sequence[Row], runs_dir: str) -> Verification:
    """Check the files of some rows of a run and draw the rows again."""
    found = Verification()
    for row in rows:
        problem = file_problem(run, row)
        if problem is not None:
            found.problems.append((row["image_id"], problem))
    sources = Sources(runs_dir)
    for planned, of_model in _rows_by_model(run, rows):
        redrawn = Verification()
        if planned.model.is_deterministic is not False:
            _redraw(run, planned, of_model, sources, redrawn)
        if planned.model.is_deterministic is False:  # known before, or seen when it drew
            found.unpromised.add(planned.model.name)
        else:
            found.problems += redrawn.problems
            found.levels |= redrawn.levels
    return found


def file_problem(run: Run, row: Row) -> str | None:
    """Return what is wrong with the stored PNG of a row, None if nothing is."""
    png = run.image_bytes(row["image_id"])
    if png is None:
        return "its PNG is gone"
    try:
        pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    except (OSError, SyntaxError) as error:
        return f"its PNG cannot be read ({error})"
    if hash_pixels(pixels) != row["sha256"]:
        return "its PNG holds other pixels than were drawn"
    return None


def _redraw(
    run: Run, planned: PlannedModel, rows: Sequence[Row], sources: Sources, found: Verification
) -> None:
    """Draw the rows of one model again and note what comes out otherwise."""
    row_from_id = {row["image_id"]: row for row in rows}
    requests: list[Request] = []
    for row in rows:
        request = _request(row, planned, sources)
        if request.image_id == row["image_id"]:
            requests.append(request)
        else:
            found.problems.append((row["image_id"], "its columns are those of another image"))
    for result in draw_all(planned.model, requests):
        row = row_from_id[result.request.image_id]
        if result.pixels is None:
            problem = f"cannot be drawn again: {result.error}"
            found.problems.append((row["image_id"], problem))
        elif hash_pixels(result.pixels) != row["sha256"]:
            _compare(run, planned, row, result.pixels, found)


def _compare(
    run: Run, planned: PlannedModel, row: Row, pixels: np.ndarray, found: Verification
) -> None:
    """Note how an image differs that has other bits than its row."""
    image_id, numerics = row["image_id"], planned.numerics
    here, there = describe_numerics(numerics.device), row["numerics"]
    levels = largest_difference(pixels, run.image_bytes(image_id))
    if there and there != here and levels is not None and levels <= MAX_LEVELS:
        found.levels[image_id] = levels
        return
    distance = "another size" if levels is None else f"{levels} of 255 levels apart"
    found.problems.append(
        (
            image_id,
            f"comes out otherwise on {numerics.device} in {numerics.dtype}, was drawn on "
            f"{row['device']} in {row['dtype']}: {distance}; seed {row['seed']}, "
            f"{row['prompt'][:50]!r}"
            + (f" (there: {there}; here: {here})" if there and there != here else ""),
        )
    )


def largest_difference(pixels: np.ndarray, png: bytes | None) -> int | None:
    """Return the largest difference of a colour value, in levels of 255.

    None if there is no PNG or if its size is another one.
    """
    if png is None:
        return None
    try:
        stored = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), np.int16)
    except (OSError, SyntaxError):
        return None
    if stored.shape != pixels.shape:
        return None
    return int(np.abs(stored - pixels).max())


def _request(row: Row, planned: PlannedModel, sources: Sources) -> Request:
    source_id = row.get("source_id")
    source = None if source_id is None else sources.find(source_id, row["source_sha256"])
    return sources.with_bytes(request_of_row(row, planned.model, planned.numerics, source))


def _rows_by_model(run: Run, rows: Sequence[Row]) -> Iterator[tuple[PlannedModel, list[Row]]]:
    """Yield each model that drew some of the rows, with the numerics that it drew them with."""
    groups: dict[tuple[str, str, int | None], tuple[RecordedModel, list[Row]]] = {}
    for row in rows:
        recorded = recorded_model(run.record, row)
        if recorded is None:
            raise StoreError(
                f"{run.paths.sweep_yaml} does not say which model drew {row['image_id']}."
            )
        key = (recorded.key, row["dtype"], recorded.padded_batch)
        groups.setdefault(key, (recorded, []))[1].append(row)
    for (_, dtype, _), (recorded, of_model) in groups.items():
        node = recorded.config or None
        if node is not None and "dtype" in node:
            node = {**node, "dtype": dtype}
        planned = PlannedModel.of(open_model(node), recorded.option, node)
        _check_weights(planned, of_model[0])
        yield planned, of_model


def _check_weights(planned: PlannedModel, row: Row) -> None:
    if planned.model.fingerprint != row["model_fingerprint"]:
        raise StoreError(
            f"The weights of {row['model']} have changed: expected the fingerprint "
            f"{row['model_fingerprint']}, got {planned.model.fingerprint}. This run cannot be "
            "verified with them."
        )
