"""The whole flow of a sweep: jobs → plan → engine → store → tracking → contact sheet.

Takes composed jobs, returns the outcome. Each stage is a call; plain records pass between them.
Knows neither Hydra nor any stage's inside.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

from promptlab.configs.settings import Job, Settings, settings_from_jobs
from promptlab.engine import BLOCK_SIZE, cut_blocks, draw, resident
from promptlab.errors import (
    BudgetSpentError,
    ModelLostError,
    PlanOutdatedError,
    ReportError,
    SweepInterruptedError,
)
from promptlab.finishing import finishing
from promptlab.flow import spending, summary
from promptlab.flow.enlarging import Enlarging, enlarged, open_upscaler
from promptlab.flow.panning import draw_rounds, read_until
from promptlab.flow.preview import describe_plan
from promptlab.flow.provenance import describe_sweep
from promptlab.flow.runs import choose_run_folder, file_exists, keep_log, read_samples
from promptlab.flow.sources import Sources
from promptlab.flow.stages import StageOptions
from promptlab.flow.summary import Session, SweepSummary
from promptlab.models.http.ledger import Ledger
from promptlab.models.registry import open_model, open_model_for_plan
from promptlab.paths import RunPaths
from promptlab.planning.expand import check_limit, expand
from promptlab.planning.plan import Plan
from promptlab.progress import show_progress
from promptlab.records import Cell, Drawn, Numerics, Result
from promptlab.report import ReportOptions, write_contact_sheet
from promptlab.scores.beside import scoring_beside
from promptlab.store import Counts, Store, StoreOptions, open_store, read_run, survey
from promptlab.tracking import TrackingOptions, open_tracking
from promptlab.verdicts.lineage import Lineage, keep_descendants

MAX_IMAGES_OF_PICKS = 1_000_000  # images of the picked jobs, of which most may not be picked

SOURCES_BLOCK_SIZE = 64  # requests handed out at once that each hold the bytes of an image

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


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a sweep."""

    plan: Plan
    session: Session
    paths: RunPaths | None = None  # None: a plan only
    counts: Counts | None = None  # rows of the whole run folder
    summary: SweepSummary | None = None


def run_sweep(jobs: Sequence[Job], invocation: Invocation | None = None) -> Outcome:
    """Draw every pending image of a sweep, record it, and build its contact sheet."""
    invocation = invocation or Invocation()
    settings = settings_from_jobs(jobs)
    sources = Sources(settings.runs_dir)
    plan = make_plan(jobs, settings, invocation, sources)
    options = StageOptions(settings)
    store_options = replace(
        options[StoreOptions],
        reuse=settings.reuse,
        retry_failed=invocation.retry_failed,
        runs_dir=settings.runs_dir,
    )
    folder = choose_run_folder(plan, settings, invocation.run_folder)
    plan = folder.plan
    enlarging = open_upscaler(settings, open_model)
    until = None if settings.until is None else read_until(settings.until)
    if invocation.is_plan_only:
        found = survey(folder.paths if folder.exists else None, plan, store_options)
        print(describe_plan(plan, settings, found, folder))
        if enlarging is not None:
            print(f"\nAfterwards: {enlarging.describe(enlarging.count(plan))}")
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
            log.info("%s", summary.describe_start(plan, store, paths))
            if store.num_pending:
                tracking.begin()
            ledger.read()
            session = draw_pending(plan, store, sources, ledger=ledger)
            if until is not None:
                for grown in draw_rounds(plan, store, until, paths, session):
                    plan = grown
                    draw_pending(plan, store, sources, session, ledger)
            if enlarging is not None and session.is_complete:
                plan = enlarge(plan, store, paths, sources, enlarging, session)
            if not session.is_complete:
                scoring.abandon()
        if session.is_plan_outdated:
            return run_sweep(jobs, replace(invocation, run_folder=paths.root))
        if not store.num_pending:
            ledger.clear()
        is_new = session.num_drawn + store.num_reused > 0 or scoring.has_scored
        if is_new:
            log.info("Building the contact sheet.")
        sheet = write_sheet(paths, options[ReportOptions], is_new)
        if is_new and options[TrackingOptions].enabled:
            log.info("Bringing MLflow up to date.")
    ended = SweepSummary.of(plan, session, store, paths, sheet)
    with keep_log(paths):
        log.info("%s", summary.describe_end(ended, settings))
    if session.model_lost is not None:
        raise ModelLostError(
            summary.describe_lost_model(session.model_lost, plan, store.counts, paths)
        )
    if session.is_interrupted:
        raise SweepInterruptedError(summary.describe_interruption(plan, store.counts, paths))
    if session.budget_spent:
        raise BudgetSpentError(
            summary.describe_spent_budget(session.budget_spent, plan, store.counts, paths)
        )
    return Outcome(plan, session, paths, store.counts, ended)


