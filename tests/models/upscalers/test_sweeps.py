"""An enlarged image is a row like any other: it names its parent, resumes and draws again."""

from __future__ import annotations

import shlex

from tests.conftest import Project


def test_a_sweep_over_parents_enlarges_each_and_says_from_what(project: Project):
    assert project.run("sweep", "subject=a fox", "seeds=2").code == 0
    parents = project.rows()
    ids = ",".join(row["image_id"] for row in parents)
    command = ("sweep", "-m", "subject=a fox", f"parent={ids}", "model=animevideov3,lanczos")
    done = project.run(*command)
    assert done.code == 0, done.err
    rows = project.rows()
    assert {(row["model"], row["source_id"]) for row in rows} == {
        (model, parent["image_id"]) for model in ("animevideov3", "lanczos") for parent in parents
    }
    for row in rows:
        assert (row["width"], row["height"]) == (4 * parents[0]["width"], 4 * parents[0]["height"])
    assert "nothing to do" in project.run(*command).out


def test_show_prints_the_command_that_enlarges_it_again(project: Project):
    assert project.run("sweep", "subject=a fox", "seeds=1").code == 0
    parent = project.rows()[0]["image_id"]
    assert project.run("sweep", "subject=a fox", f"parent={parent}", "model=animevideov3").code == 0
    first = project.rows()[0]
    shown = project.run("show", first["image_id"]).out
    line = next(line for line in shown.splitlines() if "promptlab sweep" in line)
    arguments = shlex.split(line[line.index("promptlab sweep") :])[1:]
    assert project.run(*arguments, "reuse=false", "name=again").code == 0
    again = project.rows()[0]
    assert (again["image_id"], again["sha256"]) == (first["image_id"], first["sha256"])


def test_without_a_parent_an_upscaler_is_refused_before_anything_is_drawn(project: Project):
    done = project.run("sweep", "subject=a fox", "model=lanczos")
    assert done.code == 1
    assert "promptlab upscale RUN" in done.err
    assert project.runs == []


def test_an_enlarged_image_has_the_words_the_seed_and_the_axes_of_its_parent(project: Project):
    grid = ("subject=a fox,a robot", "style=noto,openmoji", "temperature=0.5,1", "seeds=2")
    assert project.run("sweep", "-m", *grid).code == 0
    parents = {row["image_id"]: row for row in project.rows()}
    assert project.run("sweep", "-m", f"parent={','.join(parents)}", "model=lanczos").code == 0
    rows = project.rows()
    assert len(rows) == len(parents) == 16
    for row in rows:
        parent = parents[row["source_id"]]
        for name in ("subject", "style", "template", "prompt", "seed", "temperature"):
            assert row[name] == parent[name], name
        assert row["source_sha256"] == parent["sha256"]
    assert len({row["arm_id"] for row in rows}) == 4  # as many as the parents have: no parent
    assert "parent" not in rows[0]
    shown = project.run("show", rows[3]["image_id"], "--command").out.strip()
    assert project.run(*shlex.split(shown)[1:], "reuse=false", "name=again").code == 0
    assert project.rows()[0]["image_id"] == rows[3]["image_id"]
    assert project.run("verify").out == "1 of 1 images are bit for bit the same.\n"


def test_each_image_of_a_sweep_is_enlarged_as_it_is_drawn(project: Project):
    command = ("sweep", "-m", "subject=a fox,a robot", "style=noto", "seeds=2", "upscale=lanczos")
    done = project.run(*command)
    assert done.code == 0, done.err
    rows = {row["image_id"]: row for row in project.rows()}
    large = [row for row in rows.values() if row["model"] == "lanczos"]
    assert len(rows) == 8
    assert {row["source_id"] for row in large} == rows.keys() - {r["image_id"] for r in large}
    for row in large:
        parent = rows[row["source_id"]]
        assert (row["subject"], row["seed"]) == (parent["subject"], parent["seed"])
        assert row["width"] == 4 * parent["width"]
    assert "nothing to do" in project.run(*command).out
    assert len(project.runs) == 1
    assert project.run("verify").out == "8 of 8 images are bit for bit the same.\n"
    # The same sweep without it finds its run, and what was enlarged stays known.
    assert "nothing to do" in project.run(*command[:-1]).out
    assert project.run("verify").out == "8 of 8 images are bit for bit the same.\n"


def test_a_sweep_that_was_stopped_before_its_images_were_enlarged_resumes(
    project: Project, monkeypatch
):
    from promptlab.models.upscalers.lanczos import LanczosUpscaler

    command = ("sweep", "subject=a fox", "seeds=4", "upscale={model:lanczos,scale:2}")
    upscale, calls = LanczosUpscaler.upscale, []

    def stopped(self, pixels):
        calls.append(pixels.shape)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return upscale(self, pixels)

    with monkeypatch.context() as patched:
        patched.setattr(LanczosUpscaler, "upscale", stopped)
        assert project.run(*command).code == 130
    assert len(project.rows()) == 6
    done = project.run("sweep", "--resume", str(project.runs[0]))
    assert done.code == 0, done.err
    rows = project.rows(project.runs[0])
    assert len(rows) == 8
    assert {row["width"] for row in rows if row["source_id"]} == {64}


def test_an_upscaler_that_is_none_is_refused_before_anything_is_drawn(project: Project):
    for value in ("paint", "nothing", "[lanczos]", "{model:lanczos,scale:3}"):
        done = project.run("sweep", "subject=a fox", f"upscale={value}")
        assert done.code == 1
        assert "expected" in done.err
        assert project.runs == []


def test_of_each_cell_the_first_images_alone_may_be_enlarged(project: Project):
    upscale = "upscale={model:lanczos,per_cell:1}"
    done = project.run("sweep", "-m", "subject=a fox,a robot", "seeds=[3,1,2]", upscale)
    assert done.code == 0, done.err
    assert "2 images to enlarge 4× by lanczos, the first of each cell" in done.out
    large = [row for row in project.rows() if row["source_id"]]
    assert [(row["subject"], row["seed"]) for row in large] == [("a fox", 3), ("a robot", 3)]
