"""The images that `upscale` and `vary` draw from: named, picked, or the best of a run.

Takes a command's words, returns image_ids and Hydra overrides. Draws and writes nothing but the
pages of the parents' runs.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from promptlab.errors import ConfigError, NoPicksError, PromptlabError, StoreError

if TYPE_CHECKING:
    from promptlab.store import Run

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Chosen:
    """Images to draw from."""

    image_ids: tuple[str, ...]
    runs: tuple[str, ...]  # the folders that hold them
    sweep: str  # name of the first one's sweep


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what both verbs take."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar="RUN | IMAGE_ID | KEY=VALUE",
        help="run folders (default: the newest), images by id or its beginning; and overrides as "
        "`promptlab sweep -m` takes them",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--picked", action="store_true", help="of a run, its picks alone")
    which.add_argument(
        "--best", type=int, metavar="N", help="of a run, the N best by picks and by its first score"
    )
    parser.add_argument("--plan", action="store_true", help="print what would be drawn")
    parser.add_argument("--runs-dir", default="runs", help="where runs and images are looked for")


def split_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return targets and overrides; a folder with = in its name is a target."""
    targets = [word for word in words if "=" not in word or os.path.isdir(word)]
    return targets, [word for word in words if word not in targets]


def choose(args: argparse.Namespace, targets: Sequence[str]) -> Chosen:
    """Return the images that a command names; StoreError for one that no run holds."""
    from promptlab.store import find_image, newest_run, read_run

    if args.best is not None and args.best < 1:
        raise ConfigError(f"--best {args.best}: expected at least 1 image.")
    image_ids: dict[str, None] = {}
    runs: dict[str, str] = {}
    for target in targets or [newest_run(args.runs_dir)]:
        if os.path.sep in target or "://" in target or os.path.isdir(target):
            run = read_run(target)
            image_ids.update(dict.fromkeys(_of_run(run, args)))
        else:
            run, row = find_image(target, args.runs_dir)
            image_ids[row["image_id"]] = None
        runs.setdefault(run.paths.root, run.sweep)
    if not image_ids:
        raise StoreError(f"{', '.join(runs)}: no image to draw from.")
    return Chosen(tuple(image_ids), tuple(runs), next(iter(runs.values())))


def _of_run(run: Run, args: argparse.Namespace) -> list[str]:
    if args.picked:
        from promptlab.verdicts.picked import picked_images

        return [image.image_id for image in picked_images(run.paths.root)]
    if args.best:
        return _best(run, args.best)
    enlarged = {m.fingerprint for m in run.record.models.values() if m.needs_source}
    rows = run.rows(["image_id", "model_fingerprint", "sha256"])
    return [
        row["image_id"]
        for row in rows
        if row["sha256"] is not None and row["model_fingerprint"] not in enlarged
    ]


def _best(run: Run, number: int) -> list[str]:
    from promptlab.report.best import order_by_liking
    from promptlab.report.data import collect

    data = collect([run])
    if not data.picks and not data.scores:
        raise NoPicksError(
            f"--best {number}: {run.paths.root} has neither picks nor scores to tell the best by."
        )
    rows = order_by_liking(data, data.has_image.nonzero()[0])
    ids = dict.fromkeys(data.image_ids[data.image_of_row[row]] for row in rows)
    return list(ids)[:number]


def named(chosen: Chosen, overrides: Sequence[str], suffix: str) -> list[str]:
    """Return the overrides with a name for the sweep, unless they give one."""
    if any(override.lstrip("+").startswith("name=") for override in overrides):
        return list(overrides)
    base = chosen.sweep if chosen.sweep.endswith(suffix) else chosen.sweep + suffix
    return [f"name='{base}'", *overrides]


def bring_pages_up_to_date(chosen: Chosen) -> None:
    """Build the pages of the parents' runs again, so that they lead to what was drawn from them."""
    from promptlab.flow.runs import file_exists
    from promptlab.paths import RunPaths
    from promptlab.report import write_contact_sheet

    for root in chosen.runs:
        try:
            if file_exists(RunPaths(root).index_html):
                write_contact_sheet(root)
        except PromptlabError as error:
            log.warning("The page of %s is not up to date: %s", root, error)
