"""The whole flow of a sweep: jobs → plan → engine → store → tracking → contact sheet.

Takes composed jobs, returns the outcome. Each stage is a call; plain records pass between them.
Knows neither Hydra nor any stage's inside.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from promptlab.configs.settings import Job, Settings, settings_from_jobs
from promptlab.errors import (
    BudgetSpentError,
    ModelLostError,
    ReportError,
    SweepInterruptedError,
)
from promptlab.flow import spending, summary
from promptlab.flow.drawing import Drawing
from promptlab.flow.enlarging import open_upscaler
from promptlab.flow.panning import read_until
from promptlab.flow.preview import describe_plan
from promptlab.flow.provenance import describe_sweep
from promptlab.flow.remote import draw_elsewhere
from promptlab.flow.runs import choose_run_folder, file_exists, keep_log, read_samples
from promptlab.flow.sources import Sources
from promptlab.flow.stages import StageOptions
from promptlab.flow.summary import Session, SweepSummary
from promptlab.flow.watching import Watch
from promptlab.models.registry import open_model, open_model_for_plan
from promptlab.paths import RunPaths
from promptlab.planning.expand import check_limit, expand
from promptlab.planning.plan import Plan
from promptlab.records import Cell
from promptlab.report import ReportOptions, write_contact_sheet
from promptlab.scores.beside import scoring_beside
from promptlab.store import Counts, StoreOptions, open_store, survey
from promptlab.tracking import TrackingOptions, open_tracking
from promptlab.verdicts.lineage import Lineage, keep_descendants
from promptlab.workers import (
    Describe,
    WorkerOptions,
    Workers,
    open_workers,
)

MAX_IMAGES_OF_PICKS = 1_000_000  # images of the picked jobs, of which most may not be picked

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Invocation:
    """How one command wants its jobs drawn."""

    argv: tuple[str, ...] = ()  # the command's arguments, to run it again
    is_plan_only: bool = False  # print the plan, draw nothing
    run_folder: str | None = None  # write here; None: the run of this same sweep if there is one,
    #   else a new folder below runs_dir
    retry_failed: bool = False  # draw failed rows again
    lineage: Lineage | None = None  # draw only what descends from these picked cells
    watch: Watch = field(default_factory=Watch)  # hears of the plan and of each image
    flush_s: float | None = None  # images are acknowledged so often; None: as store.flush_s says


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a sweep."""

    plan: Plan | None  # None: a job of a cluster has drawn it
    session: Session
    paths: RunPaths | None = None  # None: a plan only
    counts: Counts | None = None  # rows of the whole run folder
    summary: SweepSummary | None = None
    errors: Mapping[int, str] = field(default_factory=dict)  # what failed, by Hydra job


def run_sweep(jobs: Sequence[Job], invocation: Invocation | None = None) -> Outcome:
    """Draw every pending image of a sweep, record it, and build its contact sheet."""
    invocation = invocation or Invocation()
    settings = settings_from_jobs(jobs)
    options = StageOptions(settings)
    if options[WorkerOptions].kind == "slurm" and not invocation.is_plan_only:
        elsewhere = draw_elsewhere(
            run_sweep,
            jobs,
            replace(invocation, watch=Watch()),
            settings.runs_dir,
            options[WorkerOptions],
        )
        assert isinstance(elsewhere, Outcome)
        return elsewhere
    with open_workers(options[WorkerOptions]) as workers:
        return _run_with(workers, jobs, settings, options, invocation)


