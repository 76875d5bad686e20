"""Planning: takes composed jobs, gives a plan: cells, requests and their ids.

Knows models only by what they declare; knows no weights, no files of a run and no Hydra. How jobs
become a plan is `planning.expand.expand`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from promptlab.exports import load_lazily

if TYPE_CHECKING:
    from promptlab.planning.plan import Axis, Plan, PlannedModel
    from promptlab.planning.redraw import redraw_command
    from promptlab.planning.requests import make_request, request_of_row
    from promptlab.planning.seeds import parse_seeds

__all__ = [
    "Axis",
    "Plan",
    "PlannedModel",
    "make_request",
    "parse_seeds",
    "redraw_command",
    "request_of_row",
]

__getattr__ = load_lazily(
    __name__,
    {
        "Axis": "plan",
        "Plan": "plan",
        "PlannedModel": "plan",
        "make_request": "requests",
        "parse_seeds": "seeds",
        "redraw_command": "redraw",
        "request_of_row": "requests",
    },
)
