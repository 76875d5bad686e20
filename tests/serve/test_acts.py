"""Acts on images: lines that draw what was asked for, and nothing that is drawn already."""

import json

import pytest

from promptlab.report.served import ServedSheet
from promptlab.serve.acts import in_all_styles, line_of_images, more_seeds, other_params
from promptlab.serve.checks import WishRefusedError
from tests.conftest import PAINT, Project

OVERPAINT = PAINT.replace("PaintModel", "OverpaintModel").format(name="paint")


@pytest.fixture
def drawn(project: Project) -> Project:
    """A project with a run of four images, on a model that can paint over images."""
    project.write("conf/model/paint.yaml", OVERPAINT)
    arguments = ("subject=a fox,'a robot, red'", "style=noto", "temperature=0.5", "seeds=2")
    assert project.run("sweep", "-m", *arguments).code == 0
    return project


def act(project, argv):
    done = project.run("sweep", *argv)
    assert done.code == 0, done.err
    return project.rows()


def sheet_of(project):
    sheet = ServedSheet(str(project.runs[0]))
    return sheet, [sheet.row(row["image_id"]) for row in project.rows(project.runs[0])]


def test_more_seeds_are_new_candidates_of_the_same_cell(drawn):
    sheet, rows = sheet_of(drawn)
    row = rows[2]
    assert row["subject"] == "a robot, red"
    found = act(drawn, more_seeds(sheet, row, 3))
    assert [each["seed"] for each in found] == [2, 3, 4]
    for name in ("subject", "style", "template", "prompt", "model", "params", "cell_id"):
        assert {each[name] for each in found} == {row[name]}, name
    assert drawn.runs[-1].name.endswith("_more")
    assert "seeds=7-8" in more_seeds(sheet, rows[0], 2, asked=[4, 5, 6]), "asked for before"


def test_an_image_in_all_styles_or_with_other_parameters_keeps_all_else(drawn):
    sheet, rows = sheet_of(drawn)
    found = act(drawn, in_all_styles(sheet, rows[1]))
    assert len({each["style"] for each in found}) == len(found) > 3
    assert {each["seed"] for each in found} == {1}
    assert {each["subject"] for each in found} == {"a fox"}
    assert rows[1]["image_id"] in {each["image_id"] for each in found}, "its own is found there"
    found = act(drawn, other_params(sheet, rows[0], {"top_k": [1, 3]}))
    assert [json.loads(each["params"])["top_k"] for each in found] == [1, 3]
    assert {json.loads(each["params"])["temperature"] for each in found} == {0.5}
    assert {each["seed"] for each in found} == {0}


def test_variations_name_their_parents_and_only_parameters_of_the_image_may_change(drawn):
    sheet, rows = sheet_of(drawn)
    ids = [rows[0]["image_id"], rows[2]["image_id"]]
    found = act(drawn, line_of_images("vary", ",".join(ids), "a-fox", 2))
    assert {each["source_id"] for each in found} == set(ids)
    assert len(found) == 4
    for params in (
        None,
        {},
        {"runs_dir": "/tmp"},
        {"model._target_": "os.system"},
        {"hydra.run.dir": "/tmp"},
        {"temperature": {"a": 1}},
        {"temperature": list(range(21))},
        {"temperature": []},
    ):
        with pytest.raises(WishRefusedError, match="params"):
            other_params(sheet, rows[0], params)
    for value in ("1 runs_dir=/tmp/${oc.env:HOME}", "../secret.safetensors", "@/etc/hostname.txt"):
        with pytest.raises(WishRefusedError, match="refused"):
            other_params(sheet, rows[0], {"temperature": value})
    argv = other_params(sheet, rows[0], {"temperature": "1 runs_dir=x"})
    assert drawn.run("sweep", *argv, "--plan").code != 0, "a value is no other argument"
