"""The summary of a sweep: a record of its outcome, and the lines for a terminal.

Takes the records of the flow, returns records and text. Prints, writes and reads nothing.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from promptlab.configs.settings import Settings
from promptlab.paths import RunPaths
from promptlab.planning.plan import Plan
from promptlab.progress import format_seconds
from promptlab.records import Cell, Drawn, WorkerShare
from promptlab.store import Counts, Store
from promptlab.tracking.view import describe_view

MAX_WIDTH = 100  # characters of a prompt or value shown
NUM_WORDS = 8  # unknown words shown


@dataclass(slots=True)
class Session:
    """The images that this command draws, counted one by one."""

    num_drawn: int = 0  # failures included
    errors: dict[str, str] = field(default_factory=dict)  # image_id -> why it failed
    num_unseen: int = 0  # images whose prompt the model did not see whole
    num_equal: int = 0  # images whose pixels are those of another prompt or other parameters
    cost_usd: float | None = None  # None: nothing cost anything
    by_worker: dict[str, WorkerShare] = field(default_factory=dict)
    is_interrupted: bool = False
    is_plan_outdated: bool = False  # a model must be planned anew, see PlanOutdatedError
    model_lost: str | None = None  # why a model could not draw any more
    budget_spent: dict[str, str] = field(default_factory=dict)  # model -> what its next image costs
    _owners: dict[str, int] = field(default_factory=dict)  # pixels -> who drew them first

    @property
    def is_complete(self) -> bool:
        """Whether everything asked for was tried."""
        is_cut_short = self.is_interrupted or self.is_plan_outdated or self.budget_spent
        return not is_cut_short and self.model_lost is None

    def note(self, drawn: Drawn, worker: str) -> None:
        """Count an image."""
        facts, request = drawn.facts, drawn.request
        self.num_drawn += 1
        self._add(worker, WorkerShare(1, facts.seconds))
        if facts.status == "failed":
            self.errors[request.image_id] = facts.error or ""
        self.num_unseen += bool(facts.unseen)
        if facts.cost_usd is not None:
            self.cost_usd = (self.cost_usd or 0.0) + facts.cost_usd
        if facts.sha256 is not None:
            owner = hash((request.prompt, *request.params.items()))
            self.num_equal += self._owners.setdefault(facts.sha256[:16], owner) != owner

    def note_restarts(self, restarts: Mapping[str, int]) -> None:
        """Count the restarts of workers."""
        for worker, number in restarts.items():
            self._add(worker, WorkerShare(restarts=number))

    def _add(self, worker: str, share: WorkerShare) -> None:
        self.by_worker[worker] = self.by_worker.get(worker, WorkerShare()) + share


@dataclass(frozen=True, slots=True)
class SweepSummary:
    """The outcome of a sweep in numbers and paths."""

    sweep: str
    drawn: int  # images that this command drew
    done: int  # images that the run held before
    reused: int  # images found in earlier runs
    failed: int  # rows of the whole run
    flagged: int  # rows of the whole run
    unseen: int  # images of this command whose prompt the model did not see whole
    equal: int  # images of this command with the pixels of another prompt or other parameters
    cost_usd: float | None  # of this command; None: nothing cost anything
    by_worker: Mapping[str, WorkerShare]  # what each worker did for this command
    unknown_words: tuple[str, ...]  # one line a model that does not know all words
    paths: Mapping[str, Sequence[str]]  # what to look at: run, sheet, images, table

    @classmethod
    def of(
        cls, plan: Plan, session: Session, store: Store, paths: RunPaths, sheet: Sequence[str]
    ) -> SweepSummary:
        """Return the summary of a sweep that has ended."""
        return cls(
            sweep=plan.sweep,
            drawn=session.num_drawn - len(session.errors),
            done=store.num_done,
            reused=store.num_reused,
            failed=store.counts.failed,
            flagged=store.counts.flagged,
            unseen=session.num_unseen,
            equal=session.num_equal,
            cost_usd=session.cost_usd,
            by_worker=dict(session.by_worker),
            unknown_words=tuple(describe_unknown_words(plan)),
            paths={
                "run": [paths.root],
                "sheet": list(sheet),
                "images": [paths.images],
                "table": [paths.images_parquet],
            },
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON holds them."""
        return dataclasses.asdict(self)


def describe_start(plan: Plan, store: Store, paths: RunPaths) -> str:
    """Return one line on the images that will be drawn."""
    todo = f"{count(store.num_pending, 'image')} to draw" if store.num_pending else "nothing to do"
    known = _describe_known(store.num_done, store.num_reused)
    return (
        f"{plan.sweep}: {count(plan.num_images, 'image')} in {count(len(plan.cells), 'cell')}, "
        f"{', '.join([*known, todo])} → {paths.root}"
    )


def _describe_known(num_done: int, num_reused: int) -> list[str]:
    numbers = ((num_done, "already here"), (num_reused, "found in earlier runs"))
    return [f"{number:,} {words}" for number, words in numbers if number]


def describe_kinds(kinds: Sequence[str]) -> list[str]:
    """Return a warning if images are drawn on several kinds of devices."""
    if len(kinds) < 2:
        return []
    return [
        f"workers on different devices ({', '.join(kinds)}): an image may differ in its last bits "
        "by who draws it; each row names its own"
    ]


def describe_failure(drawn: Drawn) -> str:
    """Return one line on an image that could not be drawn."""
    request = drawn.request
    return f"Failed: {shorten(request.prompt)!r} seed {request.seed}: {drawn.facts.error}"