def _run_with(
    workers: Workers,
    jobs: Sequence[Job],
    settings: Settings,
    options: StageOptions,
    invocation: Invocation,
) -> Outcome:
    """Plan, draw and record a sweep with these workers."""
    sources = Sources(settings.runs_dir)
    plan = make_plan(jobs, settings, invocation, sources, workers.describe)
    store_options = replace(
        options[StoreOptions],
        reuse=settings.reuse,
        retry_failed=invocation.retry_failed,
        runs_dir=settings.runs_dir,
    )
    if invocation.flush_s is not None:
        store_options = replace(store_options, flush_s=invocation.flush_s)
    folder = choose_run_folder(plan, settings, invocation.run_folder)
    plan = folder.plan
    enlarging = open_upscaler(settings, open_model)
    until = None if settings.until is None else read_until(settings.until)
    if invocation.is_plan_only:
        plan = replace(plan, notes=(*plan.notes, *summary.describe_kinds(workers.kinds())))
        found = survey(folder.paths if folder.exists else None, plan, store_options)
        text = describe_plan(plan, settings, found, folder)
        if enlarging is not None:
            text += f"\n\nAfterwards: {enlarging.describe(enlarging.count(plan))}"
        print(text)
        invocation.watch.planned(plan, found.num_pending, text, folder.paths, ())
        return Outcome(plan, Session())

    spending.check_prices(plan, settings)
    paths = folder.paths
    ledger = spending.ledger_of(paths, settings.budget)
    record = describe_sweep(plan, jobs, invocation.argv)
    with open_tracking(paths, options[TrackingOptions]) as tracking:
        with (
            scoring_beside(paths, settings.score) as scoring,
            open_store(
                paths,
                plan,
                store_options,
                record=record,
                listeners=[tracking.notify, ledger.forget_stored, scoring.note],
            ) as store,
            keep_log(paths),
        ):
            start = summary.describe_start(plan, store, paths)
            log.info("%s", start)
            invocation.watch.planned(plan, store.num_pending, start, paths, store.pending_rows())
            if store.num_pending:
                tracking.begin()
            ledger.read()
            drawing = Drawing(plan, store, sources, workers, invocation.watch, ledger)
            drawing.draw()
            drawing.pan(until, paths)
            drawing.enlarge(enlarging, paths)
            plan, session = drawing.plan, drawing.session
            if not session.is_complete:
                scoring.abandon()
            if session.by_worker:
                store.note_workers(session.by_worker)
        if not store.num_pending:
            ledger.clear()
        is_new = session.num_drawn + store.num_reused > 0 or scoring.has_scored
        if is_new:
            log.info("Building the contact sheet.")
        sheet: list[str] = []
        if not session.is_plan_outdated:
            sheet = write_sheet(paths, options[ReportOptions], is_new)
        if is_new and options[TrackingOptions].enabled:
            log.info("Bringing MLflow up to date.")
    if session.is_plan_outdated:
        again = replace(invocation, run_folder=paths.root)
        return _run_with(workers, jobs, settings, options, again)
    ended = SweepSummary.of(plan, session, store, paths, sheet)
    with keep_log(paths):
        log.info("%s", summary.describe_end(ended, settings))
    raise_if_ended_early(plan, session, store.counts, paths)
    return Outcome(plan, session, paths, store.counts, ended, errors_by_job(plan, session))


def make_plan(
    jobs: Sequence[Job],
    settings: Settings,
    invocation: Invocation,
    sources: Sources,
    ask: Describe | None,
) -> Plan:
    """Return the plan of the jobs: all of it, or what descends from picked cells.

    `ask` gives the numerics of those who will draw; None: that is this process.
    """
    open_for = open_model_for_plan if invocation.is_plan_only else open_model
    may_download = not invocation.is_plan_only
    describe = None if ask is None else lambda node: ask(node, may_download)
    if invocation.lineage is None:
        samples = read_samples(invocation.run_folder, jobs[0].config.get("sample"))
        return expand(jobs, settings, open_for, samples, sources.parent, describe)
    limit = max(settings.limit, MAX_IMAGES_OF_PICKS)
    every = expand(jobs, replace(settings, limit=limit), open_for, None, sources.parent, describe)
    plan = keep_descendants(every, jobs, invocation.lineage)
    check_limit(plan, settings.limit)
    return plan


def raise_if_ended_early(plan: Plan, session: Session, counts: Counts, paths: RunPaths) -> None:
    """Raise why a sweep has not drawn everything, how much is kept, and how to resume."""
    if session.model_lost is not None:
        raise ModelLostError(summary.describe_lost_model(session.model_lost, plan, counts, paths))
    if session.is_interrupted:
        raise SweepInterruptedError(summary.describe_interruption(plan, counts, paths))
    if session.budget_spent:
        raise BudgetSpentError(
            summary.describe_spent_budget(session.budget_spent, plan, counts, paths)
        )


def write_sheet(paths: RunPaths, options: ReportOptions, is_new: bool) -> list[str]:
    """Build the contact sheet and return its files; without new images the old sheet stays.

    Drawn images are worth more than their sheet: a sheet that fails is a warning.
    """
    known = [path for path in (paths.index_html, paths.contact_sheet_png) if file_exists(path)]
    try:
        if is_new or not file_exists(paths.index_html):
            files = write_contact_sheet(paths.root, options)
            known = [files.index_html, *filter(None, [files.contact_sheet_png]), *files.others]
    except ReportError as error:
        log.warning("No contact sheet: %s", error)
        return []
    return known


def errors_by_job(plan: Plan, session: Session) -> dict[int, str]:
    """Return what failed in each Hydra job, one line a job."""
    failures: dict[int, list[tuple[Cell, str]]] = {}
    if not session.errors:
        return {}
    for model_key in plan.models:
        for cell, request in plan.requests(model_key):
            error = session.errors.get(request.image_id)
            if error is not None:
                failures.setdefault(cell.job_id, []).append((cell, error))
    return {number: summary.describe_job_failure(found) for number, found in failures.items()}
