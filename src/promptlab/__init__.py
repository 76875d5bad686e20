"""promptlab: prompt sweeps of text-to-image models.

From Python: `run = promptlab.sweep(subject="a fox", seeds=4)`. Importing this package imports
nothing else: no torch, no mlflow, no device is touched.
"""

from typing import TYPE_CHECKING

from promptlab.exports import load_lazily
from promptlab.version import __version__

if TYPE_CHECKING:
    from promptlab.api import Run, Sheet, open_run, show_sheet, sweep

__all__ = ["Run", "Sheet", "__version__", "open_run", "show_sheet", "sweep"]

__getattr__ = load_lazily(
    __name__,
    dict.fromkeys(("Run", "Sheet", "open_run", "show_sheet", "sweep"), "api"),
)
