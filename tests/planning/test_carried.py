"""A table's further columns stand beside the prompts that they come with."""

from __future__ import annotations

from pathlib import Path

import pytest

from promptlab.configs.settings import Job
from promptlab.errors import ConfigError
from promptlab.planning.carried import carried_columns

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
