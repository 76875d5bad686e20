"""The command line: help, completion, the verbs that only look, and the way out of errors."""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys

import pytest

from promptlab import cli
from promptlab.cli import VERBS, main, module_of_verb
from promptlab.commands.completion import line_for_hydra, suggest
from promptlab.errors import PromptlabError
from tests.conftest import ROOT, Project


def test_help_names_every_verb_and_an_example(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    out = capsys.readouterr().out
    assert all(verb in out for verb in VERBS)
    assert "promptlab sweep +sweeps=subject_x_style" in out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_module_with_help(verb, capsys):
    command = importlib.import_module(f"promptlab.commands.{module_of_verb(verb)}")
    assert command.__doc__
    if verb != "sweep":
        command.add_arguments(argparse.ArgumentParser())
        with pytest.raises(SystemExit, match="0"):
            main([verb, "--help"])
        assert f"promptlab {verb}" in capsys.readouterr().out


def test_an_unknown_verb_lists_the_known_ones(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["swep"])
    assert "sweep" in capsys.readouterr().err


def test_the_help_of_a_sweep_has_our_examples_flags_groups_and_keys(project: Project):
    done = project.run("sweep", "--help")
    assert done.code == 0
    out = done.out
    for text in (
        "style=noto,openmoji seeds=4",
        "--plan",
        "--from-picks",
        "paint",
        "tiny",
        "limit:",
    ):
        assert text in out


def test_cfg_job_prints_the_composed_config(project: Project):
    done = project.run("sweep", "--cfg", "job", "subject=a fox", "style=noto")
    assert done.code == 0
    assert "subject: a fox" in done.out
    assert "in the style of noto" in done.out


@pytest.mark.parametrize("verb", ["styles", "models"])
def test_what_there_is_is_listed_with_ones_own(project: Project, verb):
    project.write("conf/style/mine.yaml", "pattern: '{prompt}, mine'\ndescription: my own")
    out = project.run(verb).out
    expected = {
        "styles": ["mine", "my own  (yours)", "art/ukiyo_e", "cctv", "action=robbing"],
        "models": ["paint  (yours)", "Paints colored tiles.", "tiny", "min_dalle_mega"],
    }[verb]
    for text in expected:
        assert text in out


def test_styles_can_be_searched(project: Project):
    out = project.run("styles", "woodcut").out
    assert "art/durer" in out
    assert "art/monet" not in out


def test_one_model_says_what_it_accepts(project: Project):
    out = project.run("models", "paint").out
    assert "32×32 px" in out
    assert "top_k" in out
    assert "a whole number from 1 to 1000, default 64" in out
    assert "tiny" in project.run("models", "tinny").err


def test_doctor_says_what_is_here(project: Project):
    done = project.run("doctor")
    for text in ("torch", "processor", "GB free", "mlflow.db", "model paint"):
        assert text in done.out
    assert "!! " not in done.out
    assert done.code == 0


def test_doctor_says_what_each_model_lacks(project: Project, monkeypatch):
    for package in ("diffusers", "peft", "spandrel"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("REPLICATE_API_TOKEN", "secret")
    out = project.run("doctor").out.splitlines()
    lines = dict(line.split(None, 3)[2:] for line in out if " model " in line)
    assert lines["diffusers"] == "needs diffusers, peft: pip install 'promptlab[diffusers]'"
    assert lines["sdxl"] == lines["diffusers"]
    assert lines["upscaler"] == "needs spandrel: pip install 'promptlab[upscale]'"
    assert lines["gpt_image_2"].startswith("needs the environment variable OPENAI_API_KEY")
    assert lines["replicate_flux_dev"] == "asks api.replicate.com"
    assert lines["comfyui"].startswith("model.workflow is not set")
    assert lines["min_dalle_mega"].startswith("not downloaded")
    assert lines["tiny"].startswith("weights ")
    assert "secret" not in str(lines)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("./mlruns", "mlruns"),
        ("http://127.0.0.1:9", "Connection refused"),
    ],
)
def test_doctor_refuses_a_store_that_a_sweep_could_not_open(project, monkeypatch, uri, reason):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    process = project.start("doctor")
    output, _ = process.communicate()
    (line,) = [line for line in output.splitlines() if " MLflow " in line]
    assert line.startswith("!! ")
    assert reason in line
    assert process.returncode == 1


def test_doctor_goes_on_past_a_check_that_breaks(project: Project, monkeypatch):
    from promptlab.commands import doctor

    monkeypatch.setattr(doctor, "find_devices", lambda: 1 / 0)
    done = project.run("doctor")
    assert done.code == 1
    assert "ZeroDivisionError" in done.out
    assert "mlflow.db" in done.out


VERB_LIST = tuple(VERBS)


