"""What a person writes reaches the model as it was written, by whichever way it comes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from promptlab.configs.vocabulary import list_options
from promptlab.configs.written import load_texts
from tests.conftest import Project

TEXTS = ["16:9", "010", "1.50", "1e3", "TRUE", "nan", "1_000", "-0", "inf"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_prompt_is_the_text_that_was_typed(project: Project, text: str):
    for key in ("subject", "action"):
        other = "action" if key == "subject" else "subject"
        arguments = [f"{key}={text}", f"{other}=x", "template.pattern={subject} {action}"]
        done = project.run("sweep", *arguments, "--plan")
        assert done.code == 0, done.err
        expected = f"{text} x" if key == "subject" else f"x {text}"
        assert f"  {expected}\n" in f"{done.out}\n"


def test_texts_of_a_named_sweep_and_of_its_axes_are_those_that_were_written(project: Project):
    items = "\n".join(f"      subject: {text}" for text in ["x"])
    project.write(
        "sweeps/mine.yaml",
        "# @package _global_\naction: 1.50\ntemplate: {pattern: '{subject} {action}'}\n"
        f"hydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n{items}\n",
    )
    for text in ("010", "1.50", "16:9", "TRUE", "'1.50,010'"):
        file = project.path / "sweeps" / "mine.yaml"
        written = re.sub(r"subject: .*", f"subject: {text}", file.read_text())
        file.write_text(written)
        done = project.run("sweep", "+sweeps=mine", "--plan")
        assert done.code == 0, done.err
        for part in text.strip("'").split(","):
            assert f"  {part} 1.50\n" in f"{done.out}\n"


def test_texts_of_ones_own_templates_and_subjects_are_kept_and_numbers_stay_numbers(
    project: Project,
):
    project.write(
        "conf/template/mine.yaml",
        "# @package _global_\ntemplate: {pattern: '{subject} {n}'}\nn: 010\n",
    )
    project.write(
        "sweeps/mine.yaml",
        "# @package _global_\nsubject: 1.50\ntemperature: 0.50\ntop_k: 1_000\nlimit: 20_000\n",
    )
    done = project.run("sweep", "+sweeps=mine", "template=mine")
    assert done.code == 0, done.err
    (row,) = project.rows()
    assert (row["prompt"], row["subject"]) == ("1.50 010", "1.50")
    assert '"temperature":0.5' in row["params"]
    assert '"top_k":1000' in row["params"]


def test_references_missing_values_and_merged_keys_of_ones_own_configs_stay(project: Project):
    project.write(
        "sweeps/mine.yaml",
        "# @package _global_\nsubject: ???\naction: ${subject} again\n5: x\n"
        "template: {pattern: '{subject} {action}'}\nbase: &base {subject: 010}\n"
        "hydra: {mode: MULTIRUN, sweeper: {params: {<<: *base, style: noto}}}\n",
    )
    done = project.run("sweep", "+sweeps=mine", "~base", "~5", "--plan")
    assert "Traceback" not in done.err
    project.write(
        "sweeps/mine.yaml",
        "# @package _global_\nsubject: ???\naction: ${subject} again\n"
        "template: {pattern: '{subject} {action}'}\n",
    )
    done = project.run("sweep", "+sweeps=mine", "subject=a fox", "--plan")
    assert "  a fox a fox again\n" in f"{done.out}\n", done.err


def test_rules_of_a_named_sweep_name_texts_as_they_are_written(project: Project):
    project.write("wildcards/ratio.yaml", "- 16:9\n- 010\n- 4:3\n")
    project.write(
        "sweeps/mine.yaml",
        "# @package _global_\nsubject: __ratio__\nexclude:\n  - ratio: [16:9, 010]\n",
    )
    assert project.run("sweep", "+sweeps=mine").code == 0
    assert [row["subject"] for row in project.rows()] == ["4:3"]
    project.write(
        "sweeps/those.yaml",
        "# @package _global_\nsubject: __ratio__\nonly:\n  - ratio: 16:9\n  - ratio: 010\n",
    )
    assert project.run("sweep", "+sweeps=those").code == 0
    assert {row["subject"] for row in project.rows()} == {"16:9", "010"}


def test_a_key_twice_in_a_texts_file_is_an_error():
    with pytest.raises(yaml.YAMLError, match="'a' appears twice"):
        load_texts("a: [x]\na: [y]\n")
    assert load_texts("- 16:9\n- ~\n- null\n-\n- '~x'\n") == ["16:9", None, "null", None, "~x"]


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_number_that_is_none_is_one_message(project: Project, value: str):
    for key in ("temperature", "limit", "seeds", "store.flush_s", "model.size", "style", "name"):
        done = project.run("sweep", "subject=x", f"{key}={value}", "--plan")
        assert "Traceback" not in done.err
        assert done.code == (0 if key == "name" else 1), (key, done.out, done.err)


NAMES = ["Küche", "測試", "été d'or", "a, b", "100 %", "x=y", "(soft)"]


@pytest.mark.parametrize("name", NAMES)
def test_names_and_folders_may_have_any_character(project: Project, name: str):
    project.write(f"conf/style/{name}.yaml", "pattern: '{prompt}, cooked'")
    quoted = f'"{name}"' if "," in name else name
    arguments = ["subject=x", f"style={quoted}", f"name={quoted}", f"runs_dir={quoted}"]
    done = project.run("sweep", *arguments)
    assert done.code == 0, done.err
    (run,) = Path(name).iterdir()
    (row,) = project.rows(run)
    assert (row["prompt"], row["style"], row["sweep"]) == ("x, cooked", name, name)
    assert "nothing to do" in project.run("sweep", *arguments).out
    globbed = project.run("sweep", "-m", "subject=x", "style=glob(*)", "--plan")
    assert globbed.code == 0, globbed.err
    num_flat = sum("/" not in style and style != "none" for style in list_options("style"))
    assert re.search(rf"style +{num_flat} ", globbed.out)


def test_hidden_files_are_no_options_and_a_broken_one_that_nobody_chose_does_no_harm(
    project: Project,
):
    for name in ("conf/template/._m.yaml", "conf/style/._m.yaml", "conf/model/__MACOSX/x.yaml"):
        project.write(name, "")
        (project.path / name).write_bytes(b"\xff")
    (project.path / "sweeps").mkdir()
    (project.path / "sweeps" / "._s.yaml").write_bytes(b"\xff")
    (project.path / "conf" / "template" / "broken.yaml").write_bytes(b"pattern: \xff")
    done = project.run("sweep", "-m", "subject=x", "style=glob(*)", "--plan")
    assert done.code == 0, done.err
    for verb in ("styles", "models"):
        listed = project.run(verb)
        assert listed.code == 0, listed.err
        assert "._m" not in listed.out
        assert "MACOSX" not in listed.out
    assert "broken.yaml" in project.run("styles").err
    chosen = project.run("sweep", "subject=x", "template=broken")
    assert chosen.code == 1
    assert "broken" in chosen.err
    assert "Traceback" not in chosen.err


ADVICE = [
    (['subject=a sign, "open", red', "style=noto", "seeds=2"], 'a sign, "open", red'),
    (["style=noto", "subject=a fox, red"], "a fox, red"),
    (['subject=it\'s red, and "blue"', "seeds=3"], 'it\'s red, and "blue"'),
    (["subject={a|b}, c", "style=noto"], None),
]


@pytest.mark.parametrize(("arguments", "subject"), ADVICE)
def test_what_is_advised_is_the_users_own_command_and_does_what_it_says(
    project: Project, arguments: list[str], subject: str | None
):
    refused = project.run("sweep", *arguments)
    assert refused.code == 1
    commands = re.findall(r"promptlab sweep .*?(?=; for one text|$)", refused.err.strip())
    assert len(commands) == 2
    several, one = (shlex.split(command)[2:] for command in commands)
    others = [a for a in arguments if not a.startswith("subject=")]
    assert [a for a in one if a in others] == others
    assert [a for a in several if a in others] == others
    done = project.run("sweep", *one[2:])
    assert done.code == 0, done.err
    if subject is not None:
        assert {row["subject"] for row in project.rows()} == {subject}
    assert project.run("sweep", *several[:1], *several[3:]).code == 0
    assert len({row["subject"] for row in project.rows()}) >= 2


@pytest.mark.parametrize(
    "words", [["subject=a fox, red"], ["--seeds=3", "subject=x"], ["a", "fox"]]
)
def test_who_asked_for_a_plan_is_advised_a_plan(project: Project, words: list[str]):
    refused = project.run("sweep", *words, "--plan")
    assert refused.code == 1
    commands = re.findall(r"promptlab sweep .*?(?=; for one text|$)", refused.err.strip())
    assert commands
    assert all("--plan" in shlex.split(command) for command in commands)
