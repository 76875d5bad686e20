"""What a new user gets wrong is answered by one clear message, and nothing is lost or drawn."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, Project
from tests.painters import CALLS

MISTAKES = {
    "a misspelt style": (["subject=a fox", "style=notto"], ["Unknown style 'notto'", "noto"]),
    "a style without its folder": (["subject=a fox", "style=ukiyo-e"], ["art/ukiyo_e"]),
    "an unknown model": (["subject=a fox", "model=tinny"], ["Unknown model", "tiny"]),
    "an unknown template": (["subject=x", "template=cctvv"], ["Unknown template", "cctv"]),
    "an unknown sweep": (["+sweeps=seed"], ["Unknown named sweep", "seeds"]),
    "a misspelt key": (["subject=x", "temprature=1"], ["temprature", "temperature"]),
    "a misspelt option": (["subject=x", "store.embed=false"], ["store.embed"]),
    "an added option": (["subject=x", "+store.embed=false"], ["store.embed_images"]),
    "no subject": ([], ["{subject}", "subject='a fox'"]),
    "an empty subject": (["subject="], ["empty", "subject='a fox'"]),
    "a blank subject": (["subject='  '"], ["empty"]),
    "a missing slot": (
        ["subject=x", "template.pattern='{subject} at {place}'"],
        ["{place}", "subject"],
    ),
    "an unknown slot": (["subject=x", "+place=here"], ["place", "temperature", "subject"]),
    "a slot of another template": (["subject=x", "action=asleep"], ["action", "plain"]),
    "top_k of zero": (["subject=x", "top_k=0"], ["top_k=0", "from 1 to 1000"]),
    "a word for a number": (["subject=x", "temperature=hot"], ["'hot'", "0.01 to 10"]),
    "too hot": (["subject=x", "temperature=11"], ["11", "0.01 to 10"]),
    "no seeds": (["subject=x", "seeds=0"], ["seeds=0", "seeds=[0]"]),
    "odd seeds": (["subject=x", "seeds=some"], ["'some'", "8", "[3,5]", "0-63"]),
    "a sweep without -m": (["subject=a,b"], ["sweep -m model=paint tracking=null subject=a,b"]),
    "NUL": (["template=nul", "subject=x"], ["NUL", "position 2"]),
    "not UTF-8": (["subject=\udcff"], ["UTF-8"]),
    "a glob of nothing": (["-m", "subject=x", "style=glob(zz*)"], ["no values"]),
    "an axis of the store": (["-m", "subject=x", "runs_dir=a,b"], ["runs_dir", "axis"]),
    "a limit of none": (["subject=x", "limit=0"], ["limit=0"]),
    "a wrong option": (["subject=x", "report.thumbnail_px=9999"], ["9999", "512"]),
    "a word for seconds": (["subject=x", "store.flush_s=soon"], ["'soon'", "a number"]),
    "seconds below zero": (["subject=x", "store.flush_s=-1"], ["-1", "0 seconds"]),
    "half a row": (["subject=x", "store.part_rows=2.5"], ["2.5", "a whole number"]),
    "a number for an axis": (["subject=x", "report.rows=5"], ["5", "text or null"]),
    "a key that is not there": (["subject='${nothing}'"], ["nothing", "\\${"]),
    "null for a group": (["subject=x", "style=null"], ["name of an option", "none"]),
    "a model that is none": (
        ["subject=x", "model=nomodel"],
        ["does not implement the model interface", "draw"],
    ),
    "a target that is not there": (["subject=x", "model=gone"], ["nothing.Model"]),
    "a target that takes other things": (["subject=x", "+model.colour=red"], ["colour"]),
    "weights that are missing": (["subject=x", "+model.weights_missing=true"], ["not here"]),
    "a pattern without its prompt": (["subject=x", "style.pattern=blue"], ["{prompt}"]),
    "a run that is none": (["--resume", "nowhere"], ["nowhere", "run folder"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_gets_one_clear_message_and_a_non_zero_exit(project: Project, mistake: str):
    arguments, expected = MISTAKES[mistake]
    project.write("conf/template/nul.yaml", 'pattern: "a \\0 {subject}"')
    project.write("conf/model/nomodel.yaml", "_target_: collections.Counter")
    project.write("conf/model/gone.yaml", "_target_: nothing.Model")
    done = project.run("sweep", *arguments)
    assert done.code == 1
    message = done.err.strip()
    for text in expected:
        assert text in message, message
    assert "Traceback" not in message
    assert message.startswith("promptlab: ")
    assert message.count("promptlab: ") == 1
    assert "Error executing job" not in message
    assert not any(call.startswith("draw") for call in CALLS)


@pytest.mark.parametrize(
    "subject",
    [
        "a/b",
        "../../../etc/passwd",
        'it\'s "quoted"',
        "<script>alert(1)</script>",
        "two\nlines\tand a tab",
        "مرحبا بالعالم",
        "\u202eevil\u202c",
        "🦊 and 狐",
        "very " * 1000 + "long fox",
        "100 % #1 & more; $HOME `ls` | ~x = !y ? * ",
        "C:\\new\\table",
        "a = b, (c) [d] <e>",
        ".",
        "-",
    ],
    ids=lambda subject: ascii(subject)[:30],
)
def test_any_text_is_drawn_stored_and_found_again_as_it_is(project: Project, subject: str):
    from promptlab.configs.quoting import quote
    from promptlab.planning.language import Pattern

    override = f"subject={quote(str(Pattern.literal(subject)))}"
    done = project.run("sweep", override, "style=noto")
    assert done.code == 0, done.err
    (row,) = project.rows()
    assert row["subject"] == subject
    assert row["prompt"] == f"{subject} in the style of noto"
    (image,) = (project.runs[0] / "images").iterdir()
    assert image.name.isascii()
    assert "nothing to do" in project.run("sweep", override, "style=noto").out
    outside = {path.name for path in project.path.iterdir()} - {"conf", "runs"}
    assert outside == set()


def test_hydra_full_error_shows_the_traceback(project: Project):
    process = subprocess.run(
        [sys.executable, "-m", "promptlab.cli", "sweep", "model=paint", "subject=x", "top_k=0"],
        cwd=project.path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "HYDRA_FULL_ERROR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1
    assert "Traceback" in process.stderr
    assert "ParameterError: top_k=0" in process.stderr


def test_a_read_only_output_folder_is_named(project: Project, monkeypatch: pytest.MonkeyPatch):
    def refuse(path: object, *args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "makedirs", refuse)
    monkeypatch.setattr(os, "mkdir", refuse)
    done = project.run("sweep", "subject=a fox")
    assert done.code == 1
    assert "Permission denied" in done.err
    assert "runs" in done.err
    assert "Traceback" not in done.err


def test_a_file_where_the_run_folders_should_go_is_named(project: Project):
    project.write("runs", "a file")
    done = project.run("sweep", "subject=a fox")
    assert done.code == 1
    assert "runs" in done.err
    assert "Traceback" not in done.err


def test_a_run_folder_of_another_sweep_is_not_written_into(project: Project):
    project.run("sweep", "subject=a fox", "hydra.run.dir=here")
    rows = project.rows(Path("here"))
    done = project.run("sweep", "subject=a robot", "hydra.run.dir=here")
    assert done.code == 1
    assert "holds the sweep" in done.err
    assert project.rows(Path("here")) == rows


def test_a_changed_config_is_not_resumed_as_if_it_were_the_same(project: Project):
    project.run("sweep", "subject=a fox", "style=noto")
    project.write("conf/style/noto.yaml", 'pattern: "another {prompt}"')
    done = project.run("sweep", "--resume", str(project.runs[0]))
    assert done.code == 1
    assert "have changed" in done.err
    assert len(project.rows()) == 1


def test_resuming_outside_of_the_projects_folder_says_where_to_go(
    project: Project, monkeypatch: pytest.MonkeyPatch
):
    project.write("conf/style/mine.yaml", "pattern: '{prompt}, mine'")
    assert project.run("sweep", "subject=a fox", "style=mine").code == 0
    (run,) = project.runs
    (project.path / "elsewhere").mkdir()
    monkeypatch.chdir(project.path / "elsewhere")
    done = project.run("sweep", "--resume", f"../runs/{run.name}")
    assert done.code == 1
    assert f"cd {project.path}" in done.err
    monkeypatch.chdir(project.path)
    assert "nothing to do" in project.run("sweep", "--resume", str(run)).out
