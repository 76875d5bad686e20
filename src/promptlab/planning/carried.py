"""A table's further columns as axes: `subject=@prompts.tsv:Prompt with=[Category]`.

Takes composed jobs, returns the columns by the slot and the text that they stand beside. Axes of
this kind are columns of the images and belong to their slot; rules, samples and zips may not name
them. Does not know cells.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from promptlab.configs.settings import Job
from promptlab.errors import ConfigError
from promptlab.planning.language import GridOptions, read_carried

Columns = Mapping[str, str]  # name → value


@dataclass(frozen=True)
class Carried:
    """The columns that come along with prompts from tables."""

    names: tuple[str, ...] = ()
    by_slot: Mapping[str, Mapping[str, Columns]] = field(default_factory=dict)  # slot → text → them

    @property
    def of_subject(self) -> tuple[str, ...]:
        """Those that belong to the subject alone."""
        return self.names if self.by_slot.keys() == {"subject"} else ()

    def beside(self, coordinates: Mapping[str, str]) -> Columns:
        """Return the columns beside a prompt's values."""
        found: dict[str, str] = {}
        for slot, columns_of_text in self.by_slot.items():
            found.update(columns_of_text.get(coordinates.get(slot, ""), {}))
        return found


def carried_columns(jobs: Sequence[Job], taken: Collection[str]) -> Carried:
    """Return what `with` asks for, from every table that a key of a job names.

    Raises ConfigError for names that are taken, and where no prompt comes from a table.
    """
    names = _carried_names(jobs[0].config)
    if not names:
        return Carried()
    reserved = {name.lower() for name in taken}
    for name in names:
        if name.lower() in reserved:
            raise ConfigError(
                f"with=[{name}]: an axis cannot be called so, it is a column already."
            )
    by_slot: dict[str, dict[str, Columns]] = {}
    values = {
        (slot, value)
        for job in jobs
        for slot, value in job.config.items()
        if isinstance(value, str) and value.startswith("@")
    }
    for slot, value in sorted(values):
        columns = read_carried(value, names)
        if columns:
            by_slot[slot] = {**columns, **by_slot.get(slot, {})}
    if not by_slot:
        raise ConfigError(
            f"with=[{', '.join(names)}]: expected a prompt from a table, such as "
            "subject=@prompts.tsv:Prompt."
        )
    return Carried(names, by_slot)


def check_not_carried(options: GridOptions, config: Mapping[str, Any]) -> None:
    """Refuse a sample, a zip or a rule over a column that comes along."""
    names = _carried_names(config)
    for what, axis in options.named_axes():
        if axis in names:
            raise ConfigError(
                f"{what}: {axis} is a column that comes along (with=[{axis}]); samples, zips and "
                "rules choose among the prompts. Name the slot that the table fills, such as "
                "subject, with values or globs of it, or keep fewer rows in the table."
            )


def _carried_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the columns that `with` asks for."""
    wanted = config.get("with")
    if not wanted:
        return ()
    names = tuple(wanted) if isinstance(wanted, list | tuple) else (wanted,)
    if not all(isinstance(name, str) for name in names):
        raise ConfigError(f"with={wanted!r}: expected names of columns, such as with=[Category].")
    return names
