"""The grid of a sweep: all jobs' prompts with their coordinates, counted without being built.

Takes the jobs' patterns and the options sample, zip, only and exclude; returns counts, and points
one by one. The order of meaning is: values, then `sample`, then `zip`, then the rules. Does not
know seeds, models, parameters' ranges or ids.

Only blocks that a sample, a link or a rule looks at are ever listed; the others are counted by
formula. A rule's verdict on a point is the conjunction of its verdicts on the point's blocks, so
points are counted by classes of equal verdicts rather than one by one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product

from promptlab.errors import ConfigError
from promptlab.language.bind import Bound, bind
from promptlab.language.blocks import Blocks, Literals, Option
from promptlab.language.errors import PatternError
from promptlab.language.options import GridOptions
from promptlab.language.syntax import Pattern, Text
from promptlab.language.wildcards import Wildcards
from promptlab.records import Scalar

_PLACEHOLDER = Pattern.literal("…")  # stands for any plain text: its axes are the same


@dataclass(frozen=True, eq=False)
class JobPattern:
    """One job: the pattern of its prompts, its slots' values, and what holds for all of it."""

    pattern: Pattern
    values: Mapping[str, Pattern]
    fixed: Mapping[str, Scalar]  # axes that the job has one value of: model, style, temperature…


@dataclass(frozen=True, slots=True)
class Point:
    """One prompt and where it stands in the grid."""

    job_index: int
    prompt: str
    coordinates: Mapping[str, str]  # axes of the prompt, in reading order; those not in it left out
    subject_parts: frozenset[str]  # axes among them that belong to the subject alone


@dataclass(slots=True)
class _Job:
    """One job with its blocks, those that are listed, and what rules say of it as a whole."""

    blocks: Blocks
    literals: Literals
    fixed: Mapping[str, Scalar]
    listed: dict[tuple[int, ...], list[Option]] = field(default_factory=dict)  # by block numbers
    mask: int = -1
    is_out: bool = False  # a sample or a link leaves the whole job out


