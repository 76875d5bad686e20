"""Picked cells are drawn again with new overrides, and the images know what they come from."""

from __future__ import annotations

import pytest

from promptlab.verdicts.picks import Pick, now_utc, record_picks
from tests.conftest import PAINT, Project

GRID = ("-m", "subject=a fox,a {red|blue} robot", "style=noto,openmoji", "seeds=2")


def pick(project: Project, **wanted: object) -> dict[str, str]:
    """Mark the images with these column values as favourites; return image_id -> prompt."""
    run = project.runs[-1]
    rows = [
        row for row in project.rows(run) if all(row[key] == value for key, value in wanted.items())
    ]
    picks = [
        Pick(row["image_id"], None, True, False, note="", who="me", picked_at=now_utc())
        for row in rows
    ]
    record_picks(str(run), picks)
    return {row["image_id"]: row["prompt"] for row in rows}


@pytest.fixture
def drawn(project: Project) -> Project:
    """A project with one run: a fox, a red robot and a blue one, in two styles."""
    assert project.run("sweep", *GRID).code == 0
    assert len(project.rows()) == 12
    return project


def test_only_the_picked_cells_are_drawn_with_the_new_overrides(drawn: Project):
    picked = pick(drawn, subject="a fox", style="noto", seed=1)
    done = drawn.run("sweep", "--from-picks", str(drawn.runs[0]), "seeds=3-5", "temperature=0.5")
    assert done.code == 0, done.err
    rows = drawn.rows()
    assert [(row["subject"], row["style"], row["seed"]) for row in rows] == [
        ("a fox", "noto", seed) for seed in (3, 4, 5)
    ]
    assert all('"temperature":0.5' in row["params"] for row in rows)
    assert {tuple(row["parent_ids"]) for row in rows} == {tuple(picked)}


def test_one_alternative_of_a_prompt_is_drawn_without_the_others(drawn: Project):
    pick(drawn, subject="a red robot", style="openmoji")
    drawn.run("sweep", "--from-picks", str(drawn.runs[0]), "seeds=[7]")
    (row,) = drawn.rows()
    assert row["prompt"] == "a red robot in the style of openmoji"
    assert len(row["parent_ids"]) == 2


def test_an_overridden_axis_may_be_swept(drawn: Project):
    pick(drawn, subject="a fox", style="noto")
    pick(drawn, subject="a blue robot", style="openmoji")
    drawn.run("sweep", "--from-picks", str(drawn.runs[0]), "style=twemoji,fxemoji", "seeds=1")
    assert sorted(row["prompt"] for row in drawn.rows()) == [
        "a blue robot in the style of fxemoji",
        "a blue robot in the style of twemoji",
        "a fox in the style of fxemoji",
        "a fox in the style of twemoji",
    ]


def test_an_image_of_several_picked_cells_names_all_its_parents(drawn: Project):
    parents = pick(drawn, subject="a fox", style="noto") | pick(
        drawn, subject="a fox", style="openmoji"
    )
    drawn.run("sweep", "--from-picks", str(drawn.runs[0]), "style=twemoji", "seeds=1")
    (row,) = drawn.rows()
    assert set(row["parent_ids"]) == set(parents)
    assert len(parents) == 4


def test_each_picked_cell_is_drawn_as_it_was_and_no_mixture_of_them(drawn: Project):
    pick(drawn, subject="a fox", style="noto")
    pick(drawn, subject="a blue robot", style="openmoji")
    drawn.run("sweep", "--from-picks", str(drawn.runs[0]), "seeds=[5]")
    assert [row["prompt"] for row in drawn.rows()] == [
        "a fox in the style of noto",
        "a blue robot in the style of openmoji",
    ]


def test_another_model_draws_the_picked_cells(drawn: Project):
    drawn.write("conf/model/other.yaml", PAINT.format(name="other"))
    pick(drawn, subject="a fox", style="noto")
    drawn.run("sweep", "--from-picks", str(drawn.runs[0]), "model=other")
    assert {(row["model"], row["subject"], row["style"]) for row in drawn.rows()} == {
        ("other", "a fox", "noto")
    }


def test_picks_of_picks_go_on(drawn: Project):
    pick(drawn, subject="a red robot", style="noto")
    drawn.run("sweep", "--from-picks", str(drawn.runs[0]), "temperature=0.5", "seeds=4")
    (parent,) = pick(drawn, seed=3)
    drawn.run("sweep", "--from-picks", str(drawn.runs[1]), "seeds=[9]")
    (row,) = drawn.rows()
    assert row["prompt"] == "a red robot in the style of noto"
    assert '"temperature":0.5' in row["params"]
    assert row["parent_ids"] == [parent]


def test_a_sweep_from_picks_is_resumed_like_any_other(drawn: Project):
    pick(drawn, subject="a fox", style="noto")
    arguments = ("--from-picks", str(drawn.runs[0]), "seeds=6")
    drawn.run("sweep", *arguments)
    assert "nothing to do" in drawn.run("sweep", *arguments).out
    assert "nothing to do" in drawn.run("sweep", "--resume", str(drawn.runs[1])).out
    assert len(drawn.runs) == 2


def test_without_picks_the_ways_to_pick_are_told(drawn: Project):
    done = drawn.run("sweep", "--from-picks", str(drawn.runs[0]))
    assert done.code == 1
    assert "promptlab pick" in done.err


def test_cells_that_the_configs_no_longer_make_are_told(drawn: Project):
    pick(drawn, subject="a fox", style="noto")
    drawn.write("conf/style/noto.yaml", 'pattern: "another {prompt}"')
    done = drawn.run("sweep", "--from-picks", str(drawn.runs[0]))
    assert done.code == 1
    assert "1 of 1 picked cells" in done.err


@pytest.mark.parametrize("seeds", ["seeds=3", pytest.param("seeds=+3", marks=pytest.mark.slow)])
def test_more_seeds_of_a_picked_cell_are_fresh_ones(drawn: Project, seeds: str):
    pick(drawn, subject="a fox", style="noto", seed=1)
    first = ("--from-picks", str(drawn.runs[0]), seeds)
    assert drawn.run("sweep", *first).code == 0
    assert [row["seed"] for row in drawn.rows()] == [2, 3, 4]
    assert "nothing to do" in drawn.run("sweep", *first).out
    pick(drawn, seed=3)
    drawn.run("sweep", "--from-picks", str(drawn.runs[1]), "seeds=2")
    assert [row["seed"] for row in drawn.rows()] == [5, 6]


def test_a_changed_cell_and_a_list_of_seeds_are_drawn_as_they_are_asked_for(drawn: Project):
    pick(drawn, subject="a fox", style="noto", seed=1)
    drawn.run("sweep", "--from-picks", str(drawn.runs[0]), "seeds=2", "temperature=0.5")
    assert [row["seed"] for row in drawn.rows()] == [0, 1]
    drawn.run("sweep", "--from-picks", str(drawn.runs[0]), "seeds=0-2")
    assert [row["seed"] for row in drawn.rows()] == [0, 1, 2]
