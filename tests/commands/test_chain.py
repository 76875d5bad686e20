"""The steps after a sweep: each acts on the run of the step before, with the keys they share."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
from PIL import Image

from promptlab.commands.chain import follow, read_steps
from promptlab.errors import ConfigError
from promptlab.verdicts.picks import Pick, record_picks
from tests.conftest import PAINT, Project

OVERPAINT = PAINT.replace("PaintModel", "OverpaintModel").format(name="paint")


@pytest.mark.parametrize(
    ("value", "steps"),
    [
        (None, []),
        ([], []),
        ("verify", [["verify"]]),
        (
            ["vary --best 1 subject='a b'", "upscale"],
            [["vary", "--best", "1", "subject=a b"], ["upscale"]],
        ),
    ],
)
def test_steps_are_read_as_a_shell_reads_them(value, steps):
    assert read_steps(value) == steps


@pytest.mark.parametrize("value", ["", "sweep subject=x", ["upscale", "rm"], "vary 'a", 5, [""]])
def test_what_is_no_step_is_refused(value):
    with pytest.raises(ConfigError, match="expected commands on the run"):
        read_steps(value)


def test_each_step_acts_on_the_run_of_the_step_before(project: Project):
    project.write("conf/model/paint.yaml", OVERPAINT)
    steps = "then=['score --with sharpness', 'vary --best 1 seeds=2', 'upscale --model lanczos']"
    shared = ("store.embed_images=false", "temperature=0.5", "runs_dir=here")
    done = project.run("sweep", "subject=a fox", "seeds=3", steps, *shared)
    assert done.code == 0, done.err
    runs = sorted((project.path / "here").iterdir(), key=lambda run: len(run.name))
    first, varied, large = (project.rows(run) for run in runs)
    assert [len(rows) for rows in (first, varied, large)] == [3, 2, 2]
    assert len({row["source_id"] for row in varied}) == 1
    assert {row["source_id"] for row in varied} <= {row["image_id"] for row in first}
    assert {row["source_id"] for row in large} == {row["image_id"] for row in varied}
    for run in runs:
        table = pq.read_table(run / "images.parquet", columns=["image.bytes"])
        assert table.nbytes < 100, "store.embed_images is shared"
    assert not (project.path / "mlruns").exists(), "tracking=null is shared as well"
    assert not list(project.path.glob("*.db"))
    assert not (project.path / "runs").exists()


def test_a_step_without_picks_waits_and_the_same_command_resumes_there(project: Project):
    project.write("conf/model/paint.yaml", OVERPAINT)
    command = (
        "sweep",
        "subject=a fox",
        "then=['vary --picked seeds=1', 'upscale --model lanczos']",
    )
    waiting = project.run(*command)
    assert waiting.code == 0
    assert "Waiting: " in waiting.out + waiting.err
    (run,) = project.runs
    (parent,) = project.rows()
    record_picks(str(run), [Pick(parent["image_id"], rating=5)])
    assert project.run(*command).code == 0
    assert len(project.runs) == 3
    assert project.rows()[0]["source_id"] != parent["image_id"]


def test_images_that_failed_and_a_plan_are_followed_by_no_step(project: Project):
    steps = "then=['score --with sharpness']"
    assert project.run("sweep", "-m", "subject=a,b", "model.fails_on=b", steps).code == 1
    assert not (project.runs[0] / "scores.parquet").exists()
    assert project.run("sweep", "subject=a", steps, "--plan").code == 0
    assert not (project.runs[0] / "scores.parquet").exists()


def test_a_step_that_fails_is_the_last_and_its_code_is_the_commands(project: Project):
    assert project.run("sweep", "subject=a fox").code == 0
    run = project.runs[0]
    (png,) = (run / "images").iterdir()
    Image.new("RGB", (32, 32)).save(png)
    steps = [["verify"], ["report", "--pdf"]]
    assert follow(steps, str(run), "runs", []) == 1
    assert not (run / "contact_sheet.pdf").exists()
    assert follow(steps[1:], str(run), "runs", []) == 0
    assert (run / "contact_sheet.pdf").exists()
