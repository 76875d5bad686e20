"""Pick, vary, enlarge: each step is a sweep like any other, and every image names its parent."""

from __future__ import annotations

import shlex

import pytest

from promptlab.cli import main
from promptlab.store import read_run
from tests.conftest import PAINT, Project
from tests.painters import CALLS

OVERPAINT = PAINT.replace("PaintModel", "OverpaintModel").format(name="paint")


@pytest.fixture
def drawn(project: Project) -> Project:
    """A project with a run of four images, on a model that can paint over images."""
    project.write("conf/model/paint.yaml", OVERPAINT)
    arguments = ("subject=a fox,a robot", "style=noto", "temperature=0.5", "seeds=2")
    assert project.run("sweep", "-m", *arguments).code == 0
    return project


def vary(project: Project, *words: str):
    return project.run("vary", *words, "tracking=null")


def test_variations_have_the_words_and_settings_of_their_parents(drawn: Project):
    parents = {row["image_id"]: row for row in drawn.rows()}
    done = vary(drawn, "seeds=3")
    assert done.code == 0, done.err
    rows = drawn.rows()
    assert len(rows) == 12
    assert drawn.runs[-1].name.endswith("a-fox_varied")
    for row in rows:
        parent = parents[row["source_id"]]
        for name in ("subject", "style", "template", "prompt", "model", "params"):
            assert row[name] == parent[name], name
        assert row["seed"] != parent["seed"]  # it would draw the parent's own rest again
        assert row["parent"] == row["source_id"]
    assert "nothing to do" in vary(drawn, str(drawn.runs[0]), "seeds=3").out
    assert drawn.run("verify").out == "12 of 12 images are bit for bit the same.\n"


def test_a_plan_of_variations_and_enlargements_draws_nothing(drawn: Project):
    """Eight seeds unless the command says otherwise, where the parents are."""
    drawn.runs[0].parent.rename(drawn.path / "there")
    parent = read_run(str(next((drawn.path / "there").iterdir()))).rows()[0]["image_id"]
    where = ("--runs-dir", "there", "--plan", "tracking=null")
    for verb, words, number in (
        ("vary", ("style=openmoji",), 8),
        ("vary", ("+seeds=3",), 3),
        ("upscale", ("--model", "lanczos"), 1),
    ):
        CALLS.clear()
        done = drawn.run(verb, parent[:9], *words, *where)
        assert done.code == 0, done.err
        assert f"to draw {number:>23}\n" in done.out
        assert "Folder: there/" in done.out
        assert not any(call.startswith("draw") for call in CALLS)
    assert len(list((drawn.path / "there").iterdir())) == 1
    assert not (drawn.path / "runs").exists()


def test_a_variation_may_have_other_words_and_settings(drawn: Project):
    parent = drawn.rows()[0]
    done = vary(drawn, parent["image_id"][:8], "style=openmoji,twemoji", "top_k=3", "seeds=[7]")
    assert done.code == 0, done.err
    rows = drawn.rows()
    assert [row["style"] for row in rows] == ["openmoji", "twemoji"]
    for row in rows:
        assert row["subject"] == parent["subject"]
        assert row["prompt"] == f"{parent['subject']} in the style of {row['style']}"
        assert '"temperature":0.5' in row["params"]
        assert '"top_k":3' in row["params"]


def test_three_generations_are_picked_varied_and_enlarged(drawn: Project):
    first, *_ = drawn.rows()
    assert "no picks" in vary(drawn, "--picked").err
    assert drawn.run("pick", first["image_id"], "--favourite", "--no-sync").code == 0
    assert vary(drawn, "--picked", "seeds=2").code == 0
    children = drawn.rows()
    assert {row["source_id"] for row in children} == {first["image_id"]}
    assert drawn.run("pick", children[1]["image_id"], "--rating", "5", "--no-sync").code == 0
    assert vary(drawn, "--picked", "seeds=1").code == 0
    (grandchild,) = drawn.rows()
    assert grandchild["source_id"] == children[1]["image_id"]
    run = str(drawn.runs[-1])
    done = drawn.run("upscale", run, "--model", "lanczos", "scale=2", "tracking=null")
    assert done.code == 0, done.err
    (large,) = drawn.rows()
    assert large["source_id"] == grandchild["image_id"]
    assert large["width"] == 2 * grandchild["width"]
    for folder in drawn.runs:
        assert "are bit for bit the same" in drawn.run("verify", str(folder)).out
    command = drawn.run("show", large["image_id"], "--command").out.strip()
    assert drawn.run(*shlex.split(command)[1:], "reuse=false", "name=again").code == 0
    assert [row["image_id"] for row in drawn.rows()] == [large["image_id"]]