def describe_job_failure(failures: Sequence[tuple[Cell, str]]) -> str:
    """Return one line on a job's failed images: how many, of how many prompts, and the first."""
    cell, error = failures[0]
    prompts = {other.prompt for other, _ in failures}
    first = f"{shorten(cell.prompt)!r}"
    if len(prompts) > 1:
        first = f"{len(prompts):,} prompts, the first of them {first},"
    return f"{count(len(failures), 'image')} of {first} could not be drawn: {error}"


def describe_end(summary: SweepSummary, settings: Settings) -> str:
    """Return what was drawn, where it lies, and how to look at it."""
    parts = [f"{summary.drawn:,} drawn", *_describe_known(summary.done, summary.reused)]
    if summary.flagged:
        parts.append(f"{summary.flagged:,} flagged as odd")
    parts.append(f"{summary.failed:,} failed")
    if summary.cost_usd is not None:
        parts.append(f"{format_usd(summary.cost_usd)} spent")
    lines = [f"{summary.sweep}: {', '.join(parts)}."]
    (root,) = summary.paths["run"]
    if summary.failed:
        again = f"promptlab sweep --retry-failed {shlex.quote(root)}"
        lines.append(f"Draw the failed ones again:  {again}")
    lines += _describe_workers(summary.by_worker)
    lines += summary.unknown_words
    if summary.equal:
        lines.append(
            f"{count(summary.equal, 'image')} came out equal to one of another prompt or of other "
            "parameters."
        )
    for head, name in (("Contact sheet:", "sheet"), ("Images:", "images"), ("Table:", "table")):
        heads = [head, *[""] * len(summary.paths[name])]
        lines += [f"{h:<15} {path}" for h, path in zip(heads, summary.paths[name], strict=False)]
    tracking = settings.stages.get("tracking")
    if tracking is not None and tracking.get("enabled", True):
        view = zip(("MLflow:", ""), describe_view(RunPaths(root)), strict=False)
        lines += [f"{head:<15} {line}" for head, line in view]
    return "\n".join(lines)


def _describe_workers(by_worker: Mapping[str, WorkerShare]) -> list[str]:
    """Return a line on the workers, if there were several or one was lost."""
    if len(by_worker) < 2 and not any(share.restarts for share in by_worker.values()):
        return []
    parts = []
    for name, share in sorted(by_worker.items()):
        text = f"{name} {count(share.images, 'image')} in {format_seconds(share.seconds)}"
        if share.restarts:
            text += f", {count(share.restarts, 'restart')}"
        parts.append(text)
    return [f"Workers: {'; '.join(parts)}."]


def describe_unknown_words(plan: Plan) -> list[str]:
    """Return a line for each model that does not know all words: the most frequent, how often."""
    lines = []
    for model_key, planned in plan.models.items():
        words: Counter[str] = Counter()
        num_images = 0
        for cell in plan.cells:
            if cell.model_key == model_key:
                unknown = dict.fromkeys(planned.model.unknown_words(cell.prompt))
                words.update(dict.fromkeys(unknown, len(cell.seeds)))
                num_images += len(cell.seeds) if unknown else 0
        if words:
            shown = ", ".join(word for word, _ in words.most_common(NUM_WORDS))
            more = f", … {len(words) - NUM_WORDS:,} more" if len(words) > NUM_WORDS else ""
            lines.append(
                f"{planned.model.name} does not know: {shown}{more}; in "
                f"{count(num_images, 'image')}."
            )
    return lines


def describe_interruption(plan: Plan, counts: Counts, paths: RunPaths) -> str:
    """Return how many images are kept after Ctrl-C, and the command that resumes."""
    return f"Interrupted: {_describe_kept(plan, counts, paths)}"


def describe_lost_model(reason: str, plan: Plan, counts: Counts, paths: RunPaths) -> str:
    """Return why the model is lost, how many images are kept, and the command that resumes."""
    return f"The model cannot draw any more: {reason}. {_describe_kept(plan, counts, paths)}"


def describe_spent_budget(
    reasons: Mapping[str, str], plan: Plan, counts: Counts, paths: RunPaths
) -> str:
    """Return which models the budget stopped, how many images are kept, and how to continue."""
    stopped = "; ".join(f"{model}: {reason}" for model, reason in reasons.items())
    return (
        f"{stopped}. {counts.total:,} of {plan.num_images:,} images are kept. With more money:  "
        f"promptlab sweep --resume {_quote(paths)} budget=…"
    )


def _describe_kept(plan: Plan, counts: Counts, paths: RunPaths) -> str:
    return (
        f"{counts.total:,} of {plan.num_images:,} images are kept. Run the same command again to "
        f"resume, or:  promptlab sweep --resume {_quote(paths)}"
    )


def shorten(text: str) -> str:
    """Return a text on one line, cut to a readable width."""
    flat = " ".join(text.split())
    return flat if len(flat) <= MAX_WIDTH else f"{flat[: MAX_WIDTH - 1]}…"


def format_usd(amount: float) -> str:
    """Return an amount of US dollars: "$0.0200", "$12.30"."""
    return f"${amount:,.4f}" if amount < 1 else f"${amount:,.2f}"


def count(number: int, noun: str) -> str:
    """Return a number with its noun in the right form."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _quote(paths: RunPaths) -> str:
    return shlex.quote(paths.root)
