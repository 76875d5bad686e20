"""What --plan prints: axes, what is left to draw, time, disk, money, prompts, unknown words.

Takes a plan and what the store knows of it; returns text. Prints, writes and reads nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from promptlab.configs.settings import Settings
from promptlab.flow.spending import estimate
from promptlab.flow.summary import count, describe_unknown_words, format_usd, shorten
from promptlab.models.http.prices import read_prices
from promptlab.planning.plan import Axis, Plan, PlannedModel
from promptlab.progress import format_seconds
from promptlab.store import Survey

if TYPE_CHECKING:
    from promptlab.flow.runs import ChosenFolder

NUM_PROMPTS = 8  # shown of a plan
NUM_VALUES = 6  # shown of an axis
MIN_NAME_WIDTH = 14  # characters of the column of axis names
PNG_BYTES_PER_PIXEL = 1.0  # a photo-like PNG; drawings take a third of it


def describe_plan(plan: Plan, settings: Settings, found: Survey, folder: ChosenFolder) -> str:
    """Return what a sweep would draw, where, and what that takes."""
    plan_id = plan.sweep_id if plan.has_ids else "its id is known after the download"
    lines = [f"Sweep {plan.sweep} ({plan_id})", ""]
    width = max([MIN_NAME_WIDTH, *(len(axis.name) for axis in plan.axes)])
    lines += [f"  {_describe_axis(axis, width)}" for axis in plan.axes] or [
        "  no axis: a single cell"
    ]
    lines += [f"  {note}" for note in plan.notes]
    lines += [
        "",
        f"{count(len(plan.cells), 'cell')}, {count(plan.num_images, 'image')} "
        f"(limit {settings.limit:,})",
        f"  already drawn here     {found.num_done:>8,}",
        f"  drawn in earlier runs  {found.num_reused:>8,}",
        f"  failed earlier         {found.num_failed:>8,}",
        f"  to draw                {found.num_pending:>8,}",
        "",
        f"Models: {', '.join(map(_describe_model, plan.models.values()))}",
        f"Time:   {_describe_time(plan, found)}",
        f"Disk:   {_describe_disk(plan, found.num_pending, settings)}",
        *_describe_price(plan, settings, found.num_pending),
        f"Folder: {folder.paths.root}" + (" (continues)" if folder.exists else " (new)"),
        *describe_unknown_words(plan),
        "",
        *_describe_prompts(plan),
    ]
    return "\n".join(lines)


def _describe_model(planned: PlannedModel) -> str:
    state = "" if planned.model.is_downloaded else ", to be downloaded first"
    numerics = planned.numerics
    return f"{planned.model.name} ({numerics.dtype}, {numerics.device}{state})"


def _describe_axis(axis: Axis, width: int) -> str:
    shown = ", ".join(shorten(str(value)) for value in axis.values[:NUM_VALUES])
    more = f", … {len(axis.values) - NUM_VALUES} more" if len(axis.values) > NUM_VALUES else ""
    return f"{axis.name:<{width}} {len(axis.values):>6}  {shown}{more}"


def _describe_prompts(plan: Plan) -> list[str]:
    """Return the first prompts, each once: parameters and models repeat them."""
    prompts = list(dict.fromkeys(cell.prompt for cell in plan.cells))
    head = "First prompts:" if len(prompts) > NUM_PROMPTS else f"{count(len(prompts), 'prompt')}:"
    lines = [head, *(f"  {shorten(prompt)}" for prompt in prompts[:NUM_PROMPTS])]
    if len(prompts) > NUM_PROMPTS:
        lines.append(f"  … and {len(prompts) - NUM_PROMPTS:,} more")
    return lines


def _describe_time(plan: Plan, found: Survey) -> str:
    if not found.num_pending:
        return "none"
    speeds: Mapping[str, float] = found.seconds_per_image
    if len(speeds) < len(plan.models):
        return "unknown: this model has drawn nothing here yet"
    # Several models: their images are not counted apart, so the slowest sets the upper bound.
    bound = "about" if len(speeds) == 1 else "at most"
    slowest = max(speeds.values())
    return f"{bound} {format_seconds(slowest * found.num_pending)} ({slowest:.2f} s an image)"


def _describe_disk(plan: Plan, num_pending: int, settings: Settings) -> str:
    sizes = [plan.models[cell.model_key].model.size_of(cell.params) for cell in plan.cells]
    per_image = max(width * height for width, height in sizes) * PNG_BYTES_PER_PIXEL
    copies = 2 if (settings.stages.get("store") or {}).get("embed_images", True) else 1
    num_bytes = per_image * copies * num_pending
    return f"up to {num_bytes / 1e6:,.0f} MB" if num_bytes >= 1e6 else "under 1 MB"


def _describe_price(plan: Plan, settings: Settings, num_pending: int) -> list[str]:
    """Return what drawing all images costs at most, by model; nothing of models that are free."""
    totals = estimate(plan)
    if not totals or not num_pending:
        return []
    known = sum(total for total in totals.values() if not math.isnan(total))
    by_model = [
        f"{plan.models[key].model.name} " + ("unknown" if math.isnan(total) else format_usd(total))
        for key, total in totals.items()
    ]
    is_all = num_pending == plan.num_images and len(totals) == len(plan.models)
    bound = "unknown" if not known else f"{'about' if is_all else 'at most'} {format_usd(known)}"
    if known and any(map(math.isnan, totals.values())):
        bound += " and what is unknown"
    lines = [f"Price:  {bound} ({', '.join(by_model)}; prices as of {read_prices().date})"]
    if settings.budget is not None:
        lines.append(f"Budget: {format_usd(settings.budget)}, all sessions of the sweep together")
    return lines
