"""A sweep from the command line to its run folder, on a model that paints tiles at once."""

from __future__ import annotations

import os
import signal
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.conftest import PAINT, Project
from tests.painters import CALLS

GRID = ("-m", "subject=a fox,a robot", "style=noto,openmoji", "seeds=4")


def test_a_grid_is_drawn_recorded_and_shown_on_a_sheet(project: Project):
    done = project.run("sweep", *GRID)
    assert done.code == 0
    assert "16 drawn, 0 failed" in done.out
    rows = project.rows()
    assert len(rows) == 16
    assert {(row["subject"], row["style"], row["seed"]) for row in rows} == {
        (subject, style, seed)
        for subject in ("a fox", "a robot")
        for style in ("noto", "openmoji")
        for seed in range(4)
    }
    assert rows[0]["prompt"] == "a fox in the style of noto"
    (run,) = project.runs
    for path in ("index.html", "contact_sheet.png", "sweep.yaml", "sweep.log"):
        assert (run / path).stat().st_size > 0, path
    for path in ("index.html", "contact_sheet.png"):
        assert str(run.relative_to(project.path) / path) in done.out
    assert len(list((run / "images").glob("*.png"))) == 16


def test_all_jobs_are_mixed_in_batches_on_one_resident_model(project: Project):
    project.run("sweep", *GRID)
    assert CALLS == ["load paint", "draw paint 8", "draw paint 8", "unload paint"]


def test_two_models_are_loaded_one_after_the_other_each_once(project: Project):
    project.write("conf/model/other.yaml", PAINT.format(name="other"))
    project.run("sweep", "-m", "subject=a fox,a robot", "model=paint,other", "style=noto")
    assert [
        *("load paint", "draw paint 2", "unload paint"),
        *("load other", "draw other 2", "unload other"),
    ] == CALLS


def test_a_single_cell_without_multirun_draws_the_same_images(project: Project):
    project.run("sweep", *GRID)
    single = project.run("sweep", "subject=a fox", "style=noto", "seeds=[2]", "reuse=false")
    assert single.code == 0
    of_grid = {row["image_id"]: row["sha256"] for row in project.rows(project.runs[0])}
    (row,) = project.rows(project.runs[1])
    assert of_grid[row["image_id"]] == row["sha256"]


def test_the_id_of_this_sweep_is_this_one(project: Project):
    project.run("sweep", *GRID, "name=sweep")
    meta = yaml.safe_load((project.runs[0] / "sweep.yaml").read_text())
    assert meta["sweep_id"] == "9aa9ac807fbe0ff1", "runs from before would not be found again"


def test_an_unnamed_sweep_is_named_after_its_subject(project: Project):
    project.run("sweep", *GRID)
    assert project.runs[0].name.endswith("_a-fox")
    assert {row["sweep"] for row in project.rows()} == {"a-fox"}
    project.run("sweep", "subject=狐")
    assert project.rows()[0]["sweep"] == "sweep"


def test_an_unnamed_run_from_before_sweeps_were_named_so_is_resumed(project: Project):
    project.run("sweep", *GRID, "name=sweep")
    run = project.runs[0]
    assert "nothing to do" in project.run("sweep", *GRID).out
    assert "nothing to do" in project.run("sweep", "--resume", str(run), "name=null").out
    assert project.runs == [run]
    assert yaml.safe_load((run / "sweep.yaml").read_text())["sweep_id"] == "9aa9ac807fbe0ff1"


def test_the_same_command_again_finds_nothing_to_do(project: Project):
    project.run("sweep", *GRID)
    sheet = project.runs[0] / "index.html"
    written = sheet.stat().st_mtime_ns
    CALLS.clear()
    again = project.run("sweep", *GRID)
    assert again.code == 0
    assert "nothing to do" in again.out
    assert CALLS == []
    assert len(project.runs) == 1
    assert sheet.stat().st_mtime_ns == written


def test_an_extended_sweep_draws_only_the_new_cells_in_a_folder_of_its_own(project: Project):
    project.run("sweep", *GRID)
    CALLS.clear()
    extended = project.run("sweep", *GRID[:2], "style=noto,openmoji,twemoji", "seeds=4")
    assert "8 drawn, 16 found in earlier runs" in extended.out
    assert CALLS == ["load paint", "draw paint 8", "unload paint"]
    assert len(project.runs) == 2
    assert len(project.rows()) == 24


