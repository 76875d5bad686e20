"""A cell's words are offered again only where they still make its prompt, and no other one."""

from __future__ import annotations

from pathlib import Path

import pytest

from promptlab.planning.own_words import own_words

ROW = {
    "template": "seen",
    "style": "lit",
    "subject": "a {tame} fox",
    "prompt": "a {tame} fox in rain, red light",
}
AXES = {"weather": "rain", "tint": "red", "temperature": 0.5, "action": None}
TEMPLATE = "pattern: '{subject} in {weather}'\nweather: fog\n"
STYLE = "pattern: '{prompt}, {tint} light'\ntint: blue\n"


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for group, name, text in (("template", "seen", TEMPLATE), ("style", "lit", STYLE)):
        path = tmp_path / "conf" / group / f"{name}.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return tmp_path / "conf"


def test_template_style_subject_and_the_slots_that_vary_are_the_words(conf: Path):
    assert own_words(ROW, AXES) == {
        "template": "seen",
        "style": "lit",
        "subject": "a \\{tame\\} fox",
        "tint": "red",
        "weather": "rain",
    }


def test_what_the_files_fill_needs_no_words(conf: Path):
    row = {**ROW, "prompt": "a {tame} fox in fog, blue light"}
    assert own_words(row, {}) == {
        "template": "seen",
        "style": "lit",
        "subject": "a \\{tame\\} fox",
    }


def test_the_text_of_a_slot_is_no_pattern_and_a_cell_may_lack_a_slots_axis(conf: Path):
    row = {**ROW, "prompt": "a {tame} fox in {rain|sun}, blue light"}
    assert own_words(row, {"weather": "{rain|sun}", "tint": None}) == {
        "template": "seen",
        "style": "lit",
        "subject": "a \\{tame\\} fox",
        "weather": "\\{rain|sun\\}",
    }


def test_a_file_may_hold_its_option_in_the_group_and_its_slots_beside_it(conf: Path):
    (conf / "template" / "seen.yaml").write_text(
        "# @package _global_\ntemplate:\n  pattern: '{subject} in {weather}'\nweather: fog\n"
    )
    row = {**ROW, "prompt": "a {tame} fox in fog, blue light"}
    assert own_words(row, {}) == own_words(row, {"temperature": 1})
    assert own_words(row, {}) is not None


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("template/seen.yaml", "pattern: 'a photo of {subject} in {weather}'"),
        ("style/lit.yaml", "pattern: '{prompt}, {red|blue} light'"),  # makes two prompts
        ("style/lit.yaml", "pattern: '{prompt}, {tint: red|blue} light'"),
        ("style/lit.yaml", "pattern: '{prompt}, {tint} light and {shade}'"),
        ("style/lit.yaml", "pattern: '{prompt}, {tint light'"),
        ("style/lit.yaml", None),
    ],
)
def test_words_that_make_another_prompt_or_more_than_one_are_none(conf: Path, file, text):
    if text is None:
        (conf / file).unlink()
    else:
        (conf / file).write_text(text)
    assert own_words(ROW, AXES) is None