class Grid:
    """The points of all jobs that sample, zip and the rules leave."""

    def __init__(
        self,
        jobs: Sequence[JobPattern],
        options: GridOptions,
        wildcards: Wildcards,
        reserved: frozenset[str] = frozenset(),
        recorded_samples: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Read the jobs' prompts; raises PromptError or ConfigError for what cannot be drawn.

        `reserved` are names that an axis of a prompt may not have; `recorded_samples` the values
        that samples of a run that goes on chose when it began, whatever its lists hold by now.
        """
        self.options = options
        self._reserved = reserved
        self.warnings: list[str] = []
        self.samples: dict[str, tuple[str, ...]] = {}  # axis → the values that were chosen
        self.removed: dict[str, int] = {}  # rule → points that it took out
        self._rules = options.rules
        self._bound: dict[tuple[object, ...], Blocks] = {}
        self._patterns: list[object] = []  # keeps the objects alive whose ids are keys above
        self._options: dict[tuple[object, ...], list[Option]] = {}  # of blocks that jobs share
        self._masks: dict[tuple[str, Scalar], int] = {}
        self._watched = self._watched_names()
        self._jobs = [self._read(job, wildcards) for job in jobs]
        self._check_names()
        self._apply_samples(recorded_samples or {})
        for link in options.links:
            self._apply_link(link)
        self._apply_masks()

    # ------------------------------------------------------------------------------ reading

    def _watched_names(self) -> frozenset[str]:
        rules = (axis for rule in self._rules for axis in rule.conditions)
        links = (axis for link in self.options.links for axis in link)
        return frozenset([*rules, *links, *self.options.samples])

    def _read(self, job: JobPattern, wildcards: Wildcards) -> _Job:
        literals: dict[str, str] = {}
        values: dict[str, Pattern] = {}
        for name, value in job.values.items():
            if all(isinstance(item, Text) for item in value.items):
                literals[name] = value.text
                value = _PLACEHOLDER
            values[name] = value
        key = (id(job.pattern), *((name, id(value)) for name, value in values.items()))
        blocks = self._bound.get(key)
        if blocks is None:
            bound = bind(job.pattern.fill(values), wildcards)
            self._check_reserved(bound, values)
            aliased = (k for k, g in bound.groups.items() if g.alias in self._watched)
            blocks = self._bound[key] = Blocks(bound, self._watched.union(aliased))
            self._patterns += [job.pattern, *values.values()]
        literals = {name: text for name, text in literals.items() if name in blocks.bound.groups}
        return _Job(blocks, literals, job.fixed)

    def _check_reserved(self, bound: Bound, values: Mapping[str, Pattern]) -> None:
        """Refuse an axis of a prompt that is called like a column or a key of the config."""
        for key, group in bound.groups.items():
            if key in self._reserved and key not in values and group.is_recorded:
                raise PatternError(
                    group.place,
                    f"an axis cannot be called {key!r}: that is a column or a key of its own.",
                    f"Give it another name: {{my_{key}: …}}.",
                )

    def _check_names(self) -> None:
        """Refuse options on axes that no job has."""
        if not self._watched:
            return
        known = {name for blocks in self._bound.values() for name in blocks.names}
        known.update(name for job in self._jobs for name in job.fixed)
        for what, names in (
            ("sample", self.options.samples),
            ("zip", [axis for link in self.options.links for axis in link]),
            *((rule.kind, rule.conditions) for rule in self._rules),
        ):
            for name in names:
                if name not in known:
                    raise ConfigError(
                        f"{what}: this sweep has no axis {name!r}. Its axes: "
                        f"{', '.join(sorted(known))}."
                    )

    # ------------------------------------------------------------------- samples and links

    def _apply_samples(self, recorded: Mapping[str, Sequence[str]]) -> None:
        for name, sample in self.options.samples.items():
            values: dict[str, None] = {}
            for job in self._jobs:
                values.update(dict.fromkeys(self._values(job, name, "sample")))
            if name in recorded:
                _check_recorded(name, recorded[name], values)
                self.samples[name] = tuple(recorded[name])
            elif sample.count <= len(values):
                self.samples[name] = sample.choose(list(values))
            else:
                raise ConfigError(
                    f"sample: asks for {sample.count:,} values of {name}, which has "
                    f"{len(values):,}. Ask for fewer, or leave the sample out to draw them all."
                )
            allowed = frozenset(self.samples[name])
            for job in self._jobs:
                if name not in job.blocks.names and name in job.fixed:
                    job.is_out = job.is_out or str(job.fixed[name]) not in allowed

    def _values(self, job: _Job, name: str, what: str) -> list[str]:
        """Return the values that an axis has in a job, before any sample."""
        key = job.blocks.names.get(name)
        if key is None:
            return [str(job.fixed[name])] if name in job.fixed else []
        bound = job.blocks.bound
        held = job.blocks.reach(key) & set(bound.linked) - {key}
        if held:
            raise ConfigError(
                f"{what}: {name} holds the linked axis {', '.join(sorted(held))}; name that one."
            )
        job.blocks.check_listable(bound.count(key), f"{what}: {name}")
        values = job.blocks.values(key, job.literals, job.literals)
        return [value.text for value in values]

    def _allowed(self, job: _Job) -> dict[str, frozenset[str]]:
        names = job.blocks.names
        return {
            names[axis]: frozenset(values) for axis, values in self.samples.items() if axis in names
        }

    def _list(self, job: _Job, name: str, what: str) -> tuple[int, ...]:
        """List the block in which an axis is chosen, if it is not yet; return its numbers."""
        number = job.blocks.block_of(job.blocks.names[name])
        for numbers in job.listed:
            if number in numbers:
                return numbers
        job.blocks.check_listable(job.blocks.count(number), f"{what}: {name}")
        cache_key = (id(job.blocks), number, frozenset(job.literals.items()))
        known = self._options.get(cache_key)
        if known is None:
            known = list(job.blocks.options(number, self._allowed(job), job.literals))
            self._options[cache_key] = known
        job.listed[(number,)] = known
        return (number,)

    def _apply_link(self, link: Sequence[str]) -> None:
        """Keep the points at which the linked axes are at the same place in their lists."""
        places: list[list[dict[int, int]]] = []  # axis, job → place within the job → overall
        lengths: dict[str, int] = {}
        for name in link:
            offsets: dict[tuple[str, ...], int] = {}  # a list of values → where it begins
            places.append([])
            for job in self._jobs:
                values = () if job.is_out else tuple(self._linked_values(job, name))
                if values and values not in offsets:
                    offsets[values] = sum(map(len, offsets))
                start = offsets.get(values, 0)
                places[-1].append({i: start + i for i in range(len(values))})
            lengths[name] = sum(map(len, offsets))
        if len(set(lengths.values())) > 1:
            counted = ", ".join(f"{name} has {number:,}" for name, number in lengths.items())
            raise ConfigError(
                f"zip [{', '.join(link)}]: axes that go side by side need equally many values, but "
                f"{counted}. Add or remove values, or leave zip out for the full product."
            )
        for index, job in enumerate(self._jobs):
            if not job.is_out:
                self._link_job(job, link, [by_job[index] for by_job in places])

    def _linked_values(self, job: _Job, name: str) -> list[str]:
        key = job.blocks.names.get(name)
        if key is None:
            if name not in job.fixed:
                raise ConfigError(f"zip: the axis {name!r} is missing in a part of the sweep.")
            return [str(job.fixed[name])]
        if key not in job.blocks.factors:
            raise ConfigError(
                f"zip: the axis {name!r} is chosen inside of an alternative; link the whole one."
            )
        allowed = self._allowed(job).get(key)
        return [v for v in self._values(job, name, "zip") if allowed is None or v in allowed]

    def _link_job(
        self, job: _Job, link: Sequence[str], places: Sequence[Mapping[int, int]]
    ) -> None:
        joined: dict[int, list[Option]] | None = None  # place → options
        numbers: tuple[int, ...] = ()
        for name, place_of in zip(link, places, strict=True):
            key = job.blocks.names.get(name)
            if key is None:
                here = {place_of[0]: [Option({})]}
            else:
                block = self._list(job, name, "zip")
                here = {}
                if block == numbers:  # already joined: both axes in one block
                    options = [option for found in (joined or {}).values() for option in found]
                    joined = None
                else:
                    options = job.listed.pop(block)
                    numbers = tuple(sorted({*numbers, *block}))
                for option in options:
                    here.setdefault(place_of[option.positions[key]], []).append(option)
            joined = here if joined is None else _join(joined, here)
        assert joined is not None
        job.is_out = not joined
        if numbers:
            job.listed[numbers] = [option for place in sorted(joined) for option in joined[place]]

    # --------------------------------------------------------------------------------- rules

    def _apply_masks(self) -> None:
        """Note on every job and listed option which rules it satisfies."""
        axes = {axis for rule in self._rules for axis in rule.conditions}
        for job in self._jobs:
            inside = {name for name in axes if name in job.blocks.names}
            for name in axes - inside:
                job.mask &= self._mask(name, job.fixed.get(name))
            for name in {*inside, *(n for n in self.samples if n in job.blocks.names)}:
                if not job.is_out:
                    self._list(job, name, "the rule")
            for numbers, options in job.listed.items():
                held = [name for name in inside if self._is_in(job, name, numbers)]
                keys = [(name, job.blocks.names[name]) for name in held]
                job.listed[numbers] = [
                    replace(option, mask=self._mask_of(option, keys)) for option in options
                ]

    def _is_in(self, job: _Job, name: str, numbers: tuple[int, ...]) -> bool:
        return job.blocks.block_of(job.blocks.names[name]) in numbers

    def _mask_of(self, option: Option, keys: Sequence[tuple[str, str]]) -> int:
        mask = -1
        for name, key in keys:
            mask &= self._mask(name, option.texts.get(key))
        return mask

    def _mask(self, axis: str, value: Scalar) -> int:
        """Return the rules that a value of an axis satisfies or that do not name the axis."""
        known = self._masks.get((axis, value))
        if known is None or isinstance(value, bool | float):
            known = sum(
                1 << number
                for number, rule in enumerate(self._rules)
                if axis not in rule.conditions or rule.matches(axis, value)
            )
            self._masks[axis, value] = known
        return known

    @cached_property
    def _only_bits(self) -> int:
        return sum(1 << n for n, rule in enumerate(self._rules) if rule.kind == "only")

    def _remover(self, mask: int) -> str | None:
        """Return the rule that takes a point out, None if it stays."""
        if self._only_bits and not mask & self._only_bits:
            return "only"
        excluding = mask & ~self._only_bits & ((1 << len(self._rules)) - 1)
        if excluding:
            return str(self._rules[(excluding & -excluding).bit_length() - 1])
        return None

    # ------------------------------------------------------------------------------- results

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Number of points of each job; fills `removed` and `warnings`."""
        self.removed = {
            **({"only": 0} if self._only_bits else {}),
            **{str(rule): 0 for rule in self._rules if rule.kind == "exclude"},
        }
        matched = 0
        kept = []
        for job in self._jobs:
            number = 0
            if not self._rules and not job.listed and not job.is_out:
                kept.append(job.blocks.bound.num_prompts)
                continue
            for mask, points in self._classes(job).items():
                matched |= mask if points else 0
                remover = self._remover(mask)
                if remover is None:
                    number += points
                else:
                    self.removed[remover] += points
            kept.append(number)
        for index, rule in enumerate(self._rules):
            if not matched >> index & 1:
                self.warnings.append(f"The rule {rule} matches nothing: check its names.")
        return tuple(kept)

    @property
    def num_points(self) -> int:
        """Number of points of the whole grid."""
        return sum(self.counts)

    @property
    def num_removed(self) -> int:
        """Number of points that the rules took out."""
        _ = self.counts
        return sum(self.removed.values())

    def _classes(self, job: _Job) -> Counter[int]:
        """Return how many points of a job satisfy which rules."""
        if job.is_out:
            return Counter()
        listed = {number for numbers in job.listed for number in numbers}
        others = (n for n in range(len(job.blocks.blocks)) if n not in listed)
        classes = Counter({job.mask: math.prod(map(job.blocks.count, others))})
        for options in job.listed.values():
            verdicts = Counter(option.mask for option in options)
            classes = _conjunction(classes, verdicts)
        return classes

    def points(self) -> Iterator[Point]:
        """Yield every point, job by job, the first axis of a prompt slowest."""
        for index, job in enumerate(self._jobs):
            if not job.is_out:
                yield from self._points_of(index, job)

    def _points_of(self, index: int, job: _Job) -> Iterator[Point]:
        blocks = job.blocks
        listed = {number for numbers in job.listed for number in numbers}
        choices = [(numbers[0], options) for numbers, options in job.listed.items()]
        for number in range(len(blocks.blocks)):
            if number not in listed:
                blocks.check_listable(blocks.count(number), "the sweep")
                choices.append((number, list(blocks.options(number, {}, job.literals))))
        choices.sort(key=lambda choice: choice[0])
        for combination in product(*(options for _, options in choices)):
            mask = job.mask
            texts: dict[str, str] = {}
            for option in combination:
                mask &= option.mask
                texts.update(option.texts)
            if self._rules and self._remover(mask) is not None:
                continue
            prompt, coordinates = blocks.render(texts, job.literals)
            yield Point(index, prompt, coordinates, blocks.subject_parts)

    def axis_counts(self) -> dict[str, int]:
        """Return every axis of the prompts with its number of values, before the rules."""
        lists: dict[str, dict[object, int]] = {}  # axis → its lists of values → their lengths
        for blocks in self._bound.values():
            for key, group in blocks.bound.groups.items():
                if group.is_recorded and key in blocks.names:
                    lists.setdefault(key, {})
                    if group.alternatives != ((_PLACEHOLDER.text,),):
                        lists[key][group.alternatives] = blocks.bound.count(key)
        for job in self._jobs:
            for key, text in job.literals.items():
                if key in lists:
                    lists[key][text] = 1
        counts = {name: sum(found.values()) for name, found in lists.items()}
        return {name: len(self.samples.get(name, ())) or n for name, n in counts.items()}


def _check_recorded(name: str, recorded: Sequence[str], values: Mapping[str, None]) -> None:
    gone = [value for value in recorded if value not in values]
    if gone:
        raise ConfigError(
            f"sample: this run began with values of {name} that are no longer there: "
            f"{', '.join(gone[:5])}. Put them back, or draw it as a new sweep."
        )


def _join(
    first: Mapping[int, list[Option]], second: Mapping[int, list[Option]]
) -> dict[int, list[Option]]:
    """Return the options of both sides that are at the same place."""
    return {
        place: [
            Option({**a.texts, **b.texts}, {**a.positions, **b.positions})
            for a in first[place]
            for b in second[place]
        ]
        for place in first
        if place in second
    }


def _conjunction(first: Counter[int], second: Counter[int]) -> Counter[int]:
    both: Counter[int] = Counter()
    for mask, number in first.items():
        for other, count in second.items():
            both[mask & other] += number * count
    return both