def test_an_enlarged_image_is_varied_as_the_image_that_it_enlarges(drawn: Project):
    parent = drawn.rows()[0]
    enlarge = ("upscale", parent["image_id"], "--model", "lanczos", "tracking=null")
    assert drawn.run(*enlarge).code == 0
    assert vary(drawn, drawn.rows()[0]["image_id"], "seeds=1").code == 0
    assert [row["source_id"] for row in drawn.rows()] == [parent["image_id"]]


def test_variations_that_were_begun_resume(drawn: Project):
    run = str(drawn.runs[0])
    assert vary(drawn, run, "seeds=2").code == 0
    varied = drawn.runs[-1]
    assert main(["sweep", "--resume", str(varied)]) == 0
    assert "nothing to do" in drawn.capsys.readouterr().out


def test_the_best_are_those_with_picks_and_none_without(drawn: Project):
    assert "neither picks nor scores" in vary(drawn, "--best", "1").err
    rows = drawn.rows()
    for row, stars in zip(rows, "1532", strict=True):
        assert drawn.run("pick", row["image_id"], "--rating", stars, "--no-sync").code == 0
    assert vary(drawn, "--best", "2", "seeds=1").code == 0
    assert [row["source_id"] for row in drawn.rows()] == [rows[1]["image_id"], rows[2]["image_id"]]


def test_an_image_that_no_run_holds_is_one_message(drawn: Project):
    for verb in ("vary", "upscale"):
        done = drawn.run(verb, "ffffffffffffffff")
        assert done.code == 1
        assert "holds an image 'ffffffffffffffff'" in done.err
        assert len(drawn.runs) == 1


def test_a_parent_whose_file_is_gone_is_one_message(drawn: Project):
    arguments = ("store.embed_images=false", "reuse=false", "name=light")
    assert drawn.run("sweep", "subject=a fox", *arguments).code == 0
    row = drawn.rows()[0]
    (drawn.runs[-1] / row["path"]).unlink()
    done = drawn.run("upscale", row["image_id"], "tracking=null")
    assert done.code == 1
    assert f"The PNG of the image {row['image_id']} is gone." in done.err
    assert "Traceback" not in done.err


def test_of_a_parent_that_cannot_be_drawn_again_the_pixels_are_kept(project: Project):
    moody = OVERPAINT.replace("  delay_s: 0.0", "  delay_s: 0.0\n  is_deterministic: false")
    project.write("conf/model/paint.yaml", moody)
    assert project.run("sweep", "subject=a fox").code == 0
    (parent,) = project.rows()
    assert project.run("upscale", "--model", "lanczos", "tracking=null").code == 0
    (large,) = project.rows()
    assert large["source_sha256"] == parent["sha256"]
    assert large["is_source_repeatable"] is False
    assert project.run("verify").out == "1 of 1 images are bit for bit the same.\n"
    assert "which cannot be drawn again" in project.run("show", large["image_id"]).out
    # The model draws other pixels of the same id; what was enlarged is found by its own.
    other = ("subject=a fox", "reuse=false", "++model.brightness=9")
    assert project.run("sweep", *other).code == 0
    assert project.rows()[0]["image_id"] == parent["image_id"]
    assert project.rows()[0]["sha256"] != parent["sha256"]
    again = project.run("verify", str(project.runs[1]))
    assert again.out == "1 of 1 images are bit for bit the same.\n"


@pytest.mark.slow
def test_three_generations_of_the_embedded_model_come_out_again_bit_for_bit(project: Project):
    def run(*arguments: str) -> None:
        assert main([*arguments, "tracking=null"]) == 0

    run("sweep", "subject=a fox", "style=noto", "seeds=[5]", "temperature=0.9")
    (first,) = project.rows()
    run("vary", first["image_id"], "seeds=1", "strength=0.3,1")
    children = project.rows()
    assert len({row["sha256"] for row in children}) == 2
    run("vary", children[0]["image_id"], "seeds=1", "strength=0.6", "style=openmoji")
    run("upscale")
    assert [(row["style"], row["width"]) for row in project.rows()] == [("openmoji", 640)]
    for folder, number in zip(project.runs, (1, 2, 1, 1), strict=True):
        same = f"{number} of {number} images are bit for bit the same.\n"
        assert project.run("verify", str(folder)).out == same
    # The whole image drawn anew has the bits of an image without a parent.
    whole = next(row for row in children if '"strength":1.0' in row["params"])
    seed = f"seeds=[{whole['seed']}]"
    run("sweep", "subject=a fox", "style=noto", seed, "temperature=0.9", "name=fresh")
    assert [row["sha256"] for row in project.rows()] == [whole["sha256"]]


def test_a_parent_of_another_model_is_an_error_of_its_row(drawn: Project):
    parent = drawn.rows()[0]["image_id"]
    done = drawn.run("sweep", "model=tiny", "subject=a fox", f"parent={parent}")
    assert done.code == 1
    assert "holds no tokens" in done.err + done.out
