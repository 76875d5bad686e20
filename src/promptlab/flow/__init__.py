"""The flow: takes composed jobs, gives a finished run folder. Start with sweep.py.

Calls each stage in order and hands plain records on; knows no stage's inside and no Hydra.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from promptlab.exports import load_lazily

if TYPE_CHECKING:
    from promptlab.flow.summary import SweepSummary
    from promptlab.flow.sweep import Invocation, Outcome, run_sweep
    from promptlab.flow.verification import Verification

__all__ = [
    "Invocation",
    "Outcome",
    "SweepSummary",
    "Verification",
    "run_sweep",
]

__getattr__ = load_lazily(
    __name__,
    {
        "Invocation": "sweep",
        "Outcome": "sweep",
        "SweepSummary": "summary",
        "Verification": "verification",
        "run_sweep": "sweep",
    },
)
