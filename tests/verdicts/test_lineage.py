"""Which cells descend from picked ones, in plans that nobody draws."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest

from promptlab.configs.settings import Job, Settings
from promptlab.errors import ConfigError
from promptlab.planning.expand import expand
from promptlab.planning.plan import Plan
from promptlab.records import Cell
from promptlab.verdicts.lineage import Lineage, Parent, find_parents, keep_descendants
from tests.painters import PaintModel

SUBJECTS = ("a fox", "a {red|blue} robot")
STYLES = ("noto", "openmoji")


def make_plan(
    subjects: Sequence[str] = SUBJECTS,
    styles: Sequence[str] = STYLES,
    seeds: object = 2,
    **values: object,
) -> tuple[Plan, list[Job]]:
    """Return the plan of subject × style, and its jobs."""
    jobs = []
    for number, (subject, style) in enumerate(itertools.product(subjects, styles)):
        own = {"subject": subject, "style": style, **values}
        config = {
            "model": {"_target_": "paint"},
            "template": {"pattern": "{subject}"},
            **{**own, "seeds": seeds, "style": {"pattern": f"{{prompt}} in {style}"}},
        }
        overrides = (*(f"{key}={value}" for key, value in own.items()), f"seeds={seeds}")
        choices = {"model": "mine", "template": "plain", "style": style}
        jobs.append(Job(number, overrides, own, config, choices))
    return expand(jobs, Settings("test"), lambda node: PaintModel()), jobs


def descend(
    parents: Sequence[Parent], changed: set[str], plan: Plan, jobs: Sequence[Job]
) -> tuple[Cell, ...]:
    return keep_descendants(plan, jobs, Lineage(tuple(parents), frozenset(changed))).cells


def parents_of(*picked: tuple[str, str], seeds: int = 2) -> list[Parent]:
    """Return the parents of picked cells, by prompt's subject and style; all seeds are drawn."""
    plan, jobs = make_plan(seeds=seeds)
    cells = [
        c
        for subject, style in picked
        for c in plan.cells
        if (c.subject, c.style) == (subject, style)
    ]
    assert len(cells) == len(picked)
    ids = [(cell.cell_id, plan.request(cell, cell.seeds[-1]).image_id) for cell in cells]
    drawn = {cell.cell_id: cell.seeds for cell in plan.cells}
    return list(find_parents(plan, jobs, ids, drawn, "runs/one"))


ALL = [(s, t) for s in ("a fox", "a red robot", "a blue robot") for t in STYLES]


@pytest.mark.parametrize("picked", [ALL[:1], ALL[1:3], [ALL[0], ALL[3], ALL[4]], ALL], ids=str)
@pytest.mark.parametrize("changed", [set(), {"style"}, {"temperature"}], ids=str)
def test_a_cell_descends_from_the_picked_ones_that_it_agrees_with_where_nothing_was_changed(
    picked, changed
):
    parents = parents_of(*picked)
    values = {"temperature": 0.5} if "temperature" in changed else {}
    plan, jobs = make_plan(styles=("noto", "twemoji") if "style" in changed else STYLES, **values)

    def agrees(cell: Cell, parent: Parent) -> bool:
        there = parent.coordinates
        return cell.subject == there["subject"] and (
            "style" in changed or cell.style == there["style"]
        )

    expected = {
        cell.cell_id: {i for p in parents if agrees(cell, p) for i in p.image_ids}
        for cell in plan.cells
    }
    kept = descend(parents, changed, plan, jobs)
    assert {c.cell_id: set(c.parent_ids) for c in kept} == {i: p for i, p in expected.items() if p}
    assert all(cell.seeds == (0, 1) for cell in kept)
    narrowed = keep_descendants(plan, jobs, Lineage(tuple(parents), frozenset(changed)))
    for axis in narrowed.axes:
        name = axis.name
        if name != "seed":
            shown = [c.axes[name] if name in c.axes else getattr(c, name) for c in kept]
            assert axis.values == tuple(v for v in dict.fromkeys(shown) if v is not None)
            assert len(dict.fromkeys(shown)) > 1


@pytest.mark.parametrize(
    "how", ["temperature=0.5", "+temperature=0.5", "~temperature", "++temperature=1"]
)
def test_a_changed_key_may_be_set_added_or_deleted_on_either_side(how):
    """However a command writes the key, the jobs of the picked cells are found again without it."""
    plan, jobs = make_plan()
    changed = [replace(job, overrides=(*job.overrides, how)) for job in jobs]
    for ours, theirs in ((changed, jobs), (jobs, changed)):
        cell = plan.cells[0]
        ids = [(cell.cell_id, plan.request(cell, 0).image_id)]
        parents = find_parents(plan, theirs, ids, {}, "runs/one")
        assert [c.cell_id for c in descend(parents, {"temperature"}, plan, ours)] == [cell.cell_id]
        with pytest.raises(ConfigError, match="No cell descends"):
            descend(parents, set(), plan, ours)


@pytest.mark.parametrize(("other_seeds", "asked"), [(9, 3), (2, 1), (1, 2)])
def test_more_seeds_begin_after_those_of_the_same_cell_whatever_its_other_parents_have_drawn(
    other_seeds, asked
):
    same = parents_of(("a fox", "noto"), seeds=4)
    other = parents_of(("a fox", "openmoji"), seeds=other_seeds)
    plan, jobs = make_plan(("a fox",), ("noto",), asked)
    (cell,) = descend([*same, *other], {"style", "seeds"}, plan, jobs)
    assert cell.seeds == tuple(range(4, 4 + asked))
    assert len(cell.parent_ids) == 2
    (cell,) = descend(other, {"style", "seeds"}, plan, jobs)
    assert cell.seeds == tuple(range(asked)), "another cell keeps the seeds that were asked for"


def test_seeds_that_are_listed_or_not_asked_for_are_no_fresh_ones():
    parents = parents_of(("a fox", "noto"), seeds=4)
    for seeds, changed in (([0, 9], {"seeds"}), (4, set())):
        plan, jobs = make_plan(("a fox",), ("noto",), seeds)
        asked = {job.number: job for job in jobs}
        parents = [
            Parent(
                asked[0].overrides if not changed else p.overrides,
                p.coordinates,
                p.image_ids,
                p.seeds,
            )
            for p in parents
        ]
        (cell,) = descend(parents, changed, plan, jobs)
        assert cell.seeds == ((0, 9) if changed else (0, 1, 2, 3))


def test_a_job_of_several_picked_cells_is_drawn_again_once_in_the_order_of_the_picks():
    fox, red, blue = parents_of(
        ("a fox", "noto"), ("a red robot", "noto"), ("a blue robot", "noto")
    )
    assert red.overrides == blue.overrides
    for parents in ((red, fox, blue), (blue, red, fox)):
        assert Lineage(parents, frozenset()).bases == (red.overrides, fox.overrides)


def test_a_picked_cell_that_is_made_no_more_is_counted_and_where_none_descends_it_is_said():
    plan, jobs = make_plan()
    with pytest.raises(ConfigError, match="1 of 2 picked cells of runs/one"):
        find_parents(plan, jobs, [(plan.cells[0].cell_id, "x"), ("gone", "y")], {}, "runs/one")
    other, its_jobs = make_plan(("an owl",))
    with pytest.raises(ConfigError, match="No cell descends"):
        descend(parents_of(("a fox", "noto")), {"temperature"}, other, its_jobs)
