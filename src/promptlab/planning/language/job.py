"""One job within the grid: its blocks, which of them are listed, what leaves it out as a whole.

Takes a job's pattern and what samples allow; returns values of axes and of blocks. Does not know
other jobs, nor what zips and rules say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from promptlab.errors import ConfigError
from promptlab.planning.language.blocks import Blocks, BlockValue, Given
from promptlab.planning.language.syntax import Pattern
from promptlab.records import Scalar

Samples = Mapping[str, tuple[str, ...]]  # axis → the values that were chosen


@dataclass(frozen=True, eq=False)
class JobPattern:
    """One job: the pattern of its prompts, its slots' values, and what holds for all of it."""

    pattern: Pattern
    values: Mapping[str, Pattern]
    fixed: Mapping[str, Scalar]  # axes that the job has one value of: model, style, temperature…


@dataclass(slots=True)
class GridJob:
    """One job with its blocks; those that an option of the grid looks at get listed."""

    blocks: Blocks
    given: Given
    fixed: Mapping[str, Scalar]
    listed: dict[tuple[int, ...], list[BlockValue]] = field(
        default_factory=dict
    )  # by block numbers
    mask: int = -1  # the rules that the job as a whole satisfies, one bit each
    is_out: bool = False  # a sample or a zip leaves the whole job out

    def has_axis(self, name: str) -> bool:
        """Tell whether the job's prompts have an axis of that name."""
        return name in self.blocks.names

    def values(self, name: str, what: str) -> list[str]:
        """Return the values that an axis has here, before any sample; none if it has no such axis.

        `what` asks, for errors.
        """
        key = self.blocks.names.get(name)
        if key is None:
            return [str(self.fixed[name])] if name in self.fixed else []
        bound = self.blocks.bound
        held = self.blocks.reach(key) & set(bound.repeated) - {key}
        if held:
            raise ConfigError(
                f"{what}: {name} holds the repeated axis {', '.join(sorted(held))}; name that one."
            )
        self.blocks.check_listable(bound.count(key), f"{what}: {name}")
        return [value.text for value in self.blocks.values(key, self.given, self.given)]

    def allowed(self, samples: Samples) -> dict[str, frozenset[str]]:
        """Return the values that samples leave to the axes of this job."""
        names = self.blocks.names
        return {names[axis]: frozenset(v) for axis, v in samples.items() if axis in names}

    def list_block(self, name: str, samples: Samples, what: str) -> tuple[int, ...]:
        """List the block in which an axis is chosen, if it is not yet; return its numbers."""
        number = self.block_of(name)
        for numbers in self.listed:
            if number in numbers:
                return numbers
        self.blocks.check_listable(self.blocks.count(number), f"{what}: {name}")
        allowed = self.allowed(samples)
        self.listed[(number,)] = self.blocks.list_block(number, allowed, self.given)
        return (number,)

    def block_of(self, name: str) -> int:
        """Return the number of the block in which an axis is chosen."""
        return self.blocks.block_of(self.blocks.names[name])

    @property
    def num_unlisted(self) -> int:
        """Number of prompts that the unlisted blocks make, by formula."""
        return math.prod(map(self.blocks.count, self._unlisted()))

    def choices(self) -> list[list[BlockValue]]:
        """Return the values of every block, listing those that are not, in reading order."""
        choices = [(numbers[0], values) for numbers, values in self.listed.items()]
        for number in self._unlisted():
            self.blocks.check_listable(self.blocks.count(number), "the sweep")
            choices.append((number, list(self.blocks.values_of_block(number, {}, self.given))))
        return [values for _, values in sorted(choices, key=lambda choice: choice[0])]

    def _unlisted(self) -> list[int]:
        listed = {number for numbers in self.listed for number in numbers}
        return [number for number in range(len(self.blocks.blocks)) if number not in listed]