def test_reuse_false_draws_everything_again(project: Project):
    project.run("sweep", *GRID)
    CALLS.clear()
    assert "16 drawn" in project.run("sweep", *GRID, "reuse=false").out
    assert len(project.runs) == 2
    first, second = (
        {r["image_id"]: r["sha256"] for r in project.rows(run)} for run in project.runs
    )
    assert first == second


def test_cell_and_arm_are_the_same_whatever_else_is_swept(project: Project):
    project.run("sweep", *GRID)
    project.run("sweep", "-m", "subject=a fox", "style=noto", "temperature=null,0.5", "seeds=2")
    one = next(r for r in project.rows(project.runs[0]) if r["prompt"].startswith("a fox in"))
    other = next(r for r in project.rows(project.runs[1]) if r["params"] == one["params"])
    assert one["cell_id"] == other["cell_id"]
    assert one["arm_id"] == other["arm_id"]


def test_an_arm_is_everything_but_subject_and_seed(project: Project):
    project.run("sweep", *GRID, "temperature=0.5,1")
    rows = project.rows()
    assert len({row["arm_id"] for row in rows}) == 4
    assert {(row["style"], row["temperature"]) for row in rows} == {
        (style, temperature) for style in ("noto", "openmoji") for temperature in (0.5, 1.0)
    }
    for row in rows:
        same = [r for r in rows if r["arm_id"] == row["arm_id"]]
        assert {(r["style"], r["temperature"]) for r in same} == {
            (row["style"], row["temperature"])
        }


def test_swept_seeds_are_folded_into_one_cell(project: Project):
    done = project.run("sweep", "-m", "subject=a fox", "seeds=[1],[2],3")
    assert "3 images in 1 cell" in done.out
    assert sorted(row["seed"] for row in project.rows()) == [0, 1, 2]


def test_the_run_folder_says_how_it_came_about(project: Project):
    project.run("sweep", *GRID)
    recorded = yaml.safe_load((project.runs[0] / "sweep.yaml").read_text())
    assert recorded["argv"] == ["model=paint", "tracking=null", *GRID]
    assert recorded["axes"] == {
        "subject": ["a fox", "a robot"],
        "style": ["noto", "openmoji"],
        "seed": [0, 1, 2, 3],
    }
    assert recorded["versions"]["promptlab"]
    assert recorded["hardware"]["num_cores"] >= 1
    assert recorded["config"]["subject"] == "a fox"
    assert [share["images"] for share in recorded["workers"].values()] == [16]
    assert recorded["models_config"]["paint"]["_target_"] == "tests.painters.PaintModel"


def test_a_plan_shows_everything_and_writes_nothing(project: Project):
    before = sorted(project.path.rglob("*"))
    done = project.run("sweep", *GRID, "--plan")
    assert done.code == 0
    for text in ("subject", "a fox, a robot", "4 cells, 16 images", "a robot in the style of noto"):
        assert text in done.out
    assert sorted(project.path.rglob("*")) == before
    assert CALLS == []


def test_a_plan_says_what_is_drawn_already(project: Project):
    project.run("sweep", *GRID)
    more = project.run("sweep", *GRID[:2], "style=noto,twemoji", "seeds=4", "--plan").out
    assert "drawn in earlier runs         8" in more
    assert "to draw                       8" in more
    assert "s an image" in more
    assert "already drawn here           16" in project.run("sweep", *GRID, "--plan").out


def test_a_sweep_over_the_limit_asks_for_it_and_starts_nothing(project: Project):
    done = project.run("sweep", *GRID, "limit=15")
    assert done.code == 1
    assert "16 images" in done.err
    assert "limit=16" in done.err
    assert project.runs == []
    assert project.run("sweep", *GRID, "limit=16").code == 0


def test_the_name_is_that_of_the_sweep_and_can_be_given(project: Project):
    project.write("sweeps/mine.yaml", "# @package _global_\nsubject: a fox\n")
    project.run("sweep", "+sweeps=mine")
    project.run("sweep", "+sweeps=mine", "name=other name")
    names = {run.name.split("_", 2)[2]: project.rows(run)[0]["sweep"] for run in project.runs}
    assert names == {"mine": "mine", "other-name": "other name"}


