"""A sweep whose cost nobody could answer for is refused; all else is as it was planned."""

from __future__ import annotations

import math

import pytest

from promptlab.configs.settings import Settings
from promptlab.errors import ConfigError
from promptlab.flow.preview import describe_plan
from promptlab.flow.runs import ChosenFolder
from promptlab.flow.spending import check_prices, estimate, ledger_of
from promptlab.paths import RunPaths
from promptlab.planning.plan import Plan
from promptlab.store import Survey
from tests.store.painting import Painter, make_plan


class Paid(Painter):
    """A painter whose images of foxes have a price."""

    def __init__(self, price: float | None) -> None:
        super().__init__()
        self.price = price

    def price_of(self, request) -> float | None:
        return self.price if "fox" in request.prompt else None


class Accounting(Paid):
    """One that keeps to a budget."""

    def use_ledger(self, ledger) -> None:
        pass


def plan_of(model: Painter) -> Plan:
    """Return a plan of four cells, two of them of foxes, with three seeds each."""
    return make_plan(seeds=(0, 1, 2), model=model)


def test_what_a_sweep_costs_is_the_price_of_each_image_that_has_one():
    assert estimate(plan_of(Paid(0.25))) == {"painter": 6 * 0.25}
    assert estimate(plan_of(Paid(0.0))) == {"painter": 0.0}
    assert estimate(plan_of(Painter())) == {}
    assert math.isnan(estimate(plan_of(Paid(math.nan)))["painter"])


@pytest.mark.parametrize(
    ("model", "settings", "problem"),
    [
        (Painter(), {}, None),
        (Painter(), {"budget": 1.0}, None),
        (Paid(0.25), {}, None),
        (Paid(0.25), {"budget": 1.0}, "no use_ledger"),
        (Accounting(0.25), {"budget": 1.0}, None),
        (Paid(math.nan), {}, "allow_unknown_price=true"),
        (Paid(math.nan), {"allow_unknown_price": True}, None),
        (Accounting(math.nan), {"budget": 1.0}, "no budget can hold"),
        (Accounting(math.nan), {"budget": 1.0, "allow_unknown_price": True}, "no budget can hold"),
    ],
)
def test_a_price_that_nobody_knows_and_a_budget_that_cannot_hold_are_refused(
    model, settings, problem
):
    if problem is None:
        check_prices(plan_of(model), Settings(name="x", **settings))
        return
    with pytest.raises(ConfigError, match=problem):
        check_prices(plan_of(model), Settings(name="x", **settings))


def test_each_run_has_its_own_ledger_that_of_a_bucket_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMPTLAB_CACHE", str(tmp_path / "cache"))
    local = ledger_of(RunPaths(str(tmp_path / "run")), 5.0)
    assert (local.folder, local.budget_usd) == (tmp_path / "run" / "requests", 5.0)
    one, same, other = (
        ledger_of(RunPaths(f"s3://{name}/runs/one"), 5.0) for name in ("one", "one", "other")
    )
    assert one.folder == same.folder != other.folder
    assert one.budget_usd == 5.0
    for ledger in (one, other):
        assert ledger.folder is not None
        assert ledger.folder.is_relative_to(tmp_path / "cache")


def describe(plan: Plan, exists: bool = False, stages=None, budget=None, **found) -> list[str]:
    """Return the lines of a plan of which the store knows something."""
    survey = Survey(**{**dict.fromkeys(("num_done", "num_failed", "num_reused"), 0), **found})
    settings = Settings(name="x", stages=stages or {}, budget=budget)
    folder = ChosenFolder(RunPaths("runs/one"), plan, exists)
    return describe_plan(plan, settings, survey, folder).splitlines()


def line_of(lines: list[str], head: str) -> str:
    (line,) = (line for line in lines if line.strip().startswith(head))
    return line.strip().removeprefix(head).strip()


def test_a_plan_says_what_is_left_and_how_long_it_takes():
    known = {"num_done": 7, "num_failed": 2, "num_reused": 1, "num_pending": 4}
    lines = describe(plan_of(Painter()), exists=True, **known, seconds_per_image={"painter": 30.0})
    assert line_of(lines, "already drawn here") == "7"
    assert line_of(lines, "drawn in earlier runs") == "1"
    assert line_of(lines, "failed earlier") == "2"
    assert line_of(lines, "to draw") == "4"
    assert line_of(lines, "Time:") == "about 2 min (30.00 s an image)"
    assert line_of(lines, "Folder:") == "runs/one (continues)"
    assert line_of(lines, "4 cells,").startswith("12 images")
    new = describe(plan_of(Painter()), num_pending=12)
    assert line_of(new, "Time:").startswith("unknown")
    assert line_of(new, "Folder:") == "runs/one (new)"
    done = describe(plan_of(Painter()), num_pending=0, seconds_per_image={"painter": 30.0})
    assert line_of(done, "Time:") == "none"


def test_the_time_of_several_models_is_an_upper_bound():
    one, two = plan_of(Painter()), make_plan(("an owl",), model=Painter())
    plan = Plan(
        one.sweep,
        one.sweep_id,
        one.axes,
        one.cells,
        {**one.models, "other": two.models["painter"]},
    )
    speeds = {"painter": 1.0, "other": 10.0}
    lines = describe(plan, num_pending=6, seconds_per_image=speeds)
    assert line_of(lines, "Time:") == "at most 60 s (10.00 s an image)"
    lines = describe(plan, num_pending=6, seconds_per_image={"painter": 1.0})
    assert line_of(lines, "Time:").startswith("unknown")


def test_the_disk_holds_each_image_twice_unless_parquet_has_no_bytes():
    painter = Painter()
    painter.image_size = (1000, 1000)
    plan = plan_of(painter)
    assert line_of(describe(plan, num_pending=10), "Disk:") == "up to 20 MB"
    without = {"store": {"embed_images": False}}
    assert line_of(describe(plan, num_pending=10, stages=without), "Disk:") == "up to 10 MB"
    assert line_of(describe(plan, num_pending=0), "Disk:") == "under 1 MB"


def test_the_price_is_a_bound_where_not_every_image_is_drawn():
    plan = plan_of(Paid(0.25))
    assert line_of(describe(plan, num_pending=12), "Price:").startswith("about $1.50 (painter")
    assert line_of(describe(plan, num_pending=3), "Price:").startswith("at most $1.50 (painter")
    unknown = line_of(describe(plan_of(Paid(math.nan)), num_pending=12), "Price:")
    assert unknown.startswith("unknown (painter unknown")
    nothing = describe(plan, num_pending=0) + describe(plan_of(Painter()), num_pending=12)
    assert not [line for line in nothing if line.startswith(("Price", "Budget"))]
    assert line_of(describe(plan, num_pending=3, budget=2.0), "Budget:").startswith("$2.00")


def test_a_plan_shows_the_first_values_and_prompts_and_counts_the_others():
    subjects = tuple(f"subject {n}" for n in range(10))
    lines = describe(make_plan(subjects, ("noto",), (0,)), num_pending=10)
    (axis,) = (line for line in lines if line.split()[:2] == ["subject", "10"])
    assert axis.endswith("subject 5, … 4 more")
    assert "  subject 7, noto" in lines
    assert "  subject 8, noto" not in lines
    assert lines[-1] == "  … and 2 more"
    single = describe(make_plan(("a fox",), ("noto",), (0,)), num_pending=1)
    assert "  no axis: a single cell" in single
