"""Scores as MLflow shows them: an arm's mean and best, and its curve over the subjects.

Takes rows of one MLflow run and the scores of the run folder, returns plain values.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from promptlab.verdicts.scores import SheetScore

PREFIX = "score"  # MLflow's charts make a section of what stands before "/"


def score_metrics(
    rows: Sequence[Mapping[str, Any]], scores: Sequence[SheetScore], image_ids: Sequence[str]
) -> dict[str, float]:
    """Return the mean of each score, and the mean of what each cell's best seed has."""
    metrics = {}
    for score in scores:
        values = _values(score, image_ids)
        cells: defaultdict[str, list[float]] = defaultdict(list)
        for row in rows:
            value = values.get(row["image_id"])
            if value is not None:
                cells[row["cell_id"]].append(value)
        if cells:
            every = [value for found in cells.values() for value in found]
            best = max if score.is_higher_better else min
            metrics[f"{PREFIX}/{score.name}"] = sum(every) / len(every)
            metrics[f"{PREFIX}/{score.name} best"] = sum(map(best, cells.values())) / len(cells)
    return metrics


def score_series(
    rows: Sequence[Mapping[str, Any]],
    scores: Sequence[SheetScore],
    image_ids: Sequence[str],
    subjects: Sequence[Any],
) -> dict[str, dict[int, float]]:
    """Return each score's mean by subject, a step a subject in the order of the sweep."""
    place = {str(subject): number for number, subject in enumerate(subjects)}
    series = {}
    for score in scores:
        values = _values(score, image_ids)
        found: defaultdict[int, list[float]] = defaultdict(list)
        for row in rows:
            value = values.get(row["image_id"])
            if value is not None and str(row["subject"]) in place:
                found[place[str(row["subject"])]].append(value)
        if len(found) > 1:
            series[f"{PREFIX}/{score.name} by subject"] = {
                step: sum(of_subject) / len(of_subject) for step, of_subject in found.items()
            }
    return series


def _values(score: SheetScore, image_ids: Sequence[str]) -> dict[str, float | None]:
    return dict(zip(image_ids, score.values, strict=True))
