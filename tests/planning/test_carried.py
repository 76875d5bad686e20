"""A table's further columns stand beside the prompts that they come with."""

from __future__ import annotations

from pathlib import Path

import pytest

from promptlab.configs.settings import Job, Settings
from promptlab.errors import ConfigError
from promptlab.planning.carried import carried_columns
from promptlab.planning.expand import expand
from tests.painters import PaintModel
from tests.planning.test_plan import SteppedModel, make_job, make_plan

TABLES = {
    "subjects.csv": "Prompt,Category\na fox,animal\na car,thing\n",
    "places.csv": "Place,Category,Mood\na wood,nature,calm\na fox,den,cosy\n",
    "more.csv": "Prompt,Category\nan owl,bird\n",
}


@pytest.fixture(autouse=True)
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in TABLES.items():
        (tmp_path / name).write_text(text)


def carried(wanted: object, *configs: dict[str, object], taken: tuple[str, ...] = ()):
    jobs = [Job(n, (), {}, {"with": wanted, **config}, {}) for n, config in enumerate(configs)]
    return carried_columns(jobs, taken)


def test_columns_of_the_subject_alone_are_parts_of_the_subject():
    found = carried(["Category"], {"subject": "@subjects.csv:Prompt"})
    assert found.names == found.of_subject == ("Category",)
    assert found.beside({"subject": "a fox"}) == {"Category": "animal"}
    assert found.beside({"subject": "a dog"}) == found.beside({}) == {}


def test_columns_that_other_slots_bring_as_well_are_axes_like_others():
    found = carried("Category", {"subject": "@subjects.csv:Prompt", "place": "@places.csv:Place"})
    assert (found.names, found.of_subject) == (("Category",), ())
    assert found.beside({"place": "a wood"}) == {"Category": "nature"}
    assert found.beside({"subject": "a fox"}) == {"Category": "animal"}, "each slot its own table"
    found = carried("Mood", {"subject": "a fox", "place": "@places.csv:Place"})
    assert found.of_subject == ()


def test_tables_of_several_jobs_are_one():
    found = carried(
        ["Category"], {"subject": "@subjects.csv:Prompt"}, {"subject": "@more.csv:Prompt"}
    )
    assert [found.beside({"subject": s}) for s in ("a car", "an owl")] == [
        {"Category": "thing"},
        {"Category": "bird"},
    ]
    assert found.of_subject == ("Category",)


def test_a_name_that_is_a_column_already_is_refused_whatever_its_case():
    with pytest.raises(ConfigError, match="it is a column already"):
        carried(["Category"], {"subject": "@subjects.csv:Prompt"}, taken=("category",))


def test_every_name_of_a_column_is_a_text():
    with pytest.raises(ConfigError, match="expected names of columns"):
        carried(["Category", 5], {"subject": "@subjects.csv:Prompt"})


def test_a_prompt_that_no_table_holds_has_empty_columns():
    jobs = [make_job(n, subject=s) for n, s in enumerate(("@subjects.csv:Prompt", "a dog"))]
    for job in jobs:
        job.config["with"] = ["Category"]
    cells = make_plan(PaintModel(), *jobs).cells
    assert [cell.axes for cell in cells] == [{"Category": c} for c in ("animal", "thing", None)]


def test_only_columns_of_the_subject_are_parts_of_it_in_a_plan():
    for values, parts in (
        ({"subject": "@subjects.csv:Prompt", "place": "a wood"}, ("Category",)),
        ({"subject": "a fox", "place": "@places.csv:Place"}, ()),
    ):
        job = make_job(**values)
        template = {"pattern": "{subject} in {place}"}
        job.config.update({"with": ["Category"], "template": template})
        assert make_plan(PaintModel(), job).subject_axes == parts


@pytest.mark.parametrize("name", ["light", "steps", "Subject"])
def test_a_column_cannot_be_called_like_an_axis_or_a_parameter_of_any_model(tmp_path, name):
    (tmp_path / "t.csv").write_text(f"Prompt,{name}\na fox,x\n")
    models = [{"_target_": "paint"}, {"_target_": "stepped"}]
    jobs = [make_job(n, subject="@t.csv:Prompt", light=s) for n, s in enumerate(("fog", "sun"))]
    for job, model in zip(jobs, models, strict=True):
        template = {"pattern": "{subject} in {light}"}
        job.config.update({"with": [name], "model": model, "template": template})
    with pytest.raises(ConfigError, match="it is a column already"):
        expand(
            jobs,
            Settings("t"),
            lambda node: SteppedModel() if node == models[1] else PaintModel(),
        )
