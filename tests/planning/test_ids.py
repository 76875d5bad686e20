"""Ids outlive versions: what a run on disk is called today is what it was called when drawn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from promptlab.configs.settings import Job, Settings
from promptlab.planning.expand import expand, narrow
from promptlab.planning.plan import Plan, PlannedModel
from promptlab.planning.requests import make_request
from promptlab.records import Source
from tests.painters import PaintModel

STYLE = {"pattern": "{prompt} in the style of {ink}"}


def make_jobs(**values: Any) -> list[Job]:
    """Return two jobs as Hydra would compose them, with two subjects in each prompt."""
    config = {
        "model": {"_target_": "paint"},
        "template": {"pattern": "{subject}"},
        "style": STYLE,
        "subject": "a {red|blue} fox",
        "ink": "ink",
        "seeds": 2,
        **values,
    }
    choices = {"model": "mine", "template": "plain", "style": "inky"}
    swept = [{"temperature": 0.5}, {"temperature": 1}]
    return [Job(n, (), v, {**config, **v}, choices) for n, v in enumerate(swept)]


def make_plan(name: str = "golden", model: PaintModel | None = None, **values: Any) -> Plan:
    return expand(make_jobs(**values), Settings(name), lambda node: model or PaintModel())


def test_the_ids_of_a_fixed_plan_are_these():
    plan = make_plan()
    assert plan.sweep_id == "84a66fb83a046636"
    assert [(cell.cell_id, cell.arm_id) for cell in plan.cells] == [
        ("3769735072a28dee", "be5ae9050fddd057"),
        ("f1f23ab32422f928", "be5ae9050fddd057"),
        ("33b8817a5e317296", "d1919454bfa09723"),
        ("66635dc2c6a54145", "d1919454bfa09723"),
    ]
    assert [plan.request(c, seed).image_id for c in plan.cells for seed in c.seeds] == [
        *("7d2b57d99cee7f46", "58cd9952016b6713", "a3bc87218fd2b60c", "dddd8e5e65282ad4"),
        *("445778419d976c26", "ad9937722d3a4915", "97c7c10c0a3c5b31", "fff441ac5e5e6c35"),
    ]


OTHERS = {"name": "other", "seeds": 3, "subject": "a {red|green} fox", "ink": "oil", "top_k": 3}


@pytest.mark.parametrize("key", OTHERS)
def test_another_sweep_has_another_id(key):
    assert make_plan(**{key: OTHERS[key]}).sweep_id != make_plan().sweep_id


@pytest.mark.parametrize("change", [{"fingerprint": "f" * 16}, {"dtype": "bfloat16"}], ids=str)
def test_other_weights_or_another_number_format_are_other_arms_and_cells(change):
    plan, other = make_plan(), make_plan(model=replace(PaintModel(), **change))
    for name in ("cell_id", "arm_id"):
        assert {getattr(c, name) for c in plan.cells}.isdisjoint(
            getattr(c, name) for c in other.cells
        )


def test_the_same_cells_with_other_parents_are_another_sweep():
    plan, jobs = make_plan(), make_jobs()
    ids = set()
    for parents in ((), ("0" * 16,), ("1" * 16,)):
        cells = tuple(replace(cell, parent_ids=parents) for cell in plan.cells)
        ids.add(narrow(plan, jobs, cells).sweep_id)
    assert len(ids) == 3


def test_the_pixels_of_a_parent_count_in_the_id_and_what_the_parent_is_called_does_not():
    planned = PlannedModel.of(PaintModel())

    def id_of(source: Source | None) -> str:
        request = make_request(planned.model, planned.numerics, "a fox", 0, {}, source)
        return request.image_id

    parent = Source("0" * 16, "a" * 64, b"")
    assert id_of(replace(parent, image_id="1" * 16)) == id_of(parent)
    assert len({id_of(None), id_of(parent), id_of(replace(parent, sha256="b" * 64))}) == 3