def test_own_conf_and_sweeps_extend_and_shadow_the_packaged_ones(project: Project):
    project.write("conf/style/noto.yaml", 'pattern: "my {prompt}"')
    project.write("conf/style/mine.yaml", 'pattern: "{prompt}, mine"')
    project.write(
        "sweeps/seeds.yaml",
        "# @package _global_\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n"
        "      style: noto,mine,openmoji\n",
    )
    project.run("sweep", "+sweeps=seeds", "subject=a fox")
    assert {row["prompt"] for row in project.rows()} == {
        "my a fox",
        "a fox, mine",
        "a fox in the style of openmoji",
    }


def test_globs_sweep_a_group_and_its_sub_groups(project: Project):
    project.write("conf/style/art/mine.yaml", 'pattern: "{prompt}, mine"')
    project.run("sweep", "-m", "subject=a fox", "style=glob(*)")
    flat = {row["style"] for row in project.rows()}
    assert {"noto", "openmoji"} <= flat
    assert not any("/" in style or style == "none" for style in flat)
    project.run("sweep", "-m", "subject=a fox", "style=glob([art/m*,no*],exclude=art/mo*)")
    chosen = {row["style"] for row in project.rows()}
    assert {"art/mine", "noto"} <= chosen
    assert "art/monet" not in chosen
    assert not any(style.startswith("art/") and style[4] != "m" for style in chosen)


def test_hydras_output_folder_is_the_run_folder_if_it_is_set(project: Project):
    project.run("sweep", "-m", "subject=a fox", "hydra.sweep.dir=here/multi")
    assert (project.path / "here/multi/images.parquet").is_dir()
    project.run("sweep", "subject=a fox", "hydra.run.dir=here/single")
    assert (project.path / "here/single/images.parquet").is_dir()


def test_a_slot_can_be_set_while_the_template_is_an_axis(project: Project):
    project.run("sweep", "-m", "subject=a fox", "template=cctv,dashcam", "action=asleep")
    assert {row["prompt"] for row in project.rows()} == {
        "cctv footage of a fox asleep",
        "dashcam footage of a fox asleep",
    }


def test_a_group_of_ones_own_is_an_axis(project: Project):
    for name, light in (("dawn", "at dawn"), ("noon", "at noon")):
        project.write(f"conf/hour/{name}.yaml", f"# @package _global_\nlight: {light}\n")
    project.write("conf/template/lit.yaml", 'pattern: "{subject} {light}"')
    done = project.run("sweep", "-m", "subject=a fox", "template=lit", "+hour=dawn,noon")
    assert done.code == 0, done.err
    assert {(row["hour"], row["prompt"]) for row in project.rows()} == {
        ("dawn", "a fox at dawn"),
        ("noon", "a fox at noon"),
    }


def test_a_failed_image_is_told_and_can_be_drawn_again(project: Project):
    done = project.run("sweep", *GRID, "model.fails_on=robot")
    assert done.code == 1
    assert "8 drawn, 8 failed" in done.out
    assert "robot cannot be painted" in done.err + done.out
    assert "--retry-failed" in done.out
    run = project.runs[0]
    assert {row["status"] for row in project.rows()} == {"ok", "failed"}
    assert (run / "index.html").exists()
    CALLS.clear()
    later = project.run("sweep", *GRID, "model.fails_on=robot")
    assert "nothing to do" in later.out
    assert "8 failed" in later.out
    assert later.code == 1
    assert CALLS == []
    again = project.run("sweep", "--retry-failed", str(run))
    assert again.code == 1
    assert CALLS == ["load paint", "draw paint 8", "unload paint"]


