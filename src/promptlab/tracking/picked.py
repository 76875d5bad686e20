"""Picks as MLflow shows them: metrics to sort runs by, tags that name the images.

Takes rows of one MLflow run and the run folder's history of picks, returns plain values. An arm
that nobody judged has a pick rate of 0 and nothing else: MLflow sorts runs by it and compares them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from promptlab.verdicts.picks import Pick, current

TAG_PREFIX = "promptlab.picks."
MAX_TAG_LENGTH = 5000  # of an MLflow tag
TAGS = ("favourites", "rejects", "rated", "who")


def pick_metrics(rows: Sequence[Mapping[str, Any]], history: Sequence[Pick]) -> dict[str, float]:
    """Return how many images were judged how; counts fall again when verdicts are taken back."""
    if not _judged(rows, history):
        return {"pick_rate": 0.0}
    judged = _judgements(rows, history)
    ratings = [pick.rating for pick in judged if pick.rating is not None]
    num_images = len({row["image_id"] for row in rows if row["status"] != "failed"})
    metrics = {  # in the order of use: MLflow's comparison opens on the first
        "pick_rate": sum(pick.is_pick() for pick in judged) / num_images if num_images else 0.0,
    }
    if ratings:
        metrics["rating_mean"] = sum(ratings) / len(ratings)
    return metrics | {
        "picks_favourites": float(sum(pick.is_favourite for pick in judged)),
        "picks_rejects": float(sum(pick.is_reject for pick in judged)),
        "picks_rated": float(len(ratings)),
    }


def pick_tags(rows: Sequence[Mapping[str, Any]], history: Sequence[Pick]) -> dict[str, str]:
    """Return which images were judged how, and by whom; empty once all is taken back."""
    if not _judged(rows, history):
        return {}
    judged = _judgements(rows, history)
    ids = {pick.image_id for pick in judged}
    words = {
        "favourites": [pick.image_id for pick in judged if pick.is_favourite],
        "rejects": [pick.image_id for pick in judged if pick.is_reject],
        "rated": [f"{pick.image_id}:{pick.rating}" for pick in judged if pick.rating],
        "who": sorted({pick.who for pick in history if pick.who and pick.image_id in ids}),
    }
    return {TAG_PREFIX + name: " ".join(words[name])[:MAX_TAG_LENGTH] for name in TAGS}


def _judged(rows: Sequence[Mapping[str, Any]], history: Sequence[Pick]) -> bool:
    ids = {row["image_id"] for row in rows}
    return any(pick.image_id in ids for pick in history)


def _judgements(rows: Sequence[Mapping[str, Any]], history: Sequence[Pick]) -> list[Pick]:
    ids = {row["image_id"] for row in rows}
    return [pick for image_id, pick in current(history).items() if image_id in ids]
