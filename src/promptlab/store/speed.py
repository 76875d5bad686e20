"""How long models took an image in earlier runs.

Takes models and the folder of runs; returns seconds. Reads a few columns of the newest runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from promptlab.store.reader import read_run
from promptlab.store.runs import list_runs

NUM_RUNS = 5  # the newest ones that are looked at
NUM_IMAGES = 32  # of a model: the mean of fewer says little, so older runs are read as well


@dataclass(frozen=True, slots=True)
class Drawer:
    """A model as it draws: its time depends on all three."""

    model: str
    device: str
    dtype: str


def seconds_per_image(drawers: Iterable[Drawer], runs_dir: str) -> dict[Drawer, float]:
    """Return the mean time an image, from the newest runs; a model without images is left out."""
    seconds: dict[Drawer, list[float]] = {drawer: [] for drawer in drawers}
    for folder in list_runs(runs_dir)[:NUM_RUNS]:
        wanted = {drawer for drawer, known in seconds.items() if len(known) < NUM_IMAGES}
        if not wanted:
            break
        for row in read_run(folder).rows(["model", "device", "dtype", "seconds"]):
            drawer = Drawer(row["model"], row["device"], row["dtype"])
            if drawer in wanted and row["seconds"]:
                seconds[drawer].append(row["seconds"])
    return {drawer: sum(known) / len(known) for drawer, known in seconds.items() if known}