def test_ctrl_c_keeps_what_is_drawn_and_says_how_to_go_on(project: Project):
    arguments = ["sweep", "model=paint", "-m", "subject=a fox,a robot", "seeds=100"]
    process = project.start(
        *arguments, "model.delay_s=0.05", "store.flush_s=0.5", "tracking.log_images=false"
    )
    deadline = time.monotonic() + 60
    while not project.runs or not list((project.runs[0] / "images").glob("*.png")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: every process of the group
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "images are kept" in err
    num_kept = len(project.rows())
    assert 0 < num_kept < 200
    run = project.runs[0]
    assert f"promptlab sweep --resume {run.relative_to(project.path)}" in err
    CALLS.clear()
    resumed = project.run("sweep", "--resume", str(run), "model.delay_s=0.0")
    assert resumed.code == 0, resumed.err
    assert f"{num_kept} already here, {200 - num_kept} image" in resumed.out
    assert sum(int(call.split()[-1]) for call in CALLS if "draw" in call) == 200 - num_kept
    assert len({row["image_id"] for row in project.rows()}) == len(project.rows()) == 200


def test_a_lost_device_keeps_what_is_drawn_and_blames_no_image(project: Project):
    done = project.run("sweep", *GRID, "+model.lost_after=5")
    assert done.code == 1
    assert "The model cannot draw any more: RuntimeError: CUDA error" in done.err
    assert "5 of 16 images are kept" in done.err
    assert [row["status"] for row in project.rows()] == ["ok"] * 5
    assert (project.runs[0] / "index.html").exists()


def test_a_plan_does_not_download_weights(project: Project, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PROMPTLAB_CACHE", str(project.path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(project.path / "hub"))
    done = project.run("sweep", *GRID, "model=min_dalle_mini", "model.device=cpu", "--plan")
    assert done.code == 0, done.err
    assert "16 images" in done.out
    assert "to be downloaded first" in done.out
    assert done.out.splitlines()[0] == "Sweep a-fox (its id is known after the download)"


def test_a_model_that_cannot_load_leaves_no_newest_run(project: Project):
    failing = ("subject=a fox", "+model.weights_missing=true")
    assert project.run("sweep", *failing).code == 1
    assert "no run with images" in project.run("report").err
    project.run("sweep", *GRID)
    drawn = project.runs[-1]
    assert project.run("sweep", *failing, "seeds=2").code == 1
    report = project.run("report")
    assert str(drawn.relative_to(project.path)) in report.out


def write_word_model(project: Project, settings: str = "") -> None:
    text = PAINT.replace("PaintModel", "WordModel").format(name="paint")
    project.write("conf/model/paint.yaml", text.replace("  size: 32\n", f"  size: 32\n{settings}"))


def test_words_that_a_model_does_not_know_are_summed_up(project: Project):
    write_word_model(project)
    arguments = ("-m", "subject=a fox,a blue fox,a deco fox", "seeds=3")
    known = "paint does not know: blue, deco; in 6 images."
    assert known in project.run("sweep", *arguments, "--plan").out
    done = project.run("sweep", *arguments)
    assert known in done.out
    assert "6 images came out equal to one of another prompt" in done.out
    done = project.run("sweep", "subject=a robot", "seeds=3")
    assert "does not know" not in done.out
    assert "came out equal" not in done.out


def test_what_images_cost_is_said_before_and_summed_up_after(project: Project):
    write_word_model(project, "  price_usd: 0.25\n")
    arguments = ("subject=a fox", "seeds=8")
    assert "Price:  about $2.00" in project.run("sweep", *arguments, "--plan").out
    assert "8 drawn, 0 failed, $2.00 spent." in project.run("sweep", *arguments).out
    assert [row["cost_usd"] for row in project.rows()] == [0.25] * 8


def test_nothing_is_said_of_money_where_images_are_free(project: Project):
    assert "Price" not in project.run("sweep", *GRID, "--plan").out
    assert "$" not in project.run("sweep", *GRID).out


def test_nine_failures_of_three_prompts_are_reported_as_that(project: Project):
    done = project.run(
        "sweep", "subject='a {red|green|blue} robot'", "seeds=3", "model.fails_on=a "
    )
    assert done.code == 1
    assert "9 images of 3 prompts, the first of them 'a red robot', could not be drawn" in done.err


def test_a_plan_shows_each_prompt_once(project: Project):
    out = project.run("sweep", "-m", "subject=a fox", "temperature=0.1,0.2,0.3", "--plan").out
    assert "1 prompt:\n  a fox\n" in out
    assert out.count("  a fox\n") == 1


def test_time_is_estimated_from_many_images_of_the_same_model(project: Project):
    project.run("sweep", "subject=a robot", "seeds=40")
    project.run("sweep", "subject=a robot", "seeds=[40]")
    (run,) = [run for run in project.runs if len(project.rows(run)) == 1]
    (part,) = (run / "images.parquet").glob("part-*")
    table = pq.read_table(part)
    column = table.schema.get_field_index("seconds")
    slow = table.set_column(column, table.schema.field(column), pa.array([4.11]))
    pq.write_table(slow, part)
    assert "(0.11 s an image)" in project.run("sweep", "subject=a fox", "--plan").out


def test_a_text_that_is_not_utf_8_in_a_file_is_one_error_before_anything_is_drawn(
    project: Project,
):
    project.write("conf/style/bad.yaml", 'pattern: "{prompt} caf\\uDCE9"')
    done = project.run("sweep", "subject=a fox", "style=bad")
    assert done.code == 1
    assert "is not UTF-8" in done.err
    assert not project.runs
