"""Verdicts: what people (picks) and programs (scores) say of images; input of the next plan.

Takes image ids, gives verdicts joined by them; knows the store, not the page or MLflow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from promptlab.exports import load_lazily

if TYPE_CHECKING:
    from promptlab.verdicts.lineage import Lineage
    from promptlab.verdicts.picked import PickedImage, picked_images
    from promptlab.verdicts.picks import Pick, current_picks, read_picks, record_picks
    from promptlab.verdicts.scores import read_scores

__all__ = [
    "Lineage",
    "Pick",
    "PickedImage",
    "current_picks",
    "picked_images",
    "read_picks",
    "read_scores",
    "record_picks",
]

__getattr__ = load_lazily(
    __name__,
    {
        "Lineage": "lineage",
        "Pick": "picks",
        "PickedImage": "picked",
        "current_picks": "picks",
        "picked_images": "picked",
        "read_picks": "picks",
        "read_scores": "scores",
        "record_picks": "picks",
    },
)