@pytest.mark.parametrize(
    ("line", "suggestions"),
    [
        ("promptlab ", list(VERBS)),
        ("promptlab sw", ["sweep"]),
        ("promptlab sweep", ["sweep"]),
        ("promptlab show ", []),
        ("promptlab sweep --re", ["--resume", "--retry-failed"]),
        ("promptlab sweep style=art/ukiyo", ["style=art/ukiyo_e"]),
        ("promptlab sweep -m style=noto,openm", ["style=noto,openmoji"]),
        ("promptlab sweep +sweeps=sup", ["+sweeps=supercondition"]),
        ("promptlab sweep model=min_dalle_me", ["model=min_dalle_mega"]),
        ("promptlab sweep temp", None),
    ],
)
def test_a_shell_is_told_what_may_come_next(project: Project, line, suggestions):
    assert suggest(line, VERB_LIST) == suggestions


def test_config_keys_are_completed_by_hydra(project: Project, monkeypatch):
    monkeypatch.setenv("COMP_LINE", "promptlab sweep --plan superc")
    assert line_for_hydra("promptlab sweep --plan superc") == "promptlab superc"
    project.capsys.readouterr()
    main(["-sc", "query=bash"])
    assert project.capsys.readouterr().out.split() == ["supercondition_factor="]


def test_the_completion_script_is_for_promptlab(project: Project):
    for arguments in (["-sc", "install=bash"], ["sweep", "-sc", "install=bash"]):
        project.capsys.readouterr()
        main(arguments)
        assert project.capsys.readouterr().out.strip().endswith(" promptlab")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (PromptlabError("what to do"), 1, "promptlab: what to do\n"),
        (PermissionError(13, "Permission denied", "runs/x"), 1, "Permission denied: runs/x"),
        (OSError(28, "No space left on device"), 1, "No space left on device"),
        (KeyboardInterrupt(), 130, "Interrupted"),
    ],
)
def test_errors_become_one_message_and_an_exit_code(capsys, monkeypatch, error, code, message):
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def fail(arguments):
        raise error

    monkeypatch.setattr(cli, "_run", fail)
    assert main([]) == code
    assert message in capsys.readouterr().err


def test_a_defect_is_shown_as_one(monkeypatch):
    def fail(arguments):
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "_run", fail)
    with pytest.raises(ZeroDivisionError):
        main([])


def test_the_console_script_and_the_module_are_the_same_program(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["promptlab", "--version"])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert capsys.readouterr().out.startswith("promptlab ")


def test_an_object_store_that_is_away_is_one_message(monkeypatch, capsys):
    from promptlab.cli import main

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    assert main(["verify", "s3://nowhere/runs/one"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("promptlab: The object store cannot be used: Could not connect")
    assert "Traceback" not in said


@pytest.mark.parametrize("arguments", [["sweep", "subject=caf\udce9"], ["show", "\udcff"]])
def test_an_argument_that_is_not_utf_8_is_refused_with_what_to_do(arguments, capsys):
    from promptlab.cli import main

    assert main(arguments) == 1
    err = capsys.readouterr().err
    assert "is not UTF-8 at position" in err
    assert "LANG" in err


def test_promptlab_alone_shows_its_help(capsys):
    assert main([]) == 0
    out = capsys.readouterr().out
    assert all(verb in out for verb in VERBS)


def test_descriptions_keep_their_capitals(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["ui", "--help"])
    assert "MLflow" in capsys.readouterr().out


def test_a_search_without_a_hit_says_so(project: Project):
    done = project.run("styles", "zzz")
    assert done.code == 1
    assert done.out == "No style or template holds 'zzz'. Leave the text out to see all.\n"
    assert "Did you mean art/ukiyo_e?" in project.run("styles", "ukiyoe").out


def test_wildcards_are_listed_with_their_first_values(project: Project):
    project.write("wildcards/pets/tame.yaml", "cats: [tom, kit]\n")
    project.write("wildcards/broken.yaml", "hello")
    done = project.run("styles", "--wildcards")
    assert done.code == 0
    assert "__animal__" in done.out
    assert "__pets/tame/cats__              2  tom, kit" in done.out
    assert "No wildcard holds 'zzz'" in project.run("styles", "--wildcards", "zzz").out


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_terminal_that_is_not_utf8_gets_readable_text(project: Project, encoding: str):
    project.write("conf/style/measured.yaml", 'pattern: "{prompt}, 狐"\ndescription: "a → b…"')
    for arguments in (["styles"], ["models", "paint"], ["sweep", "subject=狐", "a=1"]):
        done = subprocess.run(
            [sys.executable, "-m", "promptlab", *arguments],
            env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=False,
        )
        assert b"Traceback" not in done.stderr
        assert done.returncode == (arguments[0] == "sweep")
        if arguments == ["styles"]:
            assert b"\\u72d0" in done.stdout
            assert b"a -> b" in done.stdout