def make_plan(
    jobs: Sequence[Job], settings: Settings, invocation: Invocation, sources: Sources
) -> Plan:
    """Return the plan of the jobs: all of it, or what descends from picked cells."""
    open_for = open_model_for_plan if invocation.is_plan_only else open_model
    if invocation.lineage is None:
        samples = read_samples(invocation.run_folder, jobs[0].config.get("sample"))
        return expand(jobs, settings, open_for, samples, sources.parent)
    limit = max(settings.limit, MAX_IMAGES_OF_PICKS)
    every = expand(jobs, replace(settings, limit=limit), open_for, find_parent=sources.parent)
    plan = keep_descendants(every, jobs, invocation.lineage)
    check_limit(plan, settings.limit)
    return plan


def enlarge(
    plan: Plan,
    store: Store,
    paths: RunPaths,
    sources: Sources,
    enlarging: Enlarging,
    session: Session,
) -> Plan:
    """Draw the enlarged image of every image of a plan; return the plan with them."""
    store.flush()
    more = enlarged(plan, read_run(paths), sources, enlarging)
    store.extend(more.cells, more.models)
    if store.num_pending:
        log.info("%s", enlarging.describe(store.num_pending))
        draw_pending(more, store, sources, session)
    return replace(plan, cells=plan.cells + more.cells, models={**plan.models, **more.models})


def draw_pending(
    plan: Plan,
    store: Store,
    sources: Sources,
    session: Session | None = None,
    ledger: Ledger | None = None,
) -> Session:
    """Draw the images that the run lacks, one resident model after the other.

    Ctrl-C ends it early, and so does a model that cannot draw any more, or not as planned. A model
    whose next image would pass the budget ends alone.
    """
    session, ledger = session or Session(), ledger or Ledger()

    def deliver(drawn: Drawn) -> None:
        store.add(drawn)
        session.note(drawn)
        if drawn.facts.status == "failed":
            log.warning("%s", summary.describe_failure(drawn))

    try:
        results = _results(plan, store, sources, ledger, session)
        with finishing(deliver) as finish, contextlib.closing(results):
            for numerics, result in show_progress(results, store.num_pending):
                finish(result, numerics)
    except KeyboardInterrupt:
        session.is_interrupted = True
    except PlanOutdatedError as error:
        log.warning("%s", error)
        session.is_plan_outdated = True
    except ModelLostError as error:
        session.model_lost = str(error)
    return session


def _results(
    plan: Plan, store: Store, sources: Sources, ledger: Ledger, session: Session
) -> Generator[tuple[Numerics, Result]]:
    for model_key, planned in plan.models.items():
        model, requests = planned.model, store.pending(model_key)
        if not requests:
            continue
        has_sources = any(request.source is not None for request in requests)
        block_size = SOURCES_BLOCK_SIZE if has_sources else BLOCK_SIZE
        log.info("Loading %s.", model.name)
        model.use_ledger(ledger)
        try:
            with resident(model):
                for block in cut_blocks(requests, block_size, model.group_of):
                    for result in draw(model, [sources.with_bytes(request) for request in block]):
                        yield planned.numerics, result
        except BudgetSpentError as error:
            session.budget_spent[model.name] = str(error)


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


def errors_by_job(outcome: Outcome) -> dict[int, str]:
    """Return what failed in each Hydra job, one line a job."""
    failures: dict[int, list[tuple[Cell, str]]] = {}
    if not outcome.session.errors:
        return {}
    for model_key in outcome.plan.models:
        for cell, request in outcome.plan.requests(model_key):
            error = outcome.session.errors.get(request.image_id)
            if error is not None:
                failures.setdefault(cell.job_id, []).append((cell, error))
    return {number: summary.describe_job_failure(found) for number, found in failures.items()}
