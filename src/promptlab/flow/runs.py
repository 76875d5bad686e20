"""Which run folder a sweep writes, its own or a new one, and the log in it.

Takes a plan and settings, returns paths. Does not know what a run folder holds beyond the first
lines of sweep.yaml.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import fsspec

from promptlab.configs.settings import Settings
from promptlab.errors import ConfigError, StoreError
from promptlab.paths import RunPaths, slugify
from promptlab.planning.plan import Plan, sweep_id_of
from promptlab.redaction import redact_text
from promptlab.store import list_runs, read_run

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@dataclass(frozen=True, slots=True)
class ChosenFolder:
    """A run folder, and the plan under the name and id that the run has."""

    paths: RunPaths
    plan: Plan
    exists: bool


def choose_run_folder(plan: Plan, settings: Settings, given: str | None = None) -> ChosenFolder:
    """Return the folder that a plan is drawn into.

    A given folder is taken; one that holds another sweep is an error. Otherwise the newest run
    of the same sweep is resumed, unless `reuse=false` asks for everything to be drawn again.
    """
    plans = {plan.sweep_id: plan}
    if settings.former_name is not None:
        sweep_id = sweep_id_of(settings.former_name, plan.cells)
        plans[sweep_id] = replace(plan, sweep=settings.former_name, sweep_id=sweep_id)
    if given is not None:
        known = read_sweep_id(given)
        if known is not None and known not in plans:
            raise ConfigError(
                f"{given} holds the sweep {known}, this is {plan.sweep_id}: the configs, the "
                "model's weights or the overrides have changed since. Draw it as a sweep of its "
                "own; images that are the same are found there and not drawn again."
            )
        return ChosenFolder(RunPaths(given), plans.get(known or "", plan), known is not None)
    if settings.reuse:
        for run in list_runs(settings.runs_dir):
            known = read_sweep_id(run)
            if known in plans:
                return ChosenFolder(RunPaths(run), plans[known], exists=True)
    return ChosenFolder(_new_folder(settings), plan, exists=False)


def read_sweep_id(run_folder: str) -> str | None:
    """Return the sweep_id in a run folder's sweep.yaml, None if the file does not exist.

    Looks for the one line: parsing the whole file would cost more than all else of a resume.
    """
    try:
        with fsspec.open(RunPaths(run_folder).sweep_yaml, "rt", encoding="utf-8") as file:
            for line in file:
                if line.startswith("sweep_id:"):
                    return line.partition(":")[2].strip().strip("'\"")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{run_folder} cannot be read: {error.strerror or error}.") from error
    return None


def read_samples(run_folder: str | None, sample: Any) -> Mapping[str, Sequence[str]]:
    """Return the values that a run's samples chose when it began, if it asks for the same ones.

    Lists may have grown since; a resumed run keeps the values that it began with.
    """
    if not sample or run_folder is None or read_sweep_id(run_folder) is None:
        return {}
    record = read_run(run_folder).record
    return record.samples if record.config.get("sample") == sample else {}


def file_exists(path: str) -> bool:
    """Tell whether a file exists, on a disk or behind a URL."""
    file_system, inside = fsspec.core.url_to_fs(path)
    return bool(file_system.exists(inside))


def _new_folder(settings: Settings) -> RunPaths:
    name = "_".join(slugify(part) for part in settings.name.split("_") if part) or "sweep"
    base = f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{name}"
    runs_dir = settings.runs_dir.rstrip("/") or "/"
    name, number = base, 1
    while file_exists(f"{runs_dir}/{name}"):
        number += 1
        name = f"{base}-{number}"
    return RunPaths(f"{runs_dir}/{name}")


class _LogFile(logging.FileHandler):
    """A log whose failures are ignored: a full disk must not stop a sweep on its account."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        pass


class _Redacted(logging.Formatter):
    """Leaves credentials out, whatever a message quotes."""

    def format(self, record: logging.LogRecord) -> str:
        return redact_text(super().format(record))


@contextmanager
def keep_log(paths: RunPaths) -> Iterator[None]:
    """Write promptlab's log records to sweep.log for as long as the context is open."""
    if "://" in paths.root:
        yield  # an object store cannot be appended to; the console has the log
        return
    handler = _LogFile(paths.log, encoding="utf-8")
    handler.setFormatter(_Redacted(LOG_FORMAT))
    logger = logging.getLogger("promptlab")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        with suppress(OSError):
            handler.close()
