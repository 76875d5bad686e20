"""What a sweep tells its user: the plan, the start, each failure, the end, how to resume.

Takes the records of the flow, returns text. Prints nothing, writes nothing.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field

from promptlab.configs.settings import Settings
from promptlab.flow.runs import ChosenFolder
from promptlab.paths import RunPaths
from promptlab.planning.plan import Axis, Plan, PlannedModel
from promptlab.progress import format_seconds
from promptlab.records import Cell, Result
from promptlab.store import Counts, Store, Survey

NUM_PROMPTS = 8  # shown of a plan
NUM_VALUES = 6  # shown of an axis
MAX_WIDTH = 100  # characters of a prompt or value shown
PNG_BYTES_PER_PIXEL = 1.0  # a photo-like PNG; drawings take a third of it


@dataclass(slots=True)
class Session:
    """What this command drew: the part of the run that happened just now."""

    num_drawn: int = 0
    errors: dict[str, str] = field(default_factory=dict)  # image_id -> why it failed
    is_interrupted: bool = False
    model_lost: str | None = None  # why a model could not draw any more


def describe_plan(plan: Plan, settings: Settings, found: Survey, folder: ChosenFolder) -> str:
    """Return what a sweep would draw, where, and what that takes."""
    plan_id = plan.sweep_id if plan.has_ids else "its id is known after the download"
    lines = [f"Sweep {plan.sweep} ({plan_id})", ""]
    lines += [f"  {_describe_axis(axis)}" for axis in plan.axes] or ["  no axis: a single cell"]
    lines += [f"  {note}" for note in plan.notes]
    lines += [
        "",
        f"{_count(len(plan.cells), 'cell')}, {_count(plan.num_images, 'image')} "
        f"(limit {settings.limit:,})",
        f"  already drawn here     {found.num_done:>8,}",
        f"  drawn in earlier runs  {found.num_reused:>8,}",
        f"  failed earlier         {found.num_failed:>8,}",
        f"  to draw                {found.num_pending:>8,}",
        "",
        f"Models: {', '.join(map(_describe_model, plan.models.values()))}",
        f"Time:   {_describe_time(plan, found.num_pending, settings)}",
        f"Disk:   {_describe_disk(plan, found.num_pending, settings)}",
        f"Folder: {folder.paths.root}" + (" (continues)" if folder.exists else " (new)"),
        "",
        "First prompts:",
    ]
    lines += [f"  {shorten(cell.prompt)}" for cell in plan.cells[:NUM_PROMPTS]]
    if len(plan.cells) > NUM_PROMPTS:
        lines.append(f"  … and {len(plan.cells) - NUM_PROMPTS:,} more")
    return "\n".join(lines)


def describe_start(plan: Plan, store: Store, paths: RunPaths) -> str:
    """Return one line on what is about to be drawn."""
    todo = f"{_count(store.num_pending, 'image')} to draw" if store.num_pending else "nothing to do"
    return (
        f"{plan.sweep}: {_count(plan.num_images, 'image')} in {_count(len(plan.cells), 'cell')}, "
        f"{', '.join([*_known_before(store), todo])} → {paths.root}"
    )


def _known_before(store: Store) -> list[str]:
    numbers = ((store.num_done, "already here"), (store.num_reused, "found in earlier runs"))
    return [f"{number:,} {words}" for number, words in numbers if number]


def describe_failure(result: Result) -> str:
    """Return one line on an image that could not be drawn."""
    request = result.request
    return f"Failed: {shorten(request.prompt)!r} seed {request.seed}: {result.error}"


def describe_job_failure(cell: Cell, error: str) -> str:
    """Return one line on a job that has failed images."""
    return f"Images of {shorten(cell.prompt)!r} could not be drawn: {error}"


def describe_end(
    plan: Plan,
    session: Session,
    store: Store,
    paths: RunPaths,
    sheet: Sequence[str],
    settings: Settings,
) -> str:
    """Return the summary: what was drawn, where it lies, how to look at it."""
    counts = store.counts
    parts = [f"{session.num_drawn - len(session.errors):,} drawn"]
    parts += _known_before(store)
    if counts.flagged:
        parts.append(f"{counts.flagged:,} flagged as odd")
    parts.append(f"{counts.failed:,} failed")
    lines = [f"{plan.sweep}: {', '.join(parts)}."]
    if counts.failed:
        lines.append(f"Draw the failed ones again:  promptlab sweep --retry-failed {_quote(paths)}")
    heads = ["Contact sheet:", *[""] * len(sheet)]
    lines += [f"{head:<15} {path}" for head, path in zip(heads, sheet, strict=False)]
    lines += [
        f"Images:         {paths.images}",
        f"Table:          {paths.images_parquet}",
    ]
    if settings.tracking is not None and settings.tracking.get("enabled", True):
        uri = settings.tracking.get("uri")
        lines.append(f"MLflow:         promptlab ui{f' --uri {shlex.quote(uri)}' if uri else ''}")
    return "\n".join(lines)


def describe_interruption(plan: Plan, counts: Counts, paths: RunPaths) -> str:
    """Return what is kept after Ctrl-C and how to resume."""
    return f"Interrupted: {_describe_kept(plan, counts, paths)}"


def describe_lost_model(reason: str, plan: Plan, counts: Counts, paths: RunPaths) -> str:
    """Return why a model cannot draw any more, what is kept and how to resume."""
    return f"The model cannot draw any more: {reason}. {_describe_kept(plan, counts, paths)}"


def _describe_kept(plan: Plan, counts: Counts, paths: RunPaths) -> str:
    return (
        f"{counts.total:,} of {plan.num_images:,} images are kept. Run the same command again to "
        f"resume, or:  promptlab sweep --resume {_quote(paths)}"
    )


def shorten(text: str) -> str:
    """Return a text on one line, cut to a readable width."""
    flat = " ".join(text.split())
    return flat if len(flat) <= MAX_WIDTH else f"{flat[: MAX_WIDTH - 1]}…"


def _describe_model(planned: PlannedModel) -> str:
    state = "" if planned.model.is_downloaded else ", to be downloaded first"
    numerics = planned.numerics
    return f"{planned.model.name} ({numerics.dtype}, {numerics.device}{state})"


def _describe_axis(axis: Axis) -> str:
    shown = ", ".join(shorten(str(value)) for value in axis.values[:NUM_VALUES])
    more = f", … {len(axis.values) - NUM_VALUES} more" if len(axis.values) > NUM_VALUES else ""
    return f"{axis.name:<14} {len(axis.values):>6}  {shown}{more}"


def _describe_time(plan: Plan, num_pending: int, settings: Settings) -> str:
    if not num_pending:
        return "none"
    speeds = [
        _seconds_per_image(name, settings) for name in {p.model.name for p in plan.models.values()}
    ]
    known = [seconds for seconds in speeds if seconds is not None]
    if len(known) < len(speeds):
        return "unknown: this model has drawn nothing here yet"
    # Several models: their images are not counted apart, so the slowest sets the upper bound.
    bound = "about" if len(known) == 1 else "at most"
    return f"{bound} {format_seconds(max(known) * num_pending)} ({max(known):.2f} s an image)"


def _seconds_per_image(model: str, settings: Settings) -> float | None:
    """Return the mean of a model's time an image in the newest run that has rows of it."""
    from promptlab.store import list_runs, read_run

    for folder in list_runs(settings.runs_dir)[:5]:
        rows = read_run(folder).rows(["model", "seconds", "status"])
        seconds = [row["seconds"] for row in rows if row["model"] == model and row["seconds"]]
        if seconds:
            return sum(seconds) / len(seconds)
    return None


def _describe_disk(plan: Plan, num_pending: int, settings: Settings) -> str:
    sizes = [plan.models[cell.model_key].model.size_of(cell.params) for cell in plan.cells]
    per_image = max(width * height for width, height in sizes) * PNG_BYTES_PER_PIXEL
    copies = 2 if settings.store.get("embed_images", True) else 1
    num_bytes = per_image * copies * num_pending
    return f"up to {num_bytes / 1e6:,.0f} MB"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _quote(paths: RunPaths) -> str:
    return shlex.quote(paths.root)
