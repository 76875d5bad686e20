"""The drawing of a sweep: what its run lacks, further rounds of seeds, enlarged images.

Takes a plan, the store that waits for its images and the workers that draw; the plan grows as
rounds and enlarged images join it. Knows neither how workers draw nor where images go.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from promptlab.errors import BudgetSpentError, ModelLostError, PlanOutdatedError
from promptlab.flow import summary
from promptlab.flow.enlarging import Enlarging, enlarged
from promptlab.flow.panning import Until, draw_rounds
from promptlab.flow.sources import Sources
from promptlab.flow.summary import Session
from promptlab.flow.watching import Watch
from promptlab.models.complete import has_own
from promptlab.models.http.ledger import Ledger
from promptlab.paths import RunPaths
from promptlab.planning.plan import Plan
from promptlab.progress import show_progress
from promptlab.records import Drawn
from promptlab.store import Store, read_run
from promptlab.workers import Deliver, ThisProcess, Work, Workers

SOURCES_BLOCK_SIZE = 64  # requests handed out at once that each hold the bytes of an image

log = logging.getLogger(__name__)


@dataclass
class Drawing:
    """Draws the images of a plan into its store and counts them."""

    plan: Plan
    store: Store
    sources: Sources
    workers: Workers
    watch: Watch = field(default_factory=Watch)
    ledger: Ledger = field(default_factory=Ledger)
    session: Session = field(default_factory=Session)

    def draw(self, part: Plan | None = None) -> None:
        """Draw the images of the plan, or of a part of it, that the run lacks.

        Ctrl-C ends it early, and so does a model that cannot draw any more, or not as planned. A
        model whose next image would pass the budget ends alone.
        """
        with show_progress(self.store.num_pending) as count:

            def deliver(drawn: Drawn, worker: str) -> None:
                self.store.add(drawn)
                self.session.note(drawn, worker)
                if drawn.facts.status == "failed":
                    log.warning("%s", summary.describe_failure(drawn))
                count(worker)
                self.watch.drawn(self.session, self.store.num_pending)

            try:
                works = list(self._works(part or self.plan))
                services = [work for work in works if has_own(work.planned.model, "use_ledger")]
                for work in services:  # they need no device, and one process keeps their books
                    self._draw_service(work, deliver)
                self.workers.draw([work for work in works if work not in services], deliver)
            except KeyboardInterrupt:
                self.session.is_interrupted = True
            except PlanOutdatedError as error:
                log.warning("%s", error)
                self.session.is_plan_outdated = True
            except ModelLostError as error:
                self.session.model_lost = str(error)
        self.session.note_restarts(self.workers.restarts)

    def pan(self, until: Until | None, paths: RunPaths) -> None:
        """Draw further seeds of the plan's cells in rounds, until nothing is left to gain."""
        if until is not None:
            for plan in draw_rounds(self.plan, self.store, until, paths, self.session):
                self.plan = plan
                self.draw()

    def enlarge(self, enlarging: Enlarging | None, paths: RunPaths) -> None:
        """Draw the enlarged image of every image of the plan, which then holds them too."""
        if enlarging is None or not self.session.is_complete:
            return
        self.store.flush()
        more = enlarged(self.plan, read_run(paths), self.sources, enlarging)
        self.store.extend(more.cells, more.models)
        if self.store.num_pending:
            log.info("%s", enlarging.describe(self.store.num_pending))
            self.draw(more)
        cells, models = self.plan.cells + more.cells, {**self.plan.models, **more.models}
        self.plan = replace(self.plan, cells=cells, models=models)

    def _draw_service(self, work: Work, deliver: Deliver) -> None:
        """Draw a paid model's images in this process, as far as the budget goes."""
        model = work.planned.model
        model.use_ledger(self.ledger)
        try:
            ThisProcess().draw([work], deliver)
        except BudgetSpentError as error:
            self.session.budget_spent[model.name] = str(error)

    def _works(self, plan: Plan) -> Iterator[Work]:
        """Yield what each model has to draw."""
        on_preview = self.watch.previewed if self.watch.wants_previews else None
        for model_key, planned in plan.models.items():
            requests = self.store.pending(model_key)
            if any(request.source is not None for request in requests):
                prepare = self.sources.with_bytes
                yield Work(planned, requests, prepare, SOURCES_BLOCK_SIZE, on_preview)
            elif requests:
                yield Work(planned, requests, on_preview=on_preview)
