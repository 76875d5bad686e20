"""The drawing of a plan: what ends it early is told apart, and paid models spend here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from promptlab.errors import BudgetSpentError, ModelLostError, PlanOutdatedError
from promptlab.flow.drawing import SOURCES_BLOCK_SIZE, Drawing
from promptlab.flow.enlarging import Enlarging
from promptlab.flow.sources import Sources
from promptlab.flow.watching import Watch
from promptlab.models.http.ledger import Ledger
from promptlab.models.registry import open_model
from promptlab.paths import RunPaths
from promptlab.planning.plan import Plan, PlannedModel
from promptlab.records import Result, Source
from promptlab.store import StoreOptions, open_store, read_run
from promptlab.workers import Deliver, ThisProcess, Work
from tests.store.painting import Painter, make_plan


class Recording(ThisProcess):
    """This process, which notes the work that it gets and may raise once it is done."""

    def __init__(self, error: BaseException | None = None) -> None:
        super().__init__()
        self.error = error
        self.works: list[Work] = []

    def draw(self, works: Sequence[Work], deliver: Deliver) -> None:
        self.works += works
        super().draw(works, deliver)
        self.restarts = Counter({"this process": 2})
        if self.error is not None:
            raise self.error


class Paid(Painter):
    """A hosted model; its budget is spent before the third image."""

    name = "paid"
    ledger: Ledger | None = None

    def use_ledger(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def draw(self, requests):
        for number, result in enumerate(super().draw(requests)):
            if number == 2:
                raise BudgetSpentError("its next image costs $1")
            yield result


def draw(root: str, plan: Plan, workers: Recording, watch: Watch | None = None) -> Drawing:
    """Draw a plan with these workers into a new run folder."""
    with open_store(RunPaths(root), plan, StoreOptions(reuse=False)) as store:
        drawing = Drawing(plan, store, Sources(root), workers, watch or Watch())
        drawing.draw()
    return drawing


@pytest.mark.parametrize(
    ("error", "early"),
    [
        (None, (False, False, None)),
        (KeyboardInterrupt(), (True, False, None)),
        (PlanOutdatedError("does not fit"), (False, True, None)),
        (ModelLostError("the device is gone"), (False, False, "the device is gone")),
        (BudgetSpentError("too dear"), (False, False, "too dear")),
    ],
    ids=repr,
)
def test_what_ends_the_drawing_early_is_told_apart_and_loses_no_image(tmp_path, error, early):
    session = draw(str(tmp_path / "one"), make_plan(), Recording(error)).session
    assert (session.is_interrupted, session.is_plan_outdated, session.model_lost) == early
    assert session.is_complete is (error is None)
    assert session.num_drawn == read_run(str(tmp_path / "one")).num_rows == 8
    assert session.by_worker["this process"].restarts == 2


def test_a_paid_model_draws_here_as_far_as_its_budget_goes_and_the_others_go_on(tmp_path):
    paid = Paid()
    cells = make_plan().cells
    mixed = (*(_of_paid(cell) for cell in cells[:2]), *cells[2:])
    painter = make_plan().models["painter"]
    plan = Plan("x", "0" * 16, (), mixed, {"paid": PlannedModel.of(paid), "painter": painter})
    workers = Recording()
    drawing = draw(str(tmp_path / "one"), plan, workers)
    assert [work.planned.model.name for work in workers.works] == ["painter"]
    assert paid.ledger is drawing.ledger
    assert drawing.session.budget_spent == {"paid": "its next image costs $1"}
    assert not drawing.session.is_complete
    drawn = Counter(row["model"] for row in read_run(str(tmp_path / "one")).rows())
    assert drawn == {"paid": 2, "painter": 4}


def _of_paid(cell):
    return replace(cell, model="paid", model_key="paid")


def test_images_with_a_source_are_handed_out_few_at_a_time_with_its_bytes(tmp_path):
    first = str(tmp_path / "first")
    draw(first, make_plan(("a fox",), ("noto",), (0,)), Recording())
    ((image_id, png),) = read_run(first).iter_images()
    source = Source(image_id, read_run(first).rows()[0]["sha256"])
    seen = []
    model = Painter(lambda request: seen.append(request.source))
    plan = make_plan(("a robot",), ("noto",), (0, 1), model=model)
    plain, *others = make_plan(("a robot",), ("noto", "none"), (0, 1)).cells
    plan = replace(plan, cells=(plain, *(replace(cell, source=source) for cell in others)))
    workers = Recording()
    with open_store(RunPaths(str(tmp_path / "second")), plan) as store:
        Drawing(plan, store, Sources(str(tmp_path)), workers).draw()
    assert [work.most for work in workers.works] == [SOURCES_BLOCK_SIZE]
    assert [found and found.png for found in seen] == [None, None, png, png]


def test_nothing_is_enlarged_of_a_sweep_that_ended_early(tmp_path):
    paths = RunPaths(str(tmp_path / "one"))
    upscaler = open_model({"_target_": "promptlab.models.upscalers.open_lanczos"})
    enlarging = Enlarging(PlannedModel.of(upscaler, "lanczos"), {"scale": 2})
    for error, num_rows in ((KeyboardInterrupt(), 4), (None, 8)):
        plan = make_plan(styles=("noto",))
        with open_store(paths, plan) as store:
            drawing = Drawing(plan, store, Sources(str(tmp_path)), Recording(error))
            drawing.draw()
            drawing.workers = Recording()
            drawing.enlarge(enlarging, paths)
        assert (read_run(paths).num_rows, drawing.plan.num_images) == (num_rows, num_rows)


def test_who_watches_hears_of_each_image_and_how_many_are_left(tmp_path, caplog):
    class Watching(Watch):
        def __init__(self) -> None:
            self.heard: list[tuple[int, int, int]] = []

        def drawn(self, session, num_pending) -> None:
            self.heard.append((session.num_drawn, len(session.errors), num_pending))

    def fail_robots(request):
        return Result(request, error="too dark") if "robot" in request.prompt else None

    watch = Watching()
    plan = make_plan(styles=("noto",), model=Painter(fail_robots))
    draw(str(tmp_path / "one"), plan, Recording(), watch)
    assert watch.heard == [(1, 0, 3), (2, 0, 2), (3, 1, 1), (4, 2, 0)]
    assert caplog.text.count("Failed: 'a robot, noto' seed") == 2
