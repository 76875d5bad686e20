"""Ids outlive versions: what a run on disk is called today is what it was called when drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from promptlab.configs.settings import Job, Settings
from promptlab.models.protocol import Parameter
from promptlab.planning.expand import expand, narrow
from promptlab.planning.parents import Parent
from promptlab.planning.plan import Plan, PlannedModel
from promptlab.planning.requests import make_request
from promptlab.records import Numerics, Scalar, Source
from tests.painters import PARAMETERS, OverpaintModel, PaintModel

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


@dataclass
class ChoosingModel(OverpaintModel):
    """Chooses its steps itself where none are asked for."""

    chosen: int = 10

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """Steps beside those of the family."""
        return {**PARAMETERS, "steps": Parameter(int, None)}

    def settle(self, params: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
        """Fill in the steps."""
        return {**params, "steps": params["steps"] or self.chosen}


def ids_of(
    *,
    config: Mapping[str, Any] | None = None,
    names: Mapping[str, str] | None = None,
    model: Mapping[str, Any] | None = None,
    padded_batch: int | None = None,
    sweep: str = "golden",
    source: Source | None = None,
    number: int = 0,
) -> dict[str, str]:
    """Return all ids of one image of a plan of two cells."""
    values: dict[str, Any] = {
        "model": {"_target_": "paint"},
        "template": {"pattern": "{subject}"},
        "style": STYLE,
        "subject": "a {colour: red|blue} fox",
        "ink": "ink",
        **({} if source is None else {"parent": source.image_id}),
        **(config or {}),
    }
    choices = {"model": "mine", "template": "plain", "style": "inky", **(names or {})}
    row = dict.fromkeys(("arm_id", "cell_id", "subject", "style", "template", "prompt"), "x")
    plan = expand(
        [Job(0, (), {}, values, choices)],
        Settings(sweep),
        lambda node: ChoosingModel(**(model or {})),
        find_parent=lambda image_id: Parent(source, {**row, "seed": 0}, {}),
        describe=lambda node: Numerics("cpu", (model or {}).get("dtype", "float32"), padded_batch),
    )
    cell = plan.cells[number]
    request = plan.request(cell, cell.seeds[0])
    return {"image": request.image_id, "cell": cell.cell_id, "arm": cell.arm_id}


RED, BLUE = Source("0" * 16, "a" * 64), Source("0" * 16, "b" * 64)
BARE = {"subject": None, "style": {"pattern": "{prompt}"}, "ink": None}
ALL, NONE = "image cell arm", ""


@pytest.mark.parametrize(
    ("counting", "one", "other"),
    [
        (ALL, {}, {"model": {"fingerprint": "f" * 16}}),
        (ALL, {}, {"model": {"name": "paint2"}}),
        (ALL, {}, {"model": {"dtype": "bfloat16"}}),
        (ALL, {}, {"padded_batch": 8}),
        (ALL, {}, {"config": {"temperature": 0.5}}),
        (ALL, {}, {"config": {"ink": "oil"}}),
        ("image cell", {}, {"config": {"subject": "a cat"}}),
        ("image cell", {}, {"number": 1}),  # a blue fox
        ("image cell", {"source": RED}, {"source": BLUE}),
        ("image cell", {"source": RED, "config": BARE}, {"source": BLUE, "config": BARE}),
        ("image cell", {}, {"source": RED}),
        ("cell arm", {}, {"names": {"style": "of_ink"}}),  # the same prompt
        ("cell arm", {}, {"names": {"template": "bare"}}),
        ("image", {}, {"config": {"seeds": [7]}}),
        ("image", {}, {"model": {"chosen": 20}}),
        (NONE, {}, {"model": {"device": "cuda"}}),
        (NONE, {}, {"names": {"model": "yours"}}),
        (NONE, {}, {"sweep": "another"}),
        (NONE, {"source": RED}, {"source": replace(RED, image_id="1" * 16)}),
    ],
)
def test_what_changes_changes_the_ids_that_count_it_and_no_others(counting, one, other):
    ids, others = ids_of(**one), ids_of(**other)
    assert [name for name in ids if ids[name] != others[name]] == counting.split()


OTHERS = {"name": "other", "seeds": 3, "subject": "a {red|green} fox", "ink": "oil", "top_k": 3}


@pytest.mark.parametrize("key", OTHERS)
def test_another_sweep_has_another_id(key):
    assert make_plan(**{key: OTHERS[key]}).sweep_id != make_plan().sweep_id


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
