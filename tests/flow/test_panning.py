"""Rounds of further seeds end with the budget, count earlier sessions, and stop when told to."""

from __future__ import annotations

import pytest

from promptlab.flow.panning import draw_rounds
from promptlab.flow.summary import Session
from promptlab.paths import RunPaths
from promptlab.scores.panning import Until
from promptlab.store import open_store, read_run
from tests.store.painting import make_plan
from tests.store.sweeping import drawn

NEVER = Until("sharpness", True, 1e9, 11)  # no image is ever so sharp


def draw_all(store, num_images: int | None = None) -> None:
    for request in store.pending("painter")[:num_images]:
        store.add(drawn(request))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_rounds_end_with_the_budget_of_all_sessions_and_their_seeds_follow_on(tmp_path):
    paths, plan = RunPaths(str(tmp_path / "one")), make_plan(("a fox",))
    for until, num_images in ((NEVER, 11), (NEVER, 11), (Until("sharpness", True, 1e9, 13), 13)):
        with open_store(paths, plan) as store:
            draw_all(store)
            for grown in draw_rounds(plan, store, until, paths, Session()):
                draw_all(store)
                assert grown.num_images <= num_images
        run = read_run(paths)
        assert run.num_rows == run.record.num_images == grown.num_images == num_images
    seeds: dict[str, list[int]] = {}
    for row in run.rows():
        seeds.setdefault(row["cell_id"], []).append(row["seed"])
    assert all(sorted(found) == list(range(len(found))) for found in seeds.values())


def test_no_round_is_asked_for_in_a_session_that_ended_early(tmp_path):
    paths, plan = RunPaths(str(tmp_path / "one")), make_plan(("a fox",))
    with open_store(paths, plan) as store:
        draw_all(store)
        assert list(draw_rounds(plan, store, NEVER, paths, Session(is_interrupted=True))) == []
        assert store.num_pending == 0
