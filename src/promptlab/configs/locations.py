"""Where the packaged configs lie: inside the wheel, or at the top of a source checkout.

Takes nothing, returns absolute paths. Does not know Hydra.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


@cache
def packaged_conf() -> str:
    """Return the folder of promptlab's own configs."""
    return _packaged("conf")


@cache
def packaged_sweeps() -> str:
    """Return the folder of promptlab's own named sweeps."""
    return _packaged("sweeps")


def _packaged(name: str) -> str:
    in_wheel = PACKAGE / "packaged" / name
    in_checkout = PACKAGE.parent.parent / name
    return str(in_wheel if in_wheel.is_dir() else in_checkout)
