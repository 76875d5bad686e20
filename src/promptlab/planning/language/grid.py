"""The grid of a sweep: all jobs' prompts with their coordinates, counted without being built.

Takes the jobs' patterns and the options sample, zip, only and exclude; returns counts, and points
one by one. The order of meaning is: values, then `sample`, then `zip`, then the rules. Does not
know seeds, models, parameters' ranges or ids.

Only blocks that a sample, a zip or a rule looks at are ever listed; the others are counted by
formula. A rule's verdict on a point is the conjunction of its verdicts on the point's blocks, so
points are counted by classes of equal verdicts rather than one by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from promptlab.errors import ConfigError
from promptlab.planning.language.bind import bind
from promptlab.planning.language.blocks import Blocks, BlockValue
from promptlab.planning.language.bound import Bound
from promptlab.planning.language.errors import PatternError
from promptlab.planning.language.job import GridJob, JobPattern
from promptlab.planning.language.options import GridOptions
from promptlab.planning.language.rules import Verdicts
from promptlab.planning.language.syntax import Pattern, Text
from promptlab.planning.language.wildcards import Wildcards
from promptlab.planning.language.zips import apply_zip


@dataclass(frozen=True, slots=True)
class Point:
    """One prompt and where it stands in the grid."""

    job_index: int
    prompt: str
    coordinates: Mapping[str, str]  # axes of the prompt, in reading order; those not in it left out
    subject_parts: frozenset[str]  # axes among them that belong to the subject alone


@dataclass(frozen=True, slots=True)
class GridCount:
    """How many points a grid has, and what its rules did."""

    per_job: tuple[int, ...]
    removed: Mapping[str, int]  # rule → points that it took out
    warnings: tuple[str, ...]  # rules that match nothing

    @property
    def num_points(self) -> int:
        """Number of points of the whole grid."""
        return sum(self.per_job)

    @property
    def num_removed(self) -> int:
        """Number of points that the rules took out."""
        return sum(self.removed.values())


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
        that samples of a resumed run chose when it began, whatever its lists hold by now.
        """
        self.options = options
        self._reserved = reserved
        self.samples: dict[str, tuple[str, ...]] = {}  # axis → the values that were chosen
        self._verdicts = Verdicts(options.rules)
        self._bound: dict[tuple[object, ...], Blocks] = {}  # shared by jobs of equal patterns
        self._watched = self._watched_names()
        self._jobs = [self._read(job, wildcards) for job in jobs]
        self._check_names()
        self._apply_samples(recorded_samples or {})
        for zipped in options.zips:
            apply_zip(zipped, self._jobs, self.samples)
        self._apply_rules()

    # ------------------------------------------------------------------------------ reading

    def _watched_names(self) -> frozenset[str]:
        return frozenset(name for _, name in self.options.named_axes())

    def _read(self, job: JobPattern, wildcards: Wildcards) -> GridJob:
        values: dict[str, Pattern] = {}
        texts: dict[str, str] = {}
        for name, value in job.values.items():
            if all(isinstance(item, Text) for item in value.items):
                texts[name] = value.text
            else:
                values[name] = value
        given = frozenset(texts)
        key = (job.pattern, tuple(values.items()), given)
        blocks = self._bound.get(key)
        if blocks is None:
            bound = bind(job.pattern.fill(values, given), wildcards, given)
            self._check_reserved(bound, job.values)
            aliased = (k for k, g in bound.groups.items() if g.alias in self._watched)
            blocks = self._bound[key] = Blocks(bound, self._watched.union(aliased))
        texts = {name: text for name, text in texts.items() if name in blocks.bound.groups}
        return GridJob(blocks, texts, job.fixed)

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
        for what, name in self.options.named_axes():
            if name not in known:
                raise ConfigError(
                    f"{what}: this sweep has no axis {name!r}. Its axes: "
                    f"{', '.join(sorted(known))}."
                )

    # ------------------------------------------------------------------- samples and zips

    def _apply_samples(self, recorded: Mapping[str, Sequence[str]]) -> None:
        for name, sample in self.options.samples.items():
            values: dict[str, None] = {}
            for job in self._jobs:
                values.update(dict.fromkeys(job.values(name, "sample")))
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
                if not job.has_axis(name) and name in job.fixed:
                    job.is_out = job.is_out or str(job.fixed[name]) not in allowed

    def _apply_rules(self) -> None:
        """List what samples and rules look at, and note which rules each part satisfies."""
        axes = self._verdicts.axes
        for job in self._jobs:
            inside = {name for name in axes if job.has_axis(name)}
            for name in axes - inside:
                job.mask &= self._verdicts.mask(name, job.fixed.get(name))
            if job.is_out:
                continue
            for name in {*inside, *filter(job.has_axis, self.samples)}:
                job.list_block(name, self.samples, "the rule")
            for numbers, values in job.listed.items():
                held = [n for n in inside if job.block_of(n) in numbers]
                keys = [(name, job.blocks.names[name]) for name in held]
                job.listed[numbers] = [
                    replace(value, mask=self._mask(value, keys)) for value in values
                ]

    def _mask(self, value: BlockValue, keys: Sequence[tuple[str, str]]) -> int:
        mask = -1
        for name, key in keys:
            mask &= self._verdicts.mask(name, value.texts.get(key))
        return mask

    # ------------------------------------------------------------------------------- results

    def count(self) -> GridCount:
        """Return how many points each job has and what the rules took out, by formula."""
        removed = dict.fromkeys(self._verdicts.removers(), 0)
        matched = 0
        kept = []
        for job in self._jobs:
            number = 0
            if not self.options.rules and not job.listed and not job.is_out:
                kept.append(job.blocks.bound.num_prompts)
                continue
            for mask, points in self._classes(job).items():
                matched |= mask if points else 0
                remover = self._verdicts.remover(mask)
                if remover is None:
                    number += points
                else:
                    removed[remover] += points
            kept.append(number)
        warnings = [
            f"The rule {rule} matches nothing: check its names."
            for rule in self._verdicts.idle(matched)
        ]
        return GridCount(tuple(kept), removed, tuple(warnings))

    @staticmethod
    def _classes(job: GridJob) -> Counter[int]:
        """Return how many points of a job satisfy which rules."""
        if job.is_out:
            return Counter()
        classes = Counter({job.mask: job.num_unlisted})
        for values in job.listed.values():
            classes = _conjunction(classes, Counter(value.mask for value in values))
        return classes

    def points(self) -> Iterator[Point]:
        """Yield every point, job by job, the first axis of a prompt slowest."""
        for index, job in enumerate(self._jobs):
            if not job.is_out:
                yield from self._points_of(index, job)

    def _points_of(self, index: int, job: GridJob) -> Iterator[Point]:
        for combination in product(*job.choices()):
            mask = job.mask
            texts: dict[str, str] = {}
            for value in combination:
                mask &= value.mask
                texts.update(value.texts)
            if self._verdicts.remover(mask) is None:
                prompt, coordinates = job.blocks.render(texts, job.given)
                yield Point(index, prompt, coordinates, job.blocks.subject_parts)

    def axis_counts(self) -> dict[str, int]:
        """Return every axis of the prompts with its number of values, before the rules."""
        lists: dict[str, dict[object, int]] = {}  # axis → its lists of values → their lengths
        for blocks in self._bound.values():
            for key, group in blocks.bound.groups.items():
                if group.is_recorded and key in blocks.names:
                    lists.setdefault(key, {})
                    if not group.is_given:
                        lists[key][group.alternatives] = blocks.bound.count(key)
        for job in self._jobs:
            for key, text in job.given.items():
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


def _conjunction(first: Counter[int], second: Counter[int]) -> Counter[int]:
    both: Counter[int] = Counter()
    for mask, number in first.items():
        for other, count in second.items():
            both[mask & other] += number * count
    return both
