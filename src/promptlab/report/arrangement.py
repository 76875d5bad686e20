"""Where a sheet shows each axis when it opens: rows, columns, inside the cells, or as tabs.

Takes axes, returns an Arrangement; the page, the pictures and the phone all use it. Knows no
images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from promptlab.errors import ReportError
from promptlab.report.axes import FIXED_AXES, SheetAxis

MAX_INNER_VALUES = 4  # of a third axis that lies inside the cells; more values are tabs
_PREFERENCE = {"subject": 0, "style": 1, "template": 3, "model": 4}  # 2: none; others follow


@dataclass(frozen=True)
class Arrangement:
    """Names of axes by place. Rows without columns are a wrapped wall of images."""

    rows: str | None
    columns: str | None
    inner: tuple[str, ...] = ()
    tabs: tuple[str, ...] = ()

    @property
    def is_wall(self) -> bool:
        """Whether at most one axis is shown, so that images wrap at full width."""
        return self.columns is None and not self.inner


def arrange(
    axes: Sequence[SheetAxis], rows: str | None = None, columns: str | None = None
) -> Arrangement:
    """Return the places of the axes: those asked for, and the ones that tell most for the rest.

    The parts of a prompt's choices come before the subject that they make up; a third axis lies
    inside the cells or becomes tabs; the seed, whose values are a cell's candidates, is shown
    only where nothing else varies.
    """
    by_name = {axis.name: axis for axis in axes}
    for name in (rows, columns):
        if name is not None and name not in by_name:
            known = ", ".join(by_name)
            raise ReportError(f"There is no axis {name!r} in these runs. The axes are: {known}.")
    derived = _derived_axes(axes)
    varying = [
        a.name for a in axes if len(a.values) > 1 and a.name not in ("run", "seed", *derived)
    ]
    ordered = sorted(varying, key=lambda name: _preference(name, derived))
    rest = [name for name in ordered if name not in (rows, columns)]
    if rows is None and rest:
        rows = rest.pop(0)
    elif rows is None and columns is None and len(by_name["seed"].values) > 1:
        rows = "seed"
    if columns is None and rest:
        columns = rest.pop(0)
    inner: tuple[str, ...] = ("run",) if "run" in by_name and "run" not in (rows, columns) else ()
    tabs: tuple[str, ...] = ()
    if rest and not inner and len(by_name[rest[0]].values) <= MAX_INNER_VALUES:
        inner = (rest.pop(0),)
    elif rest:
        tabs = (rest.pop(0),)
    return Arrangement(rows, columns, inner, tabs)


def _preference(name: str, derived: Sequence[str]) -> int:
    if derived and name not in FIXED_AXES:
        return 0
    return _PREFERENCE.get(name, 2)


def _derived_axes(axes: Sequence[SheetAxis]) -> tuple[str, ...]:
    """Return ("subject",) where further axes are the choices that make up the subject.

    Each of them then has one value a subject, and together they name every subject.
    """
    subject = next(axis for axis in axes if axis.name == "subject")
    parts = [
        axis
        for axis in axes
        if axis.name not in (*FIXED_AXES, "run", "seed")
        and len(axis.values) > 1
        and len(np.unique(np.stack([subject.codes, axis.codes]), axis=1).T) == len(subject.values)
    ]
    if not parts:
        return ()
    combinations = np.unique(np.stack([axis.codes for axis in parts]), axis=1).T
    return ("subject",) if len(combinations) == len(subject.values) else ()
