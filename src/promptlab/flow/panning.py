"""The rounds of seeds=auto: score what is drawn, ask for the seeds that help most, draw, again.

Takes a plan whose cells have their first seeds, and its store; yields when more waits to be drawn.
What an earlier session of the same sweep drew counts. Draws nothing itself.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

from promptlab.flow.summary import Session, count
from promptlab.paths import RunPaths
from promptlab.planning.plan import Plan
from promptlab.records import Cell
from promptlab.scores.panning import IMAGES_A_CELL, Until, choose_round
from promptlab.scores.registry import open_scorer
from promptlab.scores.scoring import Resident, score_run
from promptlab.store import Run, Store, read_run
from promptlab.verdicts import read_scores

log = logging.getLogger(__name__)


def read_until(text: str) -> Until:
    """Return the condition that a sweep sets; one with an unknown scorer is refused."""
    until = Until.parse(text)
    open_scorer(until.scorer)
    return until


def draw_rounds(
    plan: Plan, store: Store, until: Until, paths: RunPaths, session: Session
) -> Iterator[Plan]:
    """Yield the grown plan of each round, when its images wait, until nothing is left to gain.

    `session` counts what was drawn; a round that ended early is the last.
    """
    scorer = Resident(open_scorer(until.scorer))
    budget = until.num_images or IMAGES_A_CELL * len(plan.cells)
    while session.is_complete:
        store.flush()
        score_run(paths.root, [scorer])
        seeds, scores = _read(read_run(paths.root), plan, until)
        chosen = choose_round(scores, until, budget - sum(map(len, seeds.values())))
        cells = tuple(_with_more(cell, seeds[cell.cell_id], chosen) for cell in plan.cells)
        store.extend(cells)  # at the end too: the record names the seeds of earlier sessions
        if chosen:
            log.info(
                "%s of %s: %s more.",
                count(len(chosen), "cell"),
                f"{len(cells):,}",
                count(sum(chosen.values()), "image"),
            )
        plan = replace(plan, cells=cells)
        yield plan
        if not chosen:
            return


def _with_more(cell: Cell, seeds: list[int], chosen: dict[str, int]) -> Cell:
    """Return a cell with all seeds drawn so far and those of the next round."""
    known = dict.fromkeys([*cell.seeds, *sorted(seeds)])
    first = max(known) + 1
    return replace(cell, seeds=(*known, *range(first, first + chosen.get(cell.cell_id, 0))))


def _read(
    run: Run, plan: Plan, until: Until
) -> tuple[dict[str, list[int]], dict[str, list[float]]]:
    """Return the seeds drawn of each cell, failures included, and the scores there are."""
    rows = run.rows(["image_id", "cell_id", "seed"])
    found = read_scores([run.paths.scores_parquet], [row["image_id"] for row in rows])
    values = next((s.values for s in found if s.name == until.scorer), (None,) * len(rows))
    seeds: dict[str, list[int]] = {cell.cell_id: [] for cell in plan.cells}
    scores: dict[str, list[float]] = {cell.cell_id: [] for cell in plan.cells}
    for row, value in zip(rows, values, strict=True):
        if row["cell_id"] in seeds:
            seeds[row["cell_id"]].append(row["seed"])
            if value is not None:
                scores[row["cell_id"]].append(value)
    return seeds, scores
