"""Earlier runs as input: the command that began one, its plan, and what descends from its picks.

Takes run folders, returns arguments, jobs, plans and lineages. Draws and writes nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence

from promptlab.configs.hydra_app import compose_jobs
from promptlab.configs.settings import Job, settings_from_jobs
from promptlab.errors import StoreError
from promptlab.flow.sources import Sources
from promptlab.flow.varying import bases_of_images, key_of_override
from promptlab.planning.expand import expand
from promptlab.planning.plan import Plan
from promptlab.redaction import lacks_secret
from promptlab.store import read_run
from promptlab.verdicts.lineage import Lineage, find_parents
from promptlab.verdicts.picked import picked_images


def split_flags(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Take promptlab's own flags out; return them and what is left for Hydra."""
    parser = argparse.ArgumentParser(prog="promptlab sweep", add_help=False, allow_abbrev=False)
    parser.add_argument("--plan", action="store_true")
    folders = parser.add_mutually_exclusive_group()
    folders.add_argument("--resume", metavar="RUN")
    folders.add_argument("--retry-failed", metavar="RUN")
    folders.add_argument("--from-picks", metavar="RUN")
    folders.add_argument("--from-images", metavar="IMAGE_ID,…")
    return parser.parse_known_args(list(arguments))


def lineage_of_picks(run_folder: str, overrides: Sequence[str]) -> Lineage:
    """Return what a sweep from a run's picks descends from."""
    picked = [(image.cell_id, image.image_id) for image in picked_images(run_folder)]
    plan, jobs = plan_of_run(run_folder)
    seeds: dict[str, list[int]] = {}
    for row in read_run(run_folder).rows(["cell_id", "seed"]):
        seeds.setdefault(row["cell_id"], []).append(row["seed"])
    parents = find_parents(plan, jobs, picked, seeds, run_folder)
    changed = {key_of_override(override) for override in overrides}
    return Lineage(parents, frozenset(changed))


def plan_of_run(run_folder: str) -> tuple[Plan, list[Job]]:
    """Return the plan and the jobs that a run's recorded command stands for."""
    flags, recorded = split_flags(recorded_arguments(run_folder))
    bases: Sequence[Sequence[str]] = ()
    if flags.from_picks is not None:  # picks of picks
        bases = lineage_of_picks(flags.from_picks, recorded).bases
    if flags.from_images is not None:  # picks of variations
        bases, recorded = bases_of_images(flags.from_images, recorded)
    jobs = compose_jobs(recorded, bases)
    settings = settings_from_jobs(jobs)
    find_parent = Sources(settings.runs_dir).parent
    every = dataclasses.replace(settings, limit=sys.maxsize)
    return expand(jobs, every, find_parent=find_parent), jobs


def recorded_arguments(run_folder: str, given: Sequence[str] | None = None) -> list[str]:
    """Return the arguments of the command that began a run.

    Those that were recorded without their credential are left out; to resume the run, they must be
    among the `given` ones. Workers that are given replace those that began it, whole: an option of
    the one kind is a mistake with another.
    """
    recorded = read_run(run_folder).record.argv
    if recorded is None:
        raise StoreError(f"{run_folder} does not say which command began it (sweep.yaml, argv).")
    lacking = [argument for argument in recorded if lacks_secret(argument)]
    changed = {key_of_override(override) for override in given or ()}
    for argument in lacking if given is not None else ():
        if key_of_override(argument) not in changed:
            raise StoreError(
                f"{argument} was recorded without its credential. Give it again, after the other "
                f"arguments: {key_of_override(argument)}=…"
            )
    left_out = set(lacking)
    if any(_is_on_workers(argument) for argument in given or ()):
        left_out.update(filter(_is_on_workers, recorded))
    return [argument for argument in recorded if argument not in left_out]


def _is_on_workers(argument: str) -> bool:
    return key_of_override(argument).split(".")[0] == "workers"
