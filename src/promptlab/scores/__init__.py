"""Scores: takes the images of a run, gives each a number a scorer, and what the numbers are worth.

Knows the store and the picks; knows no page, no MLflow and no sweep. A scorer is any class with
the protocol, named by a file of conf/scorer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from promptlab.exports import load_lazily

if TYPE_CHECKING:
    from promptlab.scores.protocol import Item, Score, Scorer
    from promptlab.scores.registry import default_scorers, open_scorer
    from promptlab.scores.scoring import score_run

__all__ = ["Item", "Score", "Scorer", "default_scorers", "open_scorer", "score_run"]

__getattr__ = load_lazily(
    __name__,
    {
        "Item": "protocol",
        "Score": "protocol",
        "Scorer": "protocol",
        "default_scorers": "registry",
        "open_scorer": "registry",
        "score_run": "scoring",
    },
)
