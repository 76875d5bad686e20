"""Sweeps from Python: the same jobs, ids and folders as the command line's."""

from __future__ import annotations

import dataclasses
import html
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import promptlab
from promptlab.api import arguments_of
from promptlab.errors import ConfigError, ReportError, StoreError
from promptlab.paths import RunPaths
from promptlab.records import Result
from promptlab.store import read_run
from promptlab.verdicts import Pick, record_picks
from tests.conftest import Project
from tests.store.painting import Painter, make_plan
from tests.store.sweeping import draw_and_stop, draw_plan

PAINT = {"model": "paint", "tracking": None}


def test_a_sweep_from_python_has_the_ids_of_the_same_command(project: Project):
    run = promptlab.sweep(subject=["a fox", "a robot"], style=["noto", "none"], seeds=2, **PAINT)
    assert len(run.table()) == 8
    done = project.run("sweep", "-m", "subject=a fox,a robot", "style=noto,none", "seeds=2")
    assert "8 already here, nothing to do" in done.out
    assert len(project.runs) == 1


def test_what_python_drew_is_resumed_by_the_command_line(project: Project):
    run = promptlab.sweep(subject=["a fox", "a robot"], temperature=[0.5, 1.5], seeds=2, **PAINT)
    done = project.run("sweep", "--resume", run.path)
    assert "8 already here, nothing to do" in done.out


@pytest.mark.parametrize(
    ("values", "arguments"),
    [
        ({"subject": "a fox"}, ["subject=a fox"]),
        ({"subject": ["a fox", "an owl"]}, ["--multirun", "subject=a fox,an owl"]),
        ({"subject": ["a fox"]}, ["subject=a fox"]),
        ({"seeds": [3, 5]}, ["seeds=[3,5]"]),
        ({"seeds": range(2, 4)}, ["seeds=[2,3]"]),
        ({"temperature": (0.2, 1)}, ["--multirun", "temperature=0.2,1"]),
        ({"style": "glob(*)"}, ["--multirun", "style=glob(*)"]),
        ({"subject": "glob(*)"}, ['subject="glob(*)"']),
        ({"zip": [["subject", "style"]]}, ["zip=[[subject,style]]"]),
        ({"tracking": None, "reuse": False}, ["tracking=null", "reuse=false"]),
        ({"sample": {"animal": 2}}, ["sample={animal:2}"]),
        ({"model.path": "a folder"}, ["model.path=a folder"]),
        ({"model.path": Path("a folder")}, ["model.path=a folder"]),
        ({"model": ["a", "b"]}, ["--multirun", "model=a,b"]),
        ({"temperature": np.float64(0.5)}, ["temperature=0.5"]),
        ({"top_k": [np.int64(3), None]}, ["--multirun", "top_k=3,null"]),
        ({"exclude": [{"style": "noto"}]}, ["exclude=[{style:noto}]"]),
    ],
)
def test_a_keyword_becomes_the_override_that_means_the_same(values, arguments):
    assert arguments_of((), values) == arguments


@pytest.mark.parametrize(
    "text",
    [
        'a sign, "open", red',
        "it's {red|blue} \\{not an axis\\}",
        "16:9",
        "1.50",
        "null",
        "a=b, [c]",
        "back\\slash\\",
        "line\nbreak",
    ],
)
def test_a_text_reaches_the_prompt_as_it_is(project: Project, text):
    run = promptlab.sweep(subject=["a fox", text], **PAINT)
    expected = {"a fox", *([text] if "{" not in text else [])}
    prompts = set(run.table()["prompt"])
    assert expected <= prompts
    if "{" in text:
        assert prompts - expected == {"it's red {not an axis}", "it's blue {not an axis}"}


def test_a_named_sweep_is_drawn_by_its_name(project: Project):
    project.write("sweeps/mine.yaml", "# @package _global_\nsubject: an owl\nseeds: 3\n")
    run = promptlab.sweep("mine", **PAINT)
    assert run.table()["subject"].tolist() == ["an owl"] * 3


def test_an_empty_axis_and_a_value_of_another_kind_are_refused(project: Project):
    with pytest.raises(ConfigError, match=r"subject=\[\]: expected at least one value"):
        promptlab.sweep(subject=[], **PAINT)
    with pytest.raises(ConfigError, match="Expected texts, numbers"):
        promptlab.sweep(subject=object(), **PAINT)


def test_a_run_gives_images_by_the_beginning_of_their_id(project: Project):
    run = promptlab.sweep(subject="a fox", seeds=2, **PAINT)
    image_id = run.table()["image_id"][0]
    assert run.image(image_id[:10]).size == (32, 32)
    assert run.image(image_id).text["promptlab"]  # as stored, with what it says of itself
    with pytest.raises(ReportError, match="0 images match"):
        run.image("zz")
    with pytest.raises(ReportError, match="2 images match"):
        run.image("")


