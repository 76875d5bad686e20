"""The grid's options as a config writes them: sample, zip, only, exclude.

Takes plain config values, returns frozen records; raises ConfigError for any other form. Does not
know the axes: whether one of that name exists is the grid's question.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from promptlab.errors import ConfigError
from promptlab.identity import escape_surrogates
from promptlab.planning.language.rules import Rule, parse_rules


@dataclass(frozen=True, slots=True)
class Sample:
    """How many values of an axis are drawn, and which subset of that size."""

    count: int
    seed: int = 0

    def choose(self, values: Sequence[str]) -> tuple[str, ...]:
        """Return a random subset in the given order.

        A value's rank is a hash of the seed and itself, so the subset depends on no library's
        generator, a larger count keeps the smaller one's values, and a value added to a list of
        many displaces at most one.
        """
        ranked = sorted(values, key=lambda value: _rank(self.seed, value))
        chosen = set(ranked[: self.count])
        return tuple(value for value in values if value in chosen)


@dataclass(frozen=True, slots=True)
class GridOptions:
    """What of the full product is drawn."""

    samples: Mapping[str, Sample]  # axis → its subset
    zips: tuple[tuple[str, ...], ...]  # axes that go side by side
    rules: tuple[Rule, ...]

    @classmethod
    def parse(
        cls, *, sample: Any = None, zip: Any = None, only: Any = None, exclude: Any = None
    ) -> GridOptions:
        """Return the options that these config values mean; None is none."""
        return cls(_parse_samples(sample), _parse_zips(zip), parse_rules(only, exclude))

    def named_axes(self) -> Iterator[tuple[str, str]]:
        """Yield what names an axis (sample, zip, only, exclude) and the axis."""
        yield from (("sample", name) for name in self.samples)
        yield from (("zip", name) for axes in self.zips for name in axes)
        yield from ((rule.kind, name) for rule in self.rules for name in rule.conditions)


def _rank(seed: int, value: str) -> bytes:
    text = escape_surrogates(f"{seed}\0{value}")  # the value may come from a file
    return hashlib.sha256(text.encode("utf-8")).digest()


def _parse_samples(value: Any) -> dict[str, Sample]:
    form = "expected axes and counts such as {animal: 20} or {animal: {count: 20, seed: 7}}"
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"sample={value!r}: {form}.")
    samples = {}
    for axis, wanted in value.items():
        if wanted is None:  # a config's sample taken back on the command line
            continue
        fields = dict(wanted) if isinstance(wanted, Mapping) else {"count": wanted}
        count, seed = fields.pop("count", None), fields.pop("seed", 0)
        if fields or not _is_whole(count) or count < 1 or not _is_whole(seed):
            raise ConfigError(f"sample: {axis}: {wanted!r}: {form}.")
        samples[str(axis)] = Sample(count, seed)
    return samples


def _parse_zips(value: Any) -> tuple[tuple[str, ...], ...]:
    form = "expected lists of axes such as [[subject, style]]"
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ConfigError(f"zip={value!r}: {form}.")
    groups = [value] if value and all(isinstance(item, str) for item in value) else value
    seen: set[str] = set()
    for group in groups:
        if isinstance(group, str) or not isinstance(group, Sequence) or len(group) < 2:
            raise ConfigError(f"zip={value!r}: {form}, two axes or more each.")
        for axis in group:
            if not isinstance(axis, str):
                raise ConfigError(f"zip={value!r}: {form}, got {axis!r}.")
            if axis in seen:
                raise ConfigError(
                    f"zip={value!r}: {axis} appears twice. Axes that all go side by side make "
                    "one list: [[a, b, c]]."
                )
            seen.add(axis)
    return tuple(tuple(group) for group in groups)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
