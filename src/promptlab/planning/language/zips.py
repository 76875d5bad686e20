"""Zipped axes: first value with first value, second with second, instead of the full product.

Takes the jobs and one zip's axes; leaves in each job the values that are at the same place in
all lists. A list's places count over all jobs, so Hydra's axes zip with those of prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from promptlab.errors import ConfigError
from promptlab.planning.language.blocks import BlockValue
from promptlab.planning.language.job import GridJob, Samples

ValuesAt = dict[int, list[BlockValue]]  # place → values of a block


def apply_zip(zipped: Sequence[str], jobs: Sequence[GridJob], samples: Samples) -> None:
    """Keep the points at which the zipped axes are at the same place in their lists.

    Raises ConfigError, with both lengths, if the lists are not equally long.
    """
    jobs = [job for job in jobs if not job.is_out]
    starts: list[list[int]] = []  # axis, job → the overall place of the job's first value
    lengths: dict[str, int] = {}
    for name in zipped:
        begins: dict[tuple[str, ...], int] = {}  # a list of values → where it begins
        length = 0
        starts.append([])
        for job in jobs:
            values = tuple(_values(job, name, samples))
            if values not in begins:
                begins[values] = length
                length += len(values)
            starts[-1].append(begins[values])
        lengths[name] = length
    if len(set(lengths.values())) > 1:
        counted = ", ".join(f"{name} has {number:,}" for name, number in lengths.items())
        raise ConfigError(
            f"zip [{', '.join(zipped)}]: axes that go side by side need equally many values, but "
            f"{counted}. Add or remove values, or leave zip out for the full product."
        )
    for index, job in enumerate(jobs):
        _zip_job(job, dict(zip(zipped, (by_job[index] for by_job in starts), strict=True)), samples)


def _values(job: GridJob, name: str, samples: Samples) -> list[str]:
    if not job.has_axis(name):
        if name not in job.fixed:
            raise ConfigError(f"zip: the axis {name!r} is missing in a part of the sweep.")
        return [str(job.fixed[name])]
    key = job.blocks.names[name]
    if key not in job.blocks.factors:
        raise ConfigError(
            f"zip: axis {name!r} exists only inside an alternative and cannot be zipped. Zip the "
            "enclosing choice instead."
        )
    allowed = job.allowed(samples).get(key)
    return [v for v in job.values(name, "zip") if allowed is None or v in allowed]


def _zip_job(job: GridJob, starts: Mapping[str, int], samples: Samples) -> None:
    """Join the blocks of the zipped axes where their values are at the same place."""
    joined: ValuesAt | None = None
    numbers: tuple[int, ...] = ()
    for name, start in starts.items():
        if not job.has_axis(name):
            here: ValuesAt = {start: [BlockValue({})]}
        else:
            key = job.blocks.names[name]
            block = job.list_block(name, samples, "zip")
            if joined is not None and set(block) <= set(numbers):  # both axes in one block
                joined = {
                    place: [v for v in values if start + v.positions[key] == place]
                    for place, values in joined.items()
                }
                continue
            numbers = tuple(sorted({*numbers, *block}))
            here = {}
            for value in job.listed.pop(block):
                here.setdefault(start + value.positions[key], []).append(value)
        joined = here if joined is None else _join(joined, here)
    assert joined is not None
    values = [value for place in sorted(joined) for value in joined[place]]
    job.is_out = not values
    if numbers:
        job.listed[numbers] = values


def _join(first: ValuesAt, second: ValuesAt) -> ValuesAt:
    """Return the values of both sides that are at the same place."""
    return {
        place: [
            BlockValue({**a.texts, **b.texts}, {**a.positions, **b.positions})
            for a in first[place]
            for b in second[place]
        ]
        for place in first
        if place in second
    }
