"""Who draws: this process, one process a device, or a cluster; each holds one model.

Takes what is to be drawn, delivers finished images with the name of their worker. Knows no cell,
no store and no MLflow: plan, lock and progress stay with the caller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from promptlab.exports import load_lazily

if TYPE_CHECKING:
    from promptlab.workers.blocks import Work
    from promptlab.workers.dispatch import Deliver
    from promptlab.workers.opening import Describe, ThisProcess, Workers, open_workers
    from promptlab.workers.options import WorkerOptions

__all__ = ["Deliver", "Describe", "ThisProcess", "Work", "WorkerOptions", "Workers", "open_workers"]

__getattr__ = load_lazily(
    __name__,
    {
        "Deliver": "dispatch",
        "Describe": "opening",
        "ThisProcess": "opening",
        "Work": "blocks",
        "WorkerOptions": "options",
        "Workers": "opening",
        "open_workers": "opening",
    },
)