def test_the_best_images_are_those_that_people_like(project: Project):
    run = promptlab.sweep(subject="a fox", seeds=4, **PAINT)
    ids = run.table()["image_id"].tolist()
    record_picks(
        run.path,
        [
            Pick(ids[0], is_reject=True),
            Pick(ids[2], rating=4),
            Pick(ids[3], is_favourite=True),
        ],
    )
    assert run.best(2)["image_id"].tolist() == [ids[3], ids[2]]
    assert ids[0] not in run.best(10)["image_id"].tolist()
    assert {pick.image_id for pick in run.picks} == {ids[0], ids[2], ids[3]}


def test_a_sweep_from_picks_descends_from_them(project: Project):
    run = promptlab.sweep(subject=["a fox", "a robot"], **PAINT)
    (fox,) = run.table().query("subject == 'a fox'")["image_id"]
    record_picks(run.path, [Pick(fox, is_favourite=True)])
    descended = promptlab.sweep(from_picks=run, seeds=4, **PAINT)
    record = read_run(descended.path).record
    assert record.argv is not None
    assert record.argv[:2] == ("--from-picks", run.path), "else a resume would draw all"
    more = descended.table()
    assert set(more["subject"]) == {"a fox"}
    assert all(parents.tolist() == [fox] for parents in more["parent_ids"])


def test_a_notebook_shows_the_sheet_where_it_reaches_nothing_else(project: Project):
    run = promptlab.sweep(subject="a <b>fox</b>", **PAINT)
    shown = run.sheet()._repr_html_()
    frame = re.fullmatch(r'<iframe srcdoc="([^"]*)" sandbox="([^"]*)"[^>]*></iframe>', shown)
    assert frame is not None
    assert "allow-same-origin" not in frame[2]
    assert html.unescape(frame[1]).startswith("<!doctype html>")
    assert "<b>fox" not in html.unescape(frame[1])


def test_a_run_is_opened_by_its_folder_or_as_the_newest(project: Project):
    run = promptlab.sweep(subject="a fox", **PAINT)
    assert promptlab.open_run().path == run.path == promptlab.open_run(run.path).path
    assert repr(run) == f"<promptlab run {run.path}: 1 images>"
    with pytest.raises(StoreError, match="is not a run folder"):
        promptlab.open_run("nowhere")


def test_failed_images_are_rows_and_no_exception(project: Project):
    run = promptlab.sweep(subject=["a fox", "a robot"], **PAINT | {"model.fails_on": "robot"})
    assert sorted(run.table()["status"]) == ["failed", "ok"]
    assert repr(run).endswith("1 images, 1 failed>")
    assert run.best(5)["subject"].tolist() == ["a fox"]


def test_importing_promptlab_is_quiet_and_loads_nothing():
    code = (
        "import sys, promptlab; before = set(sys.modules); "
        "print([m for m in ('torch', 'mlflow', 'pandas', 'hydra') if m in before]); promptlab.sweep"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""


def stored_run(tmp_path, plan, **options) -> promptlab.Run:
    draw_plan(RunPaths(str(tmp_path / "one")), plan, **options)
    return promptlab.open_run(tmp_path / "one")


def test_a_run_in_hand_shows_what_another_process_draws(tmp_path):
    run = stored_run(tmp_path, make_plan(seeds=(0,)))
    assert len(run.table()) == 4
    draw_and_stop(RunPaths(run.path), make_plan(seeds=(0, 1)), num_images=3)
    assert len(run.table()) == 7
    draw_plan(RunPaths(run.path), make_plan(seeds=(0, 1)))
    assert len(run.best(9)) == 8


def test_an_image_of_several_cells_is_one_of_the_best_once(tmp_path):
    plan = make_plan(("a fox",), ("noto",), (0,))
    (cell,) = plan.cells
    twin = dataclasses.replace(cell, cell_id=cell.cell_id[::-1])
    run = stored_run(tmp_path, dataclasses.replace(plan, cells=(cell, twin)))
    assert len(run.table()) == 2
    assert len(run.best(5)) == 1
    (image_id,) = set(run.table()["image_id"])
    assert run.image(image_id).size == (16, 16)


def test_the_best_are_sorted_by_the_score_that_is_named(tmp_path):
    run = stored_run(tmp_path, make_plan(("a fox",), ("noto",), (0, 1, 2)))
    ids = run.table()["image_id"].tolist()
    scores = {"image_id": ids, "beauty": [0.1, 0.9, 0.5], "calm": [0.3, 0.2, 0.1]}
    pq.write_table(pa.table(scores), f"{run.path}/scores.parquet")
    assert run.best(1)["image_id"].tolist() == [ids[1]]
    assert run.best(2, sort="calm")["image_id"].tolist() == ids[:2]


def test_an_image_that_failed_or_whose_file_is_gone_is_one_message(tmp_path):
    failing = Painter(lambda request: Result(request, error="no") if request.seed else None)
    plan = make_plan(("a fox",), ("noto",), (0, 1), model=failing)
    run = stored_run(tmp_path, plan, embed_images=False)
    drawn, failed = run.table().sort_values("seed")["image_id"]
    (path,) = (tmp_path / "one" / "images").iterdir()
    path.unlink()
    for image_id in (drawn, failed):
        with pytest.raises(ReportError, match=f"{image_id} of .* failed, or its file is gone"):
            run.image(image_id)
